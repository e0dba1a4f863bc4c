"""One trial: a configuration and a dataset become a trained cohort, and the cohort a record.

Runs in any process: it knows neither Ray nor MLflow nor files.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.data import augmentation, noise, subsets
from engram.data.dataset import Dataset
from engram.models import family, streams, ways
from engram.models.cohort import Cohort, default_stack
from engram.models.family import build
from engram.models.learners import kinds
from engram.models.learners.trainer import SEEDS, LearnerTrainer, Material, of_one
from engram.models.plain import PlainCohort
from engram.models.training import Augment, Examples, Report, Trainer
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import resident
from engram.sweeps.trial.record_writer import RecordWriter, shortened
from engram.sweeps.trial.watch import Watch, measured

REHEARSED = 64  # examples that a person's network is tried on


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

    def outputs(self, name: str) -> Tensor:
        """Logits or values [R, N, C] on "validation", on "test", or on the "measured" examples of the pool."""
        trainer = self.trainer
        if name != "measured":
            return trainer.predict(trainer.sets[name])
        index = torch.from_numpy(self.measured_ids)
        return trainer.predict(Examples(trainer.pool.inputs[index], trainer.pool.targets[index]))

    def targets_of(self, name: str) -> np.ndarray:
        """Labels [N] or values [N, K] of validation or test, as they were trained on."""
        if name == "test":
            return self.dataset.test_targets
        return self.trainer.sets[name].targets.cpu().numpy()

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
        return family.built_with(self.configuration.model)

    def warnings(self, wanted: MeasuresConfig) -> Iterator[str]:
        """What a reader must know of how it was trained."""
        for note in self.trainer.cohort.notes:
            yield f"network: {note}"

    def close(self) -> None:
        """Nothing: a cohort leaves nothing behind."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly, what has been seen included: tensors and plain numbers."""
        state = {"trainer": self.trainer.state_dict(), "history": _stacked(self.history)}
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
        first = self.configuration.replicas.count - self.trainer.cohort.replicas
        return make_cohort(self.configuration, self.dataset, self.trainer.device, first, purpose)

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


@dataclass
class LearnedTrial(Trial):
    """A trial of a learner. Its history ends in one report of all replicas; those before are its first replica's."""

    trainer: LearnerTrainer

    @property
    def gives_probabilities(self) -> bool:  # type: ignore[override]
        return not self.trainer.hard

    def passes(self) -> dict[str, Any]:
        told = any(r.told for r in self.trainer.cohort.done)
        return {"epochs": self.history[-1].epoch if told else None, "steps": None}

    def built_with(self) -> dict[str, Any]:
        return self.trainer.built_with()

    def warnings(self, wanted: MeasuresConfig) -> Iterator[str]:
        if self.trainer.hard:
            yield (
                "it gives classes and no probabilities: losses in nats are not known, and the squared parts (bias2, "
                "variance) are those of answers without doubt"
            )
        for name in ("forgetting", "layers", "retention"):
            if getattr(wanted, name):
                yield f"measures.{name} was not taken: it looks into a network, and this is a learner"
        if self.wrong.any() and self.dataset.classes is not None:
            yield "when wrong labels are fitted was not measured: a learner is looked at once it is trained"

    def outputs(self, name: str) -> Tensor:
        return self.trainer.outputs(name)

    def targets_of(self, name: str) -> np.ndarray:
        found = self.trainer.targets()[name]
        return found if self.trainer.classification else found.reshape(len(found), -1)

    def curve(self, name: str, kind: str) -> np.ndarray | None:
        """What all replicas told at the same epochs; the last column is what they ended in."""
        told, last = self._told(f"{name}_{kind}"), self.history[-1]
        if told is None:
            return None
        return np.concatenate([told, getattr(last, kind)[name].numpy()[:, None]], axis=1)

    def curves(self) -> dict[str, np.ndarray]:
        found = super().curves()
        found["epochs"] = np.array([*self._epochs(), self.history[-1].epoch])
        return found

    def _epochs(self) -> list[int]:
        """Those before the last one at which every replica reported."""
        done = self.trainer.cohort.done
        shared = set.intersection(*({told.epoch for told in r.told} for r in done))
        return sorted(shared - {self.history[-1].epoch})

    def _told(self, name: str) -> np.ndarray | None:
        """[R, E] of a value at the shared epochs; None where a replica did not tell it at one of them."""
        rows = []
        for replica in self.trainer.cohort.done:
            known = {told.epoch: told.values.get(name) for told in replica.told}
            rows.append([known[epoch] for epoch in self._epochs()])
        return None if any(v is None for row in rows for v in row) else np.array(rows, ndmin=2)

    def state_dict(self) -> dict[str, Any]:
        last = self.history[-1:] if self.trainer.finished else []
        joinable = len(self.measured_ids) == len(self.pool_ids)  # else they depend on the replicas
        state = {"trainer": self.trainer.state_dict(), "history": _stacked(last)}
        return state if joinable else {**state, "joinable": False}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        seconds = self.trainer.seconds
        self.history = [of_one(told, seconds) for told in self.trainer.told()]
        if self.trainer.finished:
            self.history.append(self.trainer.report())

    def close(self) -> None:
        self.trainer.close()


