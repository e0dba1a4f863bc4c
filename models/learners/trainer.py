"""Train the replicas of a learner one after another, with the interface of a cohort's trainer.

Of a replica that is done, its predictions are kept and nothing else: all measures need predictions alone. Knows
nothing of studies or datasets by name.
"""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.models import named, several
from engram.models.config import SHAPE_KEYS, ModelConfig, TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError, Shape
from engram.models.learners import answers, kinds, scores
from engram.models.learners.replicas import SETS, Learned, Replica
from engram.models.learners.running import Run, Told
from engram.models.learners.task import Rows, Said, Task
from engram.models.training import Report

SEEDS = 2**31


@dataclass(frozen=True)
class Material:
    """What the replicas are trained and looked at on: arrays, and numbers of rows in them.

    inputs, targets, ids: [n, ...] the pool, as trained on; validation, measured: rows of it; test_inputs.
    shape: of an example, which knows what stands where in a row of several inputs.
    """

    inputs: Any
    targets: np.ndarray
    ids: np.ndarray
    validation: np.ndarray
    measured: np.ndarray
    test_inputs: Any
    test_targets: np.ndarray
    classes: int | None
    outputs: int
    image: bool
    shape: Shape

    def rows(self, index: np.ndarray) -> Rows:
        """Rows of the pool, copied."""
        return Rows(self.seen(self.inputs[index]), self.targets[index], self.ids[index])

    def seen(self, inputs: Any) -> Any:
        """Inputs as a learner has them, copied: an array, or several by their names."""
        return several.arrays(np.array(inputs), several.members_of(self.shape))


