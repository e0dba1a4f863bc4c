"""From a trained cohort to a record: every measure with its interval, over the replicas that did not diverge.

Knows neither Ray nor MLflow nor files.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch

from engram.measures import convergence, cost, intervals, left_out, new_data
from engram.measures.left_out import Groups, Rows
from engram.measures.new_data import Sampling
from engram.models import families
from engram.models.losses import NONE
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import outcomes, predicted, probes, tokens
from engram.sweeps.trial.examples import measure_examples
from engram.sweeps.trial.predicted import Predicted
from engram.sweeps.trial.record_writer import RecordWriter
from engram.sweeps.trial.trial import Trial

MOST_TARGETS = 20  # of an example, which are measured one by one
MOST_CLASSES = 100  # whose recall is recorded one by one
LARGE_SHARE = 0.1  # m/n above which the variance is the one given the pool


class Result(NamedTuple):
    """What a trial ends in.

    record: plain JSON values, committed to the ledger (keys: status, replicas, parameters, epochs,
    steps, seconds, measures, replica_values, selection, warnings...). arrays: predictions, history and
    memorization, for pictures and later questions.
    """

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]


def measure(trial: Trial, wanted: MeasuresConfig) -> Result:
    """All measures of a trained cohort."""
    trainer, last = trial.trainer, trial.history[-1]
    diverged = last.diverged.numpy()
    alive = ~diverged
    record: dict[str, Any] = {
        "status": "diverged" if diverged.any() else "completed",
        "task": trial.dataset.task,
        "replicas": trainer.cohort.replicas,
        "diverged_replicas": int(diverged.sum()),
        "parameters": trainer.cohort.parameter_count,
        "stack": trainer.cohort.stack,
        "captured": trainer.captured,
        "way": trainer.cohort.way,
        "way_reason": trainer.cohort.reason,
        "built_with": trial.built_with(),
        **trial.passes(),
        "train_examples": trial.members.shape[1],
        "pool_examples": len(trial.pool_ids),
        "chance_error": _chance_error(trial),
        "noise_error": _noise_error(trial),
        **_chance_rank_error(trial),
        "random_labels": trial.configuration.data.random_labels,
        "measures": {},
        "replica_values": {},
        "selection": {},
        "warnings": [],
    }
    note = RecordWriter(
        record, trial.curves(), trial.unit if alive.all() else 1, _pool_share(trial)
    )
    _design_warnings(trial, note)
    for warning in trial.warnings(wanted):
        note.warn(warning)
    if alive.any():
        started = time.perf_counter()
        _measure_alive(trial, wanted, alive, note)
        record["measure_seconds"] = round(time.perf_counter() - started, 4)
    record["seconds"] = round(trainer.seconds, 4)
    record["cost"] = _cost(trial)
    record["selection"].update(seconds=record["seconds"], parameters=record["parameters"])
    record["selection"] = {k: v for k, v in record["selection"].items() if v is not None and v == v}
    arrays = note.arrays
    if wanted.arrays_kb is not None:
        arrays, record["left_out"] = outcomes.fitting(arrays, 1000 * wanted.arrays_kb)
    return Result(record, arrays)


def _measure_alive(
    trial: Trial, wanted: MeasuresConfig, alive: np.ndarray, note: RecordWriter
) -> None:
    trainer, selection = trial.trainer, note.record["selection"]
    # Early stopping put the best weights back: the last report may describe others.
    final = trainer.evaluate() if trainer.early_stopping else trial.history[-1]
    error = {name: values.numpy()[alive] for name, values in final.error.items()}
    loss = {name: values.numpy()[alive] for name, values in final.loss.items()}
    unit = note.unit_of(int(alive.sum()))
    if trial.dataset.test_groups is not None:
        note.record["test_groups"] = len(np.unique(trial.dataset.test_groups))
    sets = {
        name: _said(trial, name, alive)
        for name in (predicted.TEST, predicted.VALIDATION)
        if name in error
    }
    sampled = {"train": (new_data.NONE, new_data.NONE)} | {
        name: _sampling(found, unit) for name, found in sets.items()
    }
    for name in error:
        note.values(f"{name}_error", error[name], sampled[name][0])
    note.values("generalization_gap", error["test"] - error["train"], sampled["test"][0])
    if trial.gives_probabilities:
        for name in loss:
            note.values(f"{name}_loss", loss[name], sampled[name][1])
        note.values("generalization_gap_loss", loss["test"] - loss["train"], sampled["test"][1])
    if trial.dataset.every_step:
        note.values("perplexity", np.exp(loss["test"]))
        _looked_at(trial, sets, note)
    if trial.canaries is not None:
        tokens.canaries(trial, trial.canaries, alive, note)
    selection.update(
        train_error=float(error["train"].mean()), train_loss=float(loss["train"].mean())
    )
    _bias_variance(trial, sets["test"], note, alive)
    if "validation" in error:
        selection.update(
            validation_error=float(error["validation"].mean()),
            validation_loss=float(loss["validation"].mean()),
            generalization_gap=float((error["validation"] - error["train"]).mean()),
        )
        selection.update(_selection_bias_variance(sets["validation"]))
    if trainer.classification and sets["test"].outputs.shape[-1] <= MOST_CLASSES:
        note.record["class_recall"] = {name: _class_recall(found) for name, found in sets.items()}
    predicted.take(wanted.own, sets, trial.dataset, note)
    _convergence(trial, wanted.convergence_error, alive, note)
    if wanted.predictions and note.room("test_predictions", 2 * sets["test"].outputs.numel()):
        note.arrays["test_predictions"] = sets["test"].predictions(np.float16)
    measure_examples(trial, wanted, alive, note)


def _chance_error(trial: Trial) -> float:
    """Error of the constant answer on the pool: the commonest class, or the mean."""
    targets = trial.targets[trial.pool_ids]
    if trial.trainer.classification:
        there = targets[targets != NONE]
        return float(1 - np.bincount(there).max() / there.size)
    if trial.dataset.labels:
        share = targets.mean(axis=0)
        return float(np.minimum(share, 1 - share).mean())
    return float(np.var(targets, axis=0, dtype=np.float64).mean())


def _chance_rank_error(trial: Trial) -> dict[str, float]:
    """Of ordered classes: the rank error of always the pool's median."""
    if not trial.dataset.ordinal:
        return {}
    ranks = np.sort(trial.targets[trial.pool_ids])
    return {"chance_rank_error": float(np.abs(ranks - ranks[(len(ranks) - 1) // 2]).mean())}


def _noise_error(trial: Trial) -> float:
    """Error on the pool's labels that known wrong labels alone make: of whoever knows the right ones."""
    given, right = (t[trial.pool_ids] for t in (trial.targets, trial.dataset.targets))
    if trial.trainer.classification or trial.dataset.labels:
        return float((given != right).mean())
    return float(((given - right) ** 2).mean(dtype=np.float64))


def _class_recall(found: Predicted) -> list[float | None]:
    """Share of each class's examples that are found, mean over replicas; None for a class without examples."""
    right, classes = found.votes == found.targets, found.outputs.shape[-1]  # [R, N]
    share = np.bincount(found.targets, right.mean(axis=0), classes)
    return [
        round(float(some / count), 5) if count else None
        for some, count in zip(share, np.bincount(found.targets, minlength=classes), strict=True)
    ]


def _design_warnings(trial: Trial, note: RecordWriter) -> None:
    """What the draw makes of the variance."""
    replicas = trial.configuration.replicas
    size, pool = trial.members.shape[1], len(trial.pool_ids)
    share = note.record["pool_share"] = size / pool
    if replicas.count < 2 or replicas.draw in ("disjoint", "fresh"):
        return
    if replicas.draw in ("subset", "complementary") and size == pool:
        note.warn(
            f"m = n = {pool}: every replica has the same examples, the variance is that of "
            "initialization and order"
        )
    elif share > LARGE_SHARE:
        note.warn(
            f"m/n = {size}/{pool} = {share:.2g}: subsets overlap, the variance is the one given this pool"
        )


def _pool_share(trial: Trial) -> float:
    """What replicas tell of other pools; NaN where what is new would be a time, or nobody knows which test examples hang together."""
    division = trial.dataset.division
    if trial.dataset.every_step:  # tokens of a window hang together
        return math.nan
    draw = trial.configuration.replicas.draw
    if division is not None and division.times is not None:
        return math.nan
    if division is not None and division.groups is not None:
        if trial.dataset.test_groups is None:
            return math.nan
        taken = new_data.clusters_taken(trial.members, division.groups)
        return new_data.pool_share(draw, taken, len(np.unique(division.groups[trial.pool_ids])))
    return new_data.pool_share(draw, trial.members.shape[1], len(trial.pool_ids))


# -- errors and their parts -------------------------------------------------------------------------


def _sampling(found: Predicted, unit: int) -> tuple[Sampling, Sampling]:
    """What a finite sample adds to the variance of its error and of its loss."""
    losses, wrong = new_data.crossed(found.losses(), unit, found.clusters), found.wrong()
    return losses if wrong is None else new_data.crossed(wrong, unit, found.clusters), losses


def _said(trial: Trial, name: str, alive: np.ndarray) -> Predicted:
    """What the replicas that did not diverge say of a set; of windows, token by token."""
    if trial.dataset.every_step:
        outputs, targets = tokens.by_token(trial, name)
    else:
        outputs, targets = trial.outputs(name), trial.targets_of(name)
    some = outputs if alive.all() else outputs[torch.from_numpy(alive)]
    return Predicted(
        some, targets, trial.trainer.classification, trial.clusters_of(name), trial.dataset.ordinal
    )


def _looked_at(trial: Trial, sets: dict[str, Predicted], note: RecordWriter) -> None:
    """Whether measures of predictions saw all tokens."""
    for name, found in sets.items():
        all_ = np.count_nonzero(trial.targets_of(name) != NONE)
        if found.targets.size < all_:
            note.warn(
                f"bias, variance and other measures of {name} predictions look at {found.targets.size:,} of its "
                f"{all_:,} tokens, in windows chosen at random; error and loss are of all"
            )


def _bias_variance(trial: Trial, found: Predicted, note: RecordWriter, alive: np.ndarray) -> None:
    """Of the squared error with data and initialization apart, of the ensemble, and of the other two losses."""
    count, examples = found.outputs.shape[:2]
    if count < 2:
        note.record["measures"]["ensemble_error"] = None
        _each_target(found, 1, note)
        return
    inits = trial.configuration.replicas.inits if alive.all() else 1
    # Networks of one draw are not independent; where some were lost, each counts for itself.
    shared = inits if count >= 2 * inits else 1
    groups = Groups.of(count, note.unit_of(count))
    floats = found.outputs[:, 0].numel()
    rows = _squared(found, groups, shared)
    error = rows.pop("ensemble_error")
    risk = rows["bias2"][0] + rows["variance"][0]
    if found.clusters is None:
        sampling = intervals.test_sampling_se(risk)
    else:
        sampling = math.sqrt(new_data.crossed(risk[None], clusters=found.clusters).variance)
    note.record["test_sampling_se"] = {"squared_risk": sampling}
    note.of_examples(rows, groups, found.clusters)
    if inits > 1:
        draws = Groups.of(count, inits)

        def split(some: slice) -> Rows:
            predictions, _ = found.squares(some)
            return left_out.components(
                predictions.reshape(-1, inits, *predictions.shape[1:]), draws, inits
            )

        parts = _mean_target(found, left_out.in_blocks(split, examples, floats))
        note.of_examples(parts, draws, found.clusters)
    note.of_examples({"ensemble_error": error}, groups, found.clusters)
    _each_target(found, shared, note)
    if not found.classes:
        return
    votes = left_out.zero_one(found.votes, found.targets, found.outputs.shape[-1], groups)
    note.of_examples(votes, groups, found.clusters)
    if trial.gives_probabilities:

        def nats(some: slice) -> Rows:
            return left_out.cross_entropy(found.logs(some), found.targets[some], groups)

        note.of_examples(left_out.in_blocks(nats, examples, floats), groups, found.clusters)


def _squared(found: Predicted, groups: Groups, inits: int = 1) -> Rows:
    """bias2, variance and ensemble_error of each example; of several labels or values the mean over them, as the error is."""
    examples, floats = found.outputs.shape[1], found.outputs[:, 0].numel()

    def squared(some: slice) -> Rows:
        return left_out.squared(*found.squares(some), groups, inits)

    rows = _mean_target(found, left_out.in_blocks(squared, examples, floats))
    if found.labels:  # share of wrong labels of the mean probabilities

        def labels(some: slice) -> Rows:
            return left_out.label_errors(found.block(some), found.targets[some], groups)

        rows["ensemble_error"] = left_out.in_blocks(labels, examples, floats)["error"]
    if found.ordinal:

        def classes(some: slice) -> Rows:
            return left_out.class_errors(found.block(some), found.targets[some], groups)

        rows["ensemble_error"] = left_out.in_blocks(classes, examples, floats)["error"]
    return rows


def _mean_target(found: Predicted, rows: Rows) -> Rows:
    """Sums over several labels, values or ranks as means."""
    return {name: values / found.terms for name, values in rows.items()}


def _each_target(found: Predicted, inits: int, note: RecordWriter) -> None:
    """Error, bias² and variance of each of several labels or values."""
    if found.classes or not 1 < (targets := found.outputs.shape[-1]) <= MOST_TARGETS:
        return
    count = len(found.outputs)
    groups = Groups.of(count, note.unit_of(count))
    for k in range(targets):
        said, right = found.target(k)
        off = (said > 0.5) != (right > 0.5) if found.labels else np.square(said - right)
        note.values(f"target{k + 1}_error", off.mean(axis=(1, 2)))
        if count > 1:
            rows = left_out.squared(said, right, groups, inits)
            parts = {f"target{k + 1}_{name}": rows[name] for name in ("bias2", "variance")}
            note.of_examples(parts, groups, found.clusters)


def _selection_bias_variance(found: Predicted) -> dict[str, float]:
    """What a search may select by, on the validation set."""
    count = len(found.outputs)
    if count < 2:
        return {}
    rows = _squared(found, Groups.of(count, count))
    return {name: float(values.mean()) for name, values in rows.items()}


# -- time and cost ----------------------------------------------------------------------------------


def _convergence(
    trial: Trial, threshold: float | None, alive: np.ndarray, note: RecordWriter
) -> None:
    """Epochs until the train error is at `threshold`, or the train loss nine tenths down its own way.

    The median is null where half of the replicas never arrived; `epochs_at_least` counts those with the
    last epoch, and so is never null and never too large."""
    curve = trial.curve("train", "loss" if threshold is None else "error")
    if note.record["epochs"] is None or curve is None or not np.isfinite(curve[alive]).all():
        note.record["measures"]["epochs_to_convergence"] = None
        return
    found = convergence.epochs_to(curve[alive], trial.curves()["epochs"], threshold)
    note.interval("epochs_to_convergence", probes.median(found), found.per_replica)
    note.values("epochs_at_least", np.where(found.censored, found.last, found.per_replica))
    note.record["censored_replicas"] = int(found.censored.sum())
    note.record["convergence_error"] = threshold


def _cost(trial: Trial) -> dict[str, float]:
    """Operations by rule, and the examples that this machine trained on each second; nothing is known of a learner's."""
    trainer, record = trial.trainer, trial.history[-1]
    if trainer.cohort.way == "learner":
        return {}
    parameters, shape = trainer.cohort.parameter_count, trial.dataset.shape
    uses = families.uses(trial.configuration.model.family, shape)
    seen = record.step * min(trial.configuration.training.step_size, trial.members.shape[1])
    found = {
        "multiplications_per_prediction": cost.forward_multiplications(parameters, uses=uses),
        "training_operations": cost.training_flops(parameters, max(seen, 1), uses),
    }
    if trainer.seconds > 0:
        found["examples_per_second"] = round(seen * trainer.cohort.replicas / trainer.seconds, 1)
    return found