def _learner(
    configuration: Configuration,
    material: Material,
    members: np.ndarray,
    first: int,
    device: torch.device,
    scratch: Path | None,
) -> LearnerTrainer:
    replicas = configuration.replicas
    seeds = [streams.key(replicas.seed, "learner", r) % SEEDS for r in range(first, replicas.count)]
    if scratch is None:
        scratch = Path(tempfile.gettempdir()) / f"engram-{os.getpid()}-{configuration.hash}"
    return LearnerTrainer(
        configuration.model,
        configuration.training,
        material,
        members,
        seeds,
        first,
        configuration.dotted(),
        device,
        scratch,
    )


def _stacked(history: list[Report]) -> dict[str, Any]:
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


def prepare(
    configuration: Configuration,
    dataset: Dataset,
    device: torch.device,
    first: int = 0,
    wanted: MeasuresConfig | None = None,
    scratch: Path | None = None,
    capture: bool = False,
) -> Trial:
    """Everything up to the first step. Deterministic: the same on every machine and in every process.

    first: leave out the replicas before this one, which have been trained already. wanted: the measures
    that will be taken; without it training is not watched. scratch: where a learner may write. capture: record steps
    and replay them, where they can be.
    """
    data, replicas = configuration.data, configuration.replicas
    pool_ids, validation_ids = subsets.holdout(
        len(dataset.targets), data.validation, replicas.seed, dataset.division
    )
    members = subsets.draw(pool_ids, data.train_size, replicas, dataset.division)[first:]
    targets, wrong = _targets(configuration, dataset)
    ids = measured(members, pool_ids, replicas.seed)
    if kinds.of(configuration.model.family) is not None:
        material = Material(
            dataset.inputs,
            targets,
            dataset.ids,
            validation_ids,
            ids,
            dataset.test_inputs,
            dataset.test_targets,
            dataset.classes,
            outputs_of(dataset),
            dataset.kind == "image",
        )
        learner = _learner(configuration, material, members, first, device, scratch)
        return LearnedTrial(configuration, dataset, learner, members, pool_ids, targets, wrong, ids)
    pool, test = resident.on(dataset, device)
    if wrong.any() or data.random_labels:
        pool = Examples(pool.inputs, resident.tensor(targets))
    validation = Examples(pool.inputs[validation_ids], pool.targets[validation_ids])
    sets = {"validation": validation, "test": test}
    cohort = make_cohort(configuration, dataset, device, first)
    keys = [streams.key(replicas.seed, "replica", r) for r in range(first, replicas.count)]
    trainer = Trainer(
        cohort,
        pool,
        torch.from_numpy(members),
        sets,
        configuration.training,
        keys,
        _augment(configuration, dataset),
        capture,
    )
    watched = _watch(wanted, dataset, ids, targets, wrong)
    return Trial(configuration, dataset, trainer, members, pool_ids, targets, wrong, ids, watched)


def make_cohort(
    configuration: Configuration,
    dataset: Dataset,
    device: torch.device,
    first: int = 0,
    purpose: str = "init",
) -> Cohort | PlainCohort:
    """The R networks of a configuration, each from its own stream for this purpose."""
    replicas = configuration.replicas
    outputs, image = outputs_of(dataset), dataset.kind == "image"
    modules = []
    for replica in range(first, replicas.count):
        with streams.forked():
            streams.seed_all(streams.key(replicas.seed, purpose, replica))
            shape = dataset.inputs.shape[1:]
            modules.append(build(configuration.model, shape, outputs, image))
    automatic = default_stack(configuration.model.family, device, replicas.count, image)
    stack = automatic if replicas.stack == "auto" else replicas.stack
    return ways.cohort(modules, device, stack, way(configuration, dataset, device))


def outputs_of(dataset: Dataset) -> int:
    """Classes, or values to predict."""
    return dataset.classes or int(np.prod(dataset.targets.shape[1:], dtype=int))


def way(configuration: Configuration, dataset: Dataset, device: torch.device) -> ways.Way:
    """How the networks of a configuration run here; found once in each process."""
    few = Examples(
        resident.tensor(dataset.inputs[:REHEARSED]), resident.tensor(dataset.targets[:REHEARSED])
    )
    case = ways.Case(
        configuration.model,
        configuration.training,
        tuple(dataset.inputs.shape[1:]),
        outputs_of(dataset),
        dataset.kind == "image",
        few,
        configuration.data.train_size,
        device,
        _augment(configuration, dataset),
    )
    return ways.way(case)


def _targets(configuration: Configuration, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    data, seed = configuration.data, configuration.replicas.seed
    if data.random_labels:
        targets, wrong = noise.randomize(dataset.targets, dataset.classes, seed)
    else:
        targets, wrong = noise.corrupt(dataset.targets, data.label_noise, dataset.classes, seed)
    return targets, wrong


def _watch(
    wanted: MeasuresConfig | None,
    dataset: Dataset,
    ids: np.ndarray,
    targets: np.ndarray,
    wrong: np.ndarray,
) -> Watch | None:
    """A watch where forgetting is asked for, or where some labels are wrong and some are not."""
    if wanted is None or dataset.classes is None:
        return None
    noisy = bool(wrong[ids].any() and not wrong[ids].all())
    if not (wanted.forgetting or noisy):
        return None
    return Watch(ids, targets[ids], dataset.targets[ids] if noisy else None)


def _augment(configuration: Configuration, dataset: Dataset) -> Augment | None:
    transform = augmentation.get(configuration.data.augmentation, dataset.kind)
    return None if transform is None else (transform, transform.uniforms(dataset.inputs.shape[1:]))


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
