"""One trial in training: its trainer, its data, and what has been seen so far; `preparing` makes it.

Runs in any process: it knows neither Ray nor MLflow nor files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.data.canaries import Canaries
from engram.data.dataset import Dataset
from engram.models import family, streams
from engram.models.cohort import Cohort
from engram.models.plain import PlainCohort
from engram.models.training import Examples, Report, Trainer
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial.cohorts import make_cohort
from engram.sweeps.trial.record_writer import RecordWriter, shortened
from engram.sweeps.trial.watch import Watch


@dataclass
class Trial:
    """A trial in training: its trainer, its data, and what has been seen so far."""

    configuration: Configuration
    dataset: Dataset
    trainer: Any  # a Trainer, or a LearnerTrainer
    members: np.ndarray  # [R, m] pool indices
    pool_ids: np.ndarray  # examples the subsets are drawn from
    targets: np.ndarray  # the pool's targets as trained on
    wrong: np.ndarray  # bool [n], labels that noise changed
    measured_ids: np.ndarray  # examples that measures per example look at: the pool, or some of it
    watch: Watch | None = None  # what training passes through, where the study asks for it
    history: list[Report] = field(default_factory=list)
    canaries: Canaries | None = None  # what is planted in the text
    first: int = 0  # number of the first replica
    # What its replicas have been asked, where the answers are kept: measures then take those.
    answers: dict[str, Tensor] | None = None

    @property
    def unit(self) -> int:
        """Replicas that are not independent of each other: those of one draw, or of a pair of draws."""
        replicas = self.configuration.replicas
        return replicas.inits * (2 if replicas.draw == "complementary" else 1)

    def advance(self, pause_after_s: float = math.inf) -> Report | None:
        """Up to the next evaluation; None where that takes longer: call again to go on."""
        report = self.trainer.advance(pause_after_s)
        if report is not None:
            self.history.append(report)
            if self.watch is not None:
                self.watch.look(self.trainer)
        return report

    def told(self, name: str, ask: Callable[[], Tensor]) -> Tensor:
        """What the replicas answer [R, ...] to a question of this name: asked here, or where they were trained."""
        if self.answers is None:
            return ask()
        if name not in self.answers:
            self.answers[name] = ask()
        return self.answers[name]

    def outputs(self, name: str) -> Tensor:
        """Logits or values [R, N, C] (of tokens [R, N, T, C]) on "validation", on "test", or on the "measured" examples of the pool."""
        return self.told(name, lambda: self._outputs(name))

    def _outputs(self, name: str) -> Tensor:
        trainer = self.trainer
        if name != "measured":
            return trainer.predict(trainer.sets[name])
        index = torch.from_numpy(self.measured_ids)
        return trainer.predict(Examples(trainer.pool.inputs[index], trainer.pool.targets[index]))

    def targets_of(self, name: str) -> np.ndarray:
        """Labels [N] (of tokens [N, T]) or values [N, K] of validation or test, as they were trained on."""
        if name == "test":
            return self.dataset.test_targets
        return self.trainer.sets[name].targets.cpu().numpy()

    def clusters_of(self, name: str) -> np.ndarray | None:
        """Which examples of validation or test hang together [N]; None where none do, or nobody knows."""
        division, groups = self.dataset.division, self.dataset.test_groups
        if name == "test" or division is None or division.groups is None:
            return groups
        held = np.setdiff1d(np.arange(len(self.targets)), self.pool_ids)
        return division.groups[held]

    def curve(self, name: str, kind: str) -> np.ndarray | None:
        """[R, E], "error" or "loss" of a set at every evaluation; None where it is not known."""
        return np.stack([getattr(r, kind)[name].numpy() for r in self.history], axis=1)

    def curves(self) -> dict[str, np.ndarray]:
        """Learning curves [E, R] of each set, and the epochs [E] at which they were taken."""
        arrays = {"epochs": np.array([r.epoch for r in self.history])}
        for name in self.history[-1].error:
            for kind in ("error", "loss"):
                found = self.curve(name, kind)
                if found is not None:
                    arrays[f"{name}_{kind}_curve"] = found.T.astype(np.float32)
        return arrays

    gives_probabilities = True  # where there are classes

    def passes(self) -> dict[str, Any]:
        """Epochs and steps trained, and whether one optimizer served all replicas."""
        last, way = self.history[-1], self.trainer.optimizer.way
        return {"epochs": last.epoch, "steps": last.step, "optimizer_way": way}

    def built_with(self) -> dict[str, Any]:
        """Every argument that the networks were built with."""
        dataset = self.dataset
        return family.built_with(self.configuration.model, dataset.shape, dataset.tokens)

    def warnings(self, wanted: MeasuresConfig) -> Iterator[str]:
        """What a reader must know of how it was trained."""
        for note in self.trainer.cohort.notes:
            yield f"network: {note}"

    def close(self) -> None:
        """Nothing: a cohort leaves nothing behind."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly, what has been seen included: tensors and plain numbers."""
        state = {"trainer": self.trainer.state_dict(), "history": stacked(self.history)}
        if self.watch is not None:
            state["watch"] = self.watch.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state made by `state_dict`; KeyError or RuntimeError where it does not fit."""
        self.trainer.load_state_dict(state["trainer"])
        self.history = _unstacked(state["history"])
        if self.watch is not None:
            self.watch.load_state_dict(state["watch"])

    def untrained(self, purpose: str = "init") -> Cohort | PlainCohort:
        """The replicas as they began, or for another purpose as they might have begun."""
        stop = self.first + self.trainer.cohort.replicas
        where = self.trainer.device, self.first, purpose, stop
        return make_cohort(self.configuration, self.dataset, *where)

    def train_on(self, pool: Examples, members: Tensor, purpose: str) -> Trainer:
        """Go on with the same networks on other examples, for as many epochs; returns the trainer."""
        config = self.configuration.training
        epochs = self.history[-1].epoch
        config = config.model_copy(
            update={
                "early_stopping": None,
                "steps": None,
                "epochs": epochs,
                "evaluate_every": epochs,
            }
        )
        keys = [streams.key(key, purpose) for key in self.trainer.keys]
        trainer = Trainer(
            self.trainer.cohort, pool, members, {}, config, keys, self.trainer.augment
        )
        while not trainer.finished:
            trainer.advance()
        return trainer


def stacked(history: list[Report]) -> dict[str, Any]:
    """Reports as tensors [evaluations, R], to be kept."""
    if not history:
        return {}
    each = {name: torch.tensor([getattr(r, name) for r in history]) for name in ("epoch", "step")}
    each["seconds"] = torch.tensor([r.seconds for r in history], dtype=torch.float64)
    flags = {n: torch.stack([getattr(r, n) for r in history]) for n in ("diverged", "stopped")}
    scores = {
        kind: {
            name: torch.stack([getattr(r, kind)[name] for r in history])
            for name in getattr(history[0], kind)
        }
        for kind in ("error", "loss")
    }
    return {**each, **flags, **scores}


def _unstacked(state: dict[str, Any]) -> list[Report]:
    return [
        Report(
            epoch=int(state["epoch"][i]),
            step=int(state["step"][i]),
            seconds=float(state["seconds"][i]),
            error={name: values[i] for name, values in state["error"].items()},
            loss={name: values[i] for name, values in state["loss"].items()},
            diverged=state["diverged"][i],
            stopped=state["stopped"][i],
        )
        for i in range(len(state["epoch"]) if state else 0)
    ]


def summary(report: Report) -> dict[str, float]:
    """Means over the replicas that did not diverge, of what each evaluation tells; NaN where all did."""
    return {
        name: shortened(np.mean(values)) if len(values) else math.nan
        for name, values in _per_replica(report).items()
    }


def intervals_of(report: Report) -> dict[str, dict[str, float | None]]:
    """The same with t intervals, as a record holds them: what is known of a trial that is stopped here."""
    found: dict[str, Any] = {"measures": {}, "replica_values": {}}
    note = RecordWriter(found, {})
    for name, values in _per_replica(report).items():
        note.values(name, values)
    return found["measures"]


def _per_replica(report: Report) -> dict[str, np.ndarray]:
    alive = ~report.diverged.numpy()
    values = {f"{name}_error": error.numpy()[alive] for name, error in report.error.items()}
    values |= {f"{name}_loss": loss.numpy()[alive] for name, loss in report.loss.items()}
    if "test_error" in values and "train_error" in values:
        values["generalization_gap"] = values["test_error"] - values["train_error"]
    values |= {name: found.numpy()[alive] for name, found in report.other.items()}
    # Of an estimator that gives classes alone, no loss is known.
    return {name: found for name, found in values.items() if not np.isnan(found).any()}