class LearnerTrainer:
    """Trains the replicas of one learner in turn. members: [R, m] rows of the pool; seeds: [R].

    step: replicas that are done. `advance` returns after each, and after each report of the first: that is what a
    scheduler prunes by, the others' reports being curves alone.
    """

    early_stopping = None
    captured = False
    # Each replica is to be kept as soon as it is done.
    commits = True

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        material: Material,
        members: np.ndarray,
        seeds: list[int],
        first: int,
        config: Mapping[str, Any],
        device: torch.device,
        scratch: Path,
    ):
        kind = kinds.of(model.family)
        if kind is None:
            raise ModelError(f"model.family = {model.family!r} is no learner")
        self.model, self.training, self.material = model, training, material
        self.members, self.seeds, self.first, self.config = members, seeds, first, config
        self.device, self.scratch = device, scratch
        self.classification = material.classes is not None
        self.labels = material.targets.dtype == np.bool_
        self.cohort = Learned(len(members), device)
        self._told: list[Told] = []  # by the replica in training
        self._thing = named.imported(model.family, "model.family")
        said = {k: v for k, v in model.given().items() if k in SHAPE_KEYS}
        self.given = kinds.given(self._thing, said, model.options)
        self._implementation = kinds.implementation(kind)
        self._run: Run | None = None
        self._began = 0.0

    # -- how it stands --------------------------------------------------------------------------

    @property
    def step(self) -> int:
        return len(self.cohort.done)

    @property
    def finished(self) -> bool:
        return self.step == len(self.members)

    @property
    def seconds(self) -> float:
        return sum(replica.seconds for replica in self.cohort.done)

    @property
    def hard(self) -> bool:
        """Whether a replica gives classes and no probabilities."""
        return any(replica.hard for replica in self.cohort.done)

    def outputs(self, name: str) -> Tensor:
        """Of the replicas that are done [done, N, C], float64: logarithms of probabilities, or values."""
        return torch.from_numpy(np.stack([r.outputs[name] for r in self.cohort.done]))

    def built_with(self) -> dict[str, Any]:
        """Every argument that it is built with."""
        found: dict[str, Any] = self._implementation.built_with(self._thing, self.given)
        return found

    def told(self) -> list[Told]:
        """What the first replica has reported so far."""
        return self.cohort.done[0].told if self.cohort.done else list(self._told)

    # -- training -------------------------------------------------------------------------------

    def advance(self, pause_after_s: float = math.inf) -> Report | None:
        """On to the first replica's next report, or to the end of a replica; the report of all after the last one.

        None in between, and where that takes longer than pause_after_s."""
        if self._run is None:
            self._begin()
        assert self._run is not None
        deadline = time.perf_counter() + pause_after_s
        while True:
            wait = None if math.isinf(pause_after_s) else max(0.0, deadline - time.perf_counter())
            news = self._run.go(wait)
            if news is None:
                break
            self._told.append(news)
            if not self.cohort.done and self.first == 0:
                return of_one(news, time.perf_counter() - self._began)
        if not self._run.finished:
            return None
        self.cohort.done.append(self._finished(self._run.result))
        self._run, self._told = None, []
        return self.report() if self.finished else None

    def _begin(self) -> None:
        index = self.step
        task = self._task(index)
        self._began = time.perf_counter()

        def call(report: Callable[[int, dict[str, float]], None]) -> Any:
            torch.manual_seed(task.seed)
            np.random.seed(task.seed)
            random.seed(task.seed)
            object.__setattr__(task, "_report", report)
            train = partial(self._implementation.train, task, self._thing, self.given)
            with in_their_code(self._thing, self._call):
                return train(self.training)

        self._run = Run(call)

    @property
    def _call(self) -> str:
        """The call, for an error in it."""
        if self._implementation.__name__.endswith("functions"):
            return "train(task)"
        said = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
        return f"training with ({said}) on {self.members.shape[1]} examples"

    def _task(self, index: int) -> Task:
        material, number = self.material, self.first + index
        folder = self.scratch / f"replica-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return Task(
            # Sorted: a plain loop over the rows of a subset is then the same training.
            train=material.rows(np.sort(self.members[index])),
            validation=material.rows(material.validation),
            config=self.config,
            options=self.model.options,
            seed=self.seeds[index],
            device=self.device.type,
            folder=folder,
            classes=material.classes,
            outputs=material.outputs,
            shape=several.shapes(material.shape),
            replica=number,
            image=material.image,
        )

    def _finished(self, predictor: Any) -> Replica:
        """The replica that has just been trained, asked about every example that is looked at."""
        material, index = self.material, self.step
        own = np.sort(self.members[index])
        inputs = {
            "train": material.inputs[own],
            "validation": material.inputs[material.validation],
            "test": material.test_inputs,
            "measured": material.inputs[material.measured],
        }
        with in_their_code(self._thing, "the predictor that it returned"):
            raw = {
                name: answers.ask(
                    predictor, material.seen(rows), self.classification or self.labels
                )
                for name, rows in inputs.items()
                if len(rows)
            }
        outputs, hard = self._meant(raw, predictor)
        empty = np.zeros((0, material.outputs))
        error, loss = scores.score(outputs["train"], material.targets[own], self.classification)
        return Replica(
            {name: outputs.get(name, empty) for name in SETS},
            error,
            math.nan if hard else loss,
            time.perf_counter() - self._began,
            _parameters(predictor),
            hard,
            self._told,
        )

    def _meant(
        self, raw: dict[str, np.ndarray], predictor: Any
    ) -> tuple[dict[str, np.ndarray], bool]:
        """Outputs of each set as all measures have them, and whether they are classes alone."""
        material = self.material
        said = predictor.gives if isinstance(predictor, Said) else None
        if self.labels:
            what = answers.gives_labels(list(raw.values()), material.outputs, said)
            return {
                name: answers.label_logits(rows, material.outputs, what)
                for name, rows in raw.items()
            }, what == "classes"
        if material.classes is None:
            return {
                name: answers.values(rows, material.outputs) for name, rows in raw.items()
            }, False
        what = answers.gives(list(raw.values()), material.classes, said)
        return {
            name: answers.log_probabilities(rows, material.classes, what)
            for name, rows in raw.items()
        }, what == "classes"

    # -- reports --------------------------------------------------------------------------------

    def report(self) -> Report:
        """All replicas as they ended, with errors of their own subsets, of validation and of test."""
        done, targets = self.cohort.done, self.targets()
        found = {"train": [(r.error, r.loss) for r in done]}
        for name in ("validation", "test"):
            if len(targets[name]):
                each = [
                    scores.score(r.outputs[name], targets[name], self.classification) for r in done
                ]
                found[name] = [
                    (error, math.nan if r.hard else loss)
                    for r, (error, loss) in zip(done, each, strict=True)
                ]
        columns = {name: torch.tensor(pairs, dtype=torch.float64) for name, pairs in found.items()}
        last = max((told.epoch for r in done for told in r.told), default=1)
        return Report(
            epoch=max(last, 1),
            step=self.step,
            seconds=self.seconds,
            error={name: pairs[:, 0] for name, pairs in columns.items()},
            loss={name: pairs[:, 1] for name, pairs in columns.items()},
            diverged=torch.tensor([r.diverged for r in done]),
            stopped=torch.zeros(len(done), dtype=torch.bool),
        )

    def evaluate(self) -> Report:
        """See `report`."""
        return self.report()

    def targets(self) -> dict[str, np.ndarray]:
        """Of validation and test."""
        material = self.material
        return {
            "validation": material.targets[material.validation],
            "test": material.test_targets,
        }

    # -- an interrupted trial -------------------------------------------------------------------

    in_company = False

    def conclude(self) -> None:
        """Nothing: each replica ends by itself."""

    @property
    def bytes(self) -> int:
        """Of what is known of the replicas that are done."""
        return sum(o.nbytes for replica in self.cohort.done for o in replica.outputs.values())

    def state_dict(self) -> dict[str, Any]:
        """The replicas that are done. That in training begins again."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "cohort": self.cohort.state_dict(),
            "diverged": torch.tensor([r.diverged for r in self.cohort.done], dtype=torch.bool),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the replicas of a state; KeyError or RuntimeError where it does not fit."""
        held = state["cohort"]
        if held and held["outputs/measured"].shape[1] != len(self.material.measured):
            raise RuntimeError("its measured examples are others")
        self.cohort.load_state_dict(held)

    def close(self) -> None:
        """Stop what is in training, and forget its folder if the trial is over."""
        if self._run is not None:
            self._run.stop()
            self._run = None
        if self.finished:
            for number in range(self.first, self.first + len(self.members)):
                shutil.rmtree(self.scratch / f"replica-{number}", ignore_errors=True)
            with contextlib.suppress(OSError):  # others of its cohort may still train
                self.scratch.rmdir()


def of_one(told: Told, seconds: float) -> Report:
    """What the first replica told as a report: errors and losses by their sets, anything else by its name; each [1]."""
    kinds_of: dict[str, dict[str, Tensor]] = {"error": {}, "loss": {}, "other": {}}
    for name, value in told.values.items():
        subject, _, kind = name.rpartition("_")
        known = subject in ("train", "validation", "test") and kind in ("error", "loss")
        kinds_of[kind if known else "other"][subject if known else name] = torch.tensor(
            [value], dtype=torch.float64
        )
    none = torch.zeros(1, dtype=torch.bool)
    return Report(
        epoch=told.epoch,
        step=0,
        seconds=seconds,
        error=kinds_of["error"],
        loss=kinds_of["loss"],
        diverged=none,
        stopped=none,
        other=kinds_of["other"],
    )


def _parameters(predictor: Any) -> float:
    """Weights of a predictor, where it has any to count: NaN else."""
    if isinstance(predictor, Said):
        return math.nan if predictor.parameters is None else float(predictor.parameters)
    if isinstance(predictor, torch.nn.Module):
        return float(sum(p.numel() for p in predictor.parameters()))
    return math.nan
