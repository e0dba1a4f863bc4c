"""One trial: a configuration and a dataset become a trained cohort, and the cohort a record.

Runs in any process: it knows neither Ray nor MLflow nor files.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data import augmentation, noise, subsets
from data.dataset import Dataset
from measures import (
    bias_variance,
    convergence,
    ensemble,
    intervals,
    membership,
    memorization,
)
from measures.intervals import Interval
from models import streams
from models.cohort import Cohort, default_stack
from models.family import build
from models.training import Augment, Examples, Report, Trainer
from sweeps.definition import Configuration
from sweeps.sections import MeasuresConfig

# Memory for one array of predictions kept with a trial; larger ones are left out and the record says so.
LARGEST_KEPT_BYTES = 32 * 2**20
MOST_MEMORIZED = 20


@dataclass
class Trial:
    """A trial in training: its trainer, its data, and what has been seen so far."""

    configuration: Configuration
    dataset: Dataset
    trainer: Trainer
    members: np.ndarray  # [R, m] pool indices
    pool_ids: np.ndarray  # examples the subsets are drawn from
    targets: np.ndarray  # the pool's targets as trained on
    wrong: np.ndarray  # bool [n], labels that noise changed
    history: list[Report] = field(default_factory=list)

    @property
    def unit(self) -> int:
        """Replicas that are not independent of each other: those of one draw, or of a pair of draws."""
        replicas = self.configuration.replicas
        return replicas.inits * (2 if replicas.draw == "complementary" else 1)

    def advance(self) -> Report:
        report = self.trainer.advance()
        self.history.append(report)
        return report


def prepare(configuration: Configuration, dataset: Dataset, device: torch.device) -> Trial:
    """Everything up to the first step. Deterministic: the same on every machine and in every process."""
    data, replicas = configuration.data, configuration.replicas
    pool_ids, validation_ids = subsets.holdout(len(dataset.targets), data.validation, replicas.seed)
    members = subsets.draw(pool_ids, data.train_size, replicas)
    targets, wrong = _targets(configuration, dataset)
    pool = Examples(_tensor(dataset.inputs), _tensor(targets))
    sets = {
        "validation": Examples(pool.inputs[validation_ids], pool.targets[validation_ids]),
        "test": Examples(_tensor(dataset.test_inputs), _tensor(dataset.test_targets)),
    }
    cohort = make_cohort(configuration, dataset, device)
    keys = [streams.key(replicas.seed, "replica", r) for r in range(replicas.count)]
    trainer = Trainer(
        cohort,
        pool,
        torch.from_numpy(members),
        sets,
        configuration.training,
        keys,
        _augment(configuration, dataset),
    )
    return Trial(configuration, dataset, trainer, members, pool_ids, targets, wrong)


def make_cohort(configuration: Configuration, dataset: Dataset, device: torch.device) -> Cohort:
    """The R networks of a configuration, each from its own initialization stream."""
    replicas = configuration.replicas
    outputs = dataset.classes or int(np.prod(dataset.targets.shape[1:], dtype=int))
    modules = []
    for replica in range(replicas.count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.key(replicas.seed, "init", replica))
            shape = dataset.inputs.shape[1:]
            modules.append(build(configuration.model, shape, outputs, dataset.kind == "image"))
    automatic = default_stack(configuration.model.family, device, replicas.count)
    stack = automatic if replicas.stack == "auto" else replicas.stack
    return Cohort(modules, device, stack, _tensor(dataset.inputs[:4]))


def _targets(configuration: Configuration, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    data, seed = configuration.data, configuration.replicas.seed
    if data.random_labels:
        targets, wrong = noise.randomize(dataset.targets, dataset.classes, seed)
    else:
        targets, wrong = noise.corrupt(dataset.targets, data.label_noise, dataset.classes, seed)
    return targets, wrong


def _augment(configuration: Configuration, dataset: Dataset) -> Augment | None:
    transform = augmentation.get(configuration.data.augmentation, dataset.kind)
    return None if transform is None else (transform, transform.uniforms(dataset.inputs.shape[1:]))


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor on the array's memory: arrays shared between processes are read-only, and are only read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tensor = torch.from_numpy(array)
    return tensor[:, None] if tensor.is_floating_point() and tensor.dim() == 1 else tensor


def summary(report: Report) -> dict[str, float]:
    """Means over the replicas that did not diverge, of what each evaluation tells; NaN where all did."""
    return {
        name: float(np.mean(values)) if len(values) else math.nan
        for name, values in _per_replica(report).items()
    }


def intervals_of(report: Report) -> dict[str, dict[str, float | None]]:
    """The same with t intervals, as a record holds them: what is known of a trial that is stopped here."""
    found: dict[str, Any] = {"measures": {}, "replica_values": {}}
    note = _Note(found, 1)
    for name, values in _per_replica(report).items():
        note.values(name, values)
    return found["measures"]


def _per_replica(report: Report) -> dict[str, np.ndarray]:
    alive = ~report.diverged.numpy()
    values = {f"{name}_error": error.numpy()[alive] for name, error in report.error.items()}
    values |= {f"{name}_loss": loss.numpy()[alive] for name, loss in report.loss.items()}
    values["generalization_gap"] = values["test_error"] - values["train_error"]
    return values


# -- from a trained cohort to a record ---------------------------------------------------------------


class Result(NamedTuple):
    """What a trial ends in.

    record: plain JSON values, committed to the ledger (keys: status, replicas, parameters, epochs,
    steps, seconds, measures, replica_values, selection, warnings...). arrays: predictions, history and
    memorization, for pictures and later questions.
    """

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]


def measure(trial: Trial, wanted: MeasuresConfig) -> Result:
    """All measures of a trained cohort, over the replicas that did not diverge."""
    trainer, last = trial.trainer, trial.history[-1]
    diverged = last.diverged.numpy()
    alive = ~diverged
    record: dict[str, Any] = {
        "status": "diverged" if diverged.any() else "completed",
        "replicas": trainer.cohort.replicas,
        "diverged_replicas": int(diverged.sum()),
        "parameters": trainer.cohort.parameter_count,
        "stack": trainer.cohort.stack,
        "epochs": last.epoch,
        "steps": last.step,
        "train_examples": trial.members.shape[1],
        "pool_examples": len(trial.pool_ids),
        "chance_error": _chance_error(trial),
        "measures": {},
        "replica_values": {},
        "selection": {},
        "warnings": [],
    }
    arrays = _history(trial)
    if alive.any():
        started = time.perf_counter()
        _measure_alive(trial, wanted, alive, record, arrays)
        record["measure_seconds"] = round(time.perf_counter() - started, 4)
    record["seconds"] = round(trainer.seconds, 4)
    record["selection"].update(seconds=record["seconds"], parameters=record["parameters"])
    return Result(record, arrays)


def _measure_alive(
    trial: Trial,
    wanted: MeasuresConfig,
    alive: np.ndarray,
    record: dict,
    arrays: dict[str, np.ndarray],
) -> None:
    trainer = trial.trainer
    # Early stopping put the best weights back: the last report may describe others.
    final = trainer.evaluate() if trainer.early_stopping else trial.history[-1]
    unit = trial.unit if alive.all() else 1
    note = _Note(record, unit)
    for name in final.error:
        note.values(f"{name}_error", final.error[name].numpy()[alive])
        note.values(f"{name}_loss", final.loss[name].numpy()[alive])
    error, loss = (
        {k: v.numpy()[alive] for k, v in final.error.items()},
        {k: v.numpy()[alive] for k, v in final.loss.items()},
    )
    note.values("generalization_gap", error["test"] - error["train"])
    note.values("generalization_gap_loss", loss["test"] - loss["train"])
    selection = record["selection"]
    selection.update(
        train_error=float(error["train"].mean()), train_loss=float(loss["train"].mean())
    )
    test = _predictions(trainer, "test", alive)
    _bias_variance(trial, test, trial.dataset.test_targets, note, alive)
    if "validation" in final.error:
        selection.update(
            validation_error=float(error["validation"].mean()),
            validation_loss=float(loss["validation"].mean()),
            generalization_gap=float((error["validation"] - error["train"]).mean()),
        )
        validation = _predictions(trainer, "validation", alive)
        selection.update(
            _selection_bias_variance(validation, trainer.sets["validation"].targets.cpu().numpy())
        )
    _convergence(trial, alive, note)
    if wanted.predictions:
        _keep(arrays, "test_predictions", test.astype(np.float16), record)
    if wanted.memorization or wanted.membership:
        _pool_measures(trial, wanted, alive, note, arrays)


def _chance_error(trial: Trial) -> float:
    """Error of the constant answer on the pool: the commonest class, or the mean."""
    targets = trial.targets[trial.pool_ids]
    if trial.trainer.classification:
        return float(1 - np.bincount(targets).max() / len(targets))
    return float(np.var(targets, axis=0, dtype=np.float64).mean())


class _Note:
    """Writes measures into a record: an interval for the leaderboard, values per replica for pairing."""

    def __init__(self, record: dict, unit: int):
        self.record, self.unit = record, unit

    def values(self, name: str, values: np.ndarray) -> None:
        """A measure that each replica has: its mean with a t interval; null where every replica diverged."""
        if not len(values):
            self.record["measures"][name] = None
            return
        usable = self.unit if len(values) % self.unit == 0 else 1
        self.interval(
            name, intervals.t_interval(values, inits=usable), intervals.units(values, usable)
        )

    def interval(self, name: str, interval: Interval, values: np.ndarray | None = None) -> None:
        if not math.isfinite(interval.mean):
            self.record["measures"][name] = None
            return
        low, high = (interval.low, interval.high) if interval.known else (None, None)
        self.record["measures"][name] = {"mean": interval.mean, "low": low, "high": high}
        if values is not None:
            self.record["replica_values"][name] = [float(f"{v:.7g}") for v in values]

    def statistic(self, name: str, statistic: Callable[..., float], arrays: np.ndarray) -> None:
        """A measure of all replicas at once: jackknife pseudo-values give its interval."""
        usable = self.unit if len(arrays) % self.unit == 0 else 1
        if len(arrays) // usable >= 3:
            pseudo = intervals.jackknife(statistic, arrays, inits=usable)
            self.interval(name, intervals.t_interval(pseudo), pseudo)
        elif len(arrays) >= 2:
            self.interval(
                name, Interval(statistic(arrays), math.nan, math.nan, math.nan, len(arrays))
            )
        else:
            self.record["measures"][name] = None


def _predictions(trainer: Trainer, name: str, alive: np.ndarray) -> np.ndarray:
    """Probabilities [R, N, C], or values [R, N, K], of the replicas that did not diverge."""
    outputs = trainer.predict(trainer.sets[name])[torch.from_numpy(alive)].double()
    return (outputs.softmax(-1) if trainer.classification else outputs).numpy()


def _bias_variance(
    trial: Trial, predictions: np.ndarray, targets: np.ndarray, note: _Note, alive: np.ndarray
) -> None:
    targets = _shaped(targets)
    if len(predictions) >= 2:
        decomposed = bias_variance.squared(predictions, targets)
        note.statistic("bias2", lambda p: bias_variance.squared(p, targets).bias2, predictions)
        note.statistic(
            "variance", lambda p: bias_variance.squared(p, targets).variance, predictions
        )
        sampling = intervals.test_sampling_se(decomposed.per_example["risk"])
        note.record["test_sampling_se"] = {"squared_risk": sampling}
    inits = trial.configuration.replicas.inits
    if inits > 1 and alive.all():
        split = predictions.reshape(-1, inits, *predictions.shape[1:])
        for name in ("variance_data", "variance_init"):
            _components_interval(name, split, note)
    _ensemble_error(trial, predictions, targets, note)


def _components_interval(name: str, split: np.ndarray, note: _Note) -> None:
    """A variance component with its jackknife interval over draws; split: [D, S, N, ...]."""

    def statistic(some: np.ndarray) -> float:
        return float(getattr(bias_variance.components(some), name))

    if len(split) >= 3:
        pseudo = intervals.jackknife(statistic, split)
        note.interval(name, intervals.t_interval(pseudo), pseudo)
    else:
        note.interval(name, Interval(statistic(split), math.nan, math.nan, math.nan, len(split)))


def _ensemble_error(
    trial: Trial, predictions: np.ndarray, targets: np.ndarray, note: _Note
) -> None:
    note.statistic("ensemble_error", lambda p: ensemble.ensemble(p, targets).error, predictions)


def _selection_bias_variance(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """What a search may select by, on the validation set."""
    if len(predictions) < 2:
        return {}
    decomposed = bias_variance.squared(predictions, targets)
    return {
        "bias2": decomposed.bias2,
        "variance": decomposed.variance,
        "ensemble_error": ensemble.ensemble(predictions, targets).error,
    }


def _shaped(targets: np.ndarray) -> np.ndarray:
    """Values as [N, K]; labels as they are."""
    return targets[:, None] if targets.dtype.kind == "f" and targets.ndim == 1 else targets


def _convergence(trial: Trial, alive: np.ndarray, note: _Note) -> None:
    """Epochs to convergence of the training loss; null where half of the replicas never arrived."""
    curves = np.stack([r.loss["train"].numpy() for r in trial.history], axis=1)[alive]  # [R, E]
    found = convergence.epochs_to(curves, np.array([r.epoch for r in trial.history]))
    values = None if found.censored.any() else found.per_replica
    low, high = (x if math.isfinite(x) else math.nan for x in (found.low, found.high))
    note.interval(
        "epochs_to_convergence", Interval(found.median, low, high, math.nan, len(curves)), values
    )
    note.record["censored_replicas"] = int(found.censored.sum())


def _pool_measures(
    trial: Trial,
    wanted: MeasuresConfig,
    alive: np.ndarray,
    note: _Note,
    arrays: dict[str, np.ndarray],
) -> None:
    """Memorization and membership over the pool, where examples are inside for some replicas and outside for others."""
    trainer, ids = trial.trainer, trial.pool_ids
    if not trainer.classification or alive.sum() < 2:
        return
    member = subsets.members(trial.members[alive], len(trial.targets))[:, ids]
    labels = trial.targets[ids]
    if member.all() or not member.any(axis=1).all():
        note.record["warnings"].append(
            "every replica saw the whole pool: memorization and membership are undefined"
        )
        return
    logits = trainer.predict(Examples(trainer.pool.inputs[ids], trainer.pool.targets[ids]))[
        torch.from_numpy(alive)
    ]
    correct = (logits.argmax(-1) == torch.from_numpy(labels)).numpy()
    unit = note.unit if len(correct) % note.unit == 0 else 1
    if wanted.memorization:
        found = memorization.summary(correct, member, inits=unit)
        note.interval(
            "memorization",
            found.mean,
            intervals.units(found.per_replica, unit) if found.mean.known else None,
        )
        _keep_memorization(trial, found, arrays)
        _noise_memorization(trial, correct, member, unit, note)
    if wanted.membership and len(correct) >= 4:
        log_probabilities = torch.log_softmax(logits.double(), -1).numpy()
        confidence = membership.phi(log_probabilities, labels)
        note.interval("membership_auc", membership.lira(confidence, member).auc_interval())
        _keep(arrays, "confidence", confidence.astype(np.float16), note.record)
    _keep(arrays, "member", np.packbits(member, axis=1), note.record)
    _keep(arrays, "correct", np.packbits(correct, axis=1), note.record)


def _noise_memorization(
    trial: Trial, correct: np.ndarray, member: np.ndarray, unit: int, note: _Note
) -> None:
    """Memorization of wrong labels and of right ones apart, where the study has put wrong ones in."""
    wrong = trial.wrong[trial.pool_ids]
    if not wrong.any() or wrong.all():
        return
    for name, some in (("memorization_wrong", wrong), ("memorization_clean", ~wrong)):
        found = memorization.summary(correct[:, some], member[:, some], inits=unit)
        note.interval(
            name, found.mean, intervals.units(found.per_replica, unit) if found.mean.known else None
        )


def _keep_memorization(
    trial: Trial, found: memorization.Memorization, arrays: dict[str, np.ndarray]
) -> None:
    """Each example's memorization, and the most memorized examples themselves, for pictures."""
    arrays["memorization"] = found.per_example.astype(np.float32)
    arrays["memorization_se"] = found.standard_error.astype(np.float32)
    ranked = np.argsort(-np.nan_to_num(found.per_example, nan=-2), kind="stable")[:MOST_MEMORIZED]
    chosen = trial.pool_ids[ranked]
    arrays["most_memorized_ids"] = chosen
    arrays["most_memorized_inputs"] = trial.dataset.inputs[chosen]
    arrays["most_memorized_targets"] = trial.targets[chosen]
    arrays["pool_wrong"] = trial.wrong[trial.pool_ids]


def _keep(arrays: dict[str, np.ndarray], name: str, array: np.ndarray, record: dict) -> None:
    if array.nbytes > LARGEST_KEPT_BYTES:
        record["warnings"].append(
            f"{name} would take {array.nbytes / 2**20:.0f} MiB and was not kept"
        )
        return
    arrays[name] = array


def _history(trial: Trial) -> dict[str, np.ndarray]:
    """Learning curves [E, R] of each set, and the epochs [E] at which they were taken."""
    arrays = {"epochs": np.array([r.epoch for r in trial.history])}
    for name in trial.history[-1].error:
        arrays[f"{name}_error_curve"] = np.stack(
            [r.error[name].numpy() for r in trial.history]
        ).astype(np.float32)
        arrays[f"{name}_loss_curve"] = np.stack(
            [r.loss[name].numpy() for r in trial.history]
        ).astype(np.float32)
    return arrays
