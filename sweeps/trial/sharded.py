"""A trial whose replicas were trained apart: what each part tells, put together as if one had trained all.

Measures are taken of what the parts answer; their weights stay where they are. Knows nothing of Ray.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.data import canaries
from engram.data.dataset import Dataset
from engram.models.learners import kinds
from engram.models.training import Report
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import landscape, preparing, probes, resident, states, tokens
from engram.sweeps.trial.learned import LearnedTrial
from engram.sweeps.trial.trial import Trial


@dataclass(repr=False)
class Answers:
    """What replicas [first, stop) answer once they are trained: all that measures want of them.

    outputs: [r, ...] by the names of the questions (Trial.told); scores: in the end, where that is not the last report; watch: what
    training passed through; state: of a learner, which is all that it leaves; facts: of their networks."""

    first: int
    stop: int
    outputs: dict[str, Tensor]
    scores: Report | None
    watch: dict[str, Any] | None
    state: dict[str, Any] | None
    facts: dict[str, Any]
    seconds: float

    @classmethod
    def of(cls, trial: Any, wanted: MeasuresConfig, first: int, stop: int) -> Answers:
        """The replicas of a trial that is trained, asked all that the measures wanted ask."""
        trainer = trial.trainer
        if isinstance(trial, LearnedTrial):
            return cls(first, stop, {}, None, None, trial.state_dict(), {}, trainer.seconds)
        scores = None
        if trainer.early_stopping:
            scores = trainer.evaluate()
            if trial.watch is not None:
                trial.watch.look(trainer)  # at the weights that it ends in
        trial.answers = {}
        _ask(trial, wanted)
        cohort = trainer.cohort
        names = ("parameter_count", "way", "reason", "notes", "stack")
        facts = {name: getattr(cohort, name) for name in names}
        facts |= {"parameters": dict.fromkeys(cohort.parameters), "captured": trainer.captured}
        facts["optimizer_way"] = trainer.optimizer.way
        watch = None if trial.watch is None else trial.watch.state_dict()
        return cls(first, stop, trial.answers, scores, watch, None, facts, trainer.seconds)


def _ask(trial: Trial, wanted: MeasuresConfig) -> None:
    """Have the replicas of networks answer, while their weights are here."""
    every_step, classes = trial.dataset.every_step, trial.trainer.classification
    for name in trial.trainer.sets:
        tokens.by_token(trial, name) if every_step else trial.outputs(name)
    if wanted.memorization or wanted.membership:
        tokens.windows(trial) if every_step else trial.outputs("measured")
    if trial.canaries is not None:
        tokens.of_canaries(trial, trial.canaries)
    if wanted.flatness:
        landscape.of_weights(trial)
    if classes and wanted.layers:
        probes.layers_taken_back(trial)
    if classes and wanted.retention:
        probes.second_task(trial)


class Merged:
    """Reports of some replicas each, as reports of all of them. configuration: of the trial; learned: of a learner.

    history: what all have come to, in order."""

    def __init__(self, configuration: Configuration, learned: bool):
        self.replicas, self.learned = configuration.replicas.count, learned
        self.history: list[Report] = []
        self.total = 0  # steps of the whole training, once any part has told them
        self._parts: dict[int, list[tuple[int, int, Report]]] = {}

    def add(self, first: int, stop: int, report: Report) -> None:
        """What a part tells; told again, it is the same."""
        if self.learned:
            # Of the first replica on its way, which a scheduler may stop; the others' reports are curves alone.
            last = self.history[-1].epoch if self.history else 0
            if first == 0 and report.step == 0 and report.epoch > last:
                self.history.append(report)
            return
        if self.history and report.step <= self.history[-1].step:
            return
        parts = self._parts.setdefault(report.step, [])
        parts[:] = [p for p in parts if p[1] <= first or stop <= p[0]] + [(first, stop, report)]

    def next(self) -> Report | None:
        """The next report of all replicas, which then is in the history; None where some have not come to it."""
        if self.ended or not self._parts:
            return None
        step = min(self._parts)
        parts = sorted(self._parts[step], key=lambda part: part[0])
        if sum(stop - first for first, stop, _ in parts) < self.replicas:
            return None
        del self._parts[step]
        whole = put_together([report for _, _, report in parts])
        self.history.append(whole)
        return whole

    @property
    def ended(self) -> bool:
        """Whether training is over for the cohort: at its last step, or all have stopped or diverged."""
        if self.learned or not self.history:
            return False
        last = self.history[-1]
        return last.step >= self.total or bool(last.stopped.all()) or bool(last.diverged.all())


def put_together(reports: list[Report]) -> Report:
    """Reports of the same step, of replicas one after the other, as one."""
    one = reports[0]

    def column(kind: str) -> dict[str, Tensor]:
        return {n: torch.cat([getattr(r, kind)[n] for r in reports]) for n in getattr(one, kind)}

    return replace(
        one,
        seconds=max(r.seconds for r in reports),  # side by side
        error=column("error"),
        loss=column("loss"),
        other=column("other"),
        diverged=torch.cat([r.diverged for r in reports]),
        stopped=torch.cat([r.stopped for r in reports]),
    )


class _Trained:
    """What stands where a trial has a trainer: what the parts told of theirs."""

    def __init__(
        self,
        parts: list[Answers],
        history: list[Report],
        classification: bool,
        device: torch.device,
    ):
        facts, count = dict(parts[0].facts), parts[-1].stop
        way = facts.pop("optimizer_way")
        self.captured = facts.pop("captured")
        self.cohort = SimpleNamespace(replicas=count, device=device, **facts)
        self.cohort.stack = max(part.facts["stack"] for part in parts)
        self.optimizer = SimpleNamespace(way=way)
        self.classification, self.device = classification, device
        self.early_stopping = parts[0].scores is not None
        self.seconds, self.step = history[-1].seconds, history[-1].step
        self._scores = [part.scores for part in parts if part.scores is not None]

    def evaluate(self) -> Report:
        return put_together(self._scores)


@dataclass
class ShardedTrial(Trial):
    """A trial that is trained, of which only the answers are here. validation: targets."""

    validation: np.ndarray | None = None

    def targets_of(self, name: str) -> np.ndarray:
        assert self.validation is not None
        return self.dataset.test_targets if name == "test" else self.validation


def trial(
    configuration: Configuration,
    dataset: Dataset,
    wanted: MeasuresConfig,
    answers: list[Answers],
    history: list[Report],
    device: torch.device,
    seconds: float,
) -> Trial:
    """The whole trial, for measures to be taken. history: of the cohort; seconds: of training, by the clock."""
    parts = sorted(answers, key=lambda part: part.first)
    if kinds.of(configuration.model.family) is not None:
        made = preparing.prepare(configuration, dataset, device, wanted=wanted)
        made.load_state_dict(
            states.joined([part.state for part in parts if part.state is not None])
        )
        return made
    on = preparing.ground(configuration, dataset)
    trainer = _Trained(parts, history, dataset.classes is not None, device)
    trainer.seconds = max(seconds, trainer.seconds)
    watch = preparing.watch_of(wanted, dataset, on.ids, on.targets, on.wrong)
    if watch is not None:
        each = [part.watch or {} for part in parts]
        names = each[0]
        seen = {n: np.concatenate([_seen(w[n], len(history)) for w in each], axis=1) for n in names}
        watch.load_state_dict(seen)
    validation = resident.tensor(on.targets)[torch.from_numpy(on.validation_ids)].numpy()
    facts = (configuration, dataset, trainer, on.members, on.pool_ids, on.targets, on.wrong, on.ids)
    made = ShardedTrial(*facts, watch, history, validation=validation)
    made.answers = {
        name: torch.cat([part.outputs[name] for part in parts]) for name in parts[0].outputs
    }
    if configuration.data.canaries:
        planted = canaries.plant(dataset, configuration.data.canaries, configuration.replicas.seed)
        made.canaries = planted
    return made


def _seen(looks: np.ndarray, count: int) -> np.ndarray:
    """Of the evaluations [E, r, ...] of some replicas those of the cohort: the last at the weights that they end in."""
    return np.concatenate([looks[: count - 1], looks[-1:]])


def split(first: int, stop: int, workers: int) -> list[tuple[int, int]]:
    """Replicas [first, stop) among workers, as evenly as can be; the first ones have one more."""
    count = stop - first
    ends = [first + math.ceil(count * k / workers) for k in range(workers + 1)]
    return list(itertools.pairwise(ends))
