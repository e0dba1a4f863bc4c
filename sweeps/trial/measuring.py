"""From a trained cohort to a record: every measure with its interval, over the replicas that did not diverge.

Knows neither Ray nor MLflow nor files.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np
import torch

from engram.measures import bias_variance, convergence, cost, ensemble, intervals, new_data
from engram.measures.new_data import Sampling
from engram.models import families
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import predicted, probes, tokens
from engram.sweeps.trial.examples import measure_examples
from engram.sweeps.trial.predicted import Predicted
from engram.sweeps.trial.record_writer import RecordWriter
from engram.sweeps.trial.trial import Trial

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
        "task": "classification" if trainer.classification else "regression",
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
    return Result(record, note.arrays)


def _measure_alive(
    trial: Trial, wanted: MeasuresConfig, alive: np.ndarray, note: RecordWriter
) -> None:
    trainer, selection = trial.trainer, note.record["selection"]
    # Early stopping put the best weights back: the last report may describe others.
    final = trainer.evaluate() if trainer.early_stopping else trial.history[-1]
    error = {name: values.numpy()[alive] for name, values in final.error.items()}
    loss = {name: values.numpy()[alive] for name, values in final.loss.items()}
    said = {name: _said(trial, name, alive) for name in error if name != "train"}
    outputs = {name: found for name, (found, _) in said.items()}
    unit = note.unit_of(int(alive.sum()))
    sampled = {"train": (new_data.NONE, new_data.NONE)} | {
        name: _sampling(found, right, unit) for name, (found, right) in said.items()
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
        _looked_at(trial, said, note)
    selection.update(
        train_error=float(error["train"].mean()), train_loss=float(loss["train"].mean())
    )
    test = _probabilities(trial, outputs["test"])
    test_targets = said["test"][1]
    sets = {predicted.TEST: Predicted(test, test_targets)}
    _bias_variance(trial, test, test_targets, note, alive)
    if trainer.classification:
        _other_decompositions(trial, outputs["test"], test_targets, note)
    if "validation" in error:
        selection.update(
            validation_error=float(error["validation"].mean()),
            validation_loss=float(loss["validation"].mean()),
            generalization_gap=float((error["validation"] - error["train"]).mean()),
        )
        validation = _probabilities(trial, outputs["validation"])
        targets = said["validation"][1]
        selection.update(_selection_bias_variance(validation, targets))
        sets[predicted.VALIDATION] = Predicted(validation, targets)
    if trainer.classification and test.shape[-1] <= MOST_CLASSES:
        note.record["class_recall"] = {
            name: _class_recall(found.predictions, found.targets) for name, found in sets.items()
        }
    predicted.take(wanted.own, sets, trial.dataset, note)
    _convergence(trial, wanted.convergence_error, alive, note)
    if wanted.predictions:
        note.keep("test_predictions", test.astype(np.float16))
    measure_examples(trial, wanted, alive, note)


def _chance_error(trial: Trial) -> float:
    """Error of the constant answer on the pool: the commonest class, or the mean."""
    targets = trial.targets[trial.pool_ids]
    if trial.trainer.classification:
        return float(1 - np.bincount(targets.reshape(-1)).max() / targets.size)
    return float(np.var(targets, axis=0, dtype=np.float64).mean())


def _noise_error(trial: Trial) -> float:
    """Error on the pool's labels that known wrong labels alone make: of whoever knows the right ones."""
    given, right = (t[trial.pool_ids] for t in (trial.targets, trial.dataset.targets))
    if trial.trainer.classification:
        return float((given != right).mean())
    return float(((given - right) ** 2).mean(dtype=np.float64))


def _class_recall(outputs: np.ndarray, labels: np.ndarray) -> list[float | None]:
    """Share of each class's examples that are found, mean over replicas; None for a class without examples."""
    right = outputs.argmax(-1) == labels  # [R, N]
    found = [right[:, labels == k] for k in range(outputs.shape[-1])]
    return [round(float(f.mean()), 5) if f.size else None for f in found]


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
    """What replicas tell of other pools; NaN where examples hang together and what is new would be a group or a time."""
    division = trial.dataset.division
    if trial.dataset.every_step:  # tokens of a window hang together
        return math.nan
    if division is not None and (division.groups is not None or division.times is not None):
        return math.nan
    draw = trial.configuration.replicas.draw
    return new_data.pool_share(draw, trial.members.shape[1], len(trial.pool_ids))


# -- errors and their parts -------------------------------------------------------------------------


def _sampling(outputs: torch.Tensor, targets: np.ndarray, unit: int) -> tuple[Sampling, Sampling]:
    """What a finite sample adds to the variance of its error and of its loss; outputs: logits or values [R, N, C]."""
    if targets.dtype.kind == "f":
        squares = ((outputs.numpy() - _shaped(targets)) ** 2).reshape(*outputs.shape[:2], -1)
        both = new_data.crossed(squares.mean(axis=2), unit)
        return both, both
    wrong = outputs.numpy().argmax(-1) != targets
    losses = -torch.log_softmax(outputs, -1).numpy()[:, np.arange(len(targets)), targets]
    return new_data.crossed(wrong, unit), new_data.crossed(losses, unit)


def _said(trial: Trial, name: str, alive: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """Logits or values [R, N, C] of the replicas that did not diverge, and what is right; of windows, token by token."""
    if trial.dataset.every_step:
        outputs, targets = tokens.by_token(trial, name)
    else:
        outputs, targets = trial.outputs(name), trial.targets_of(name)
    return outputs[torch.from_numpy(alive)].double(), targets


def _looked_at(
    trial: Trial, said: dict[str, tuple[torch.Tensor, np.ndarray]], note: RecordWriter
) -> None:
    """Whether measures of predictions saw all tokens."""
    for name, (_, targets) in said.items():
        if targets.size < (all_ := trial.targets_of(name).size):
            note.warn(
                f"bias, variance and other measures of {name} predictions look at {targets.size:,} of its "
                f"{all_:,} tokens, in windows chosen at random; error and loss are of all"
            )


def _probabilities(trial: Trial, outputs: torch.Tensor) -> np.ndarray:
    """Probabilities [R, N, C], or values as they are."""
    return (outputs.softmax(-1) if trial.trainer.classification else outputs).numpy()


def _bias_variance(
    trial: Trial,
    predictions: np.ndarray,
    targets: np.ndarray,
    note: RecordWriter,
    alive: np.ndarray,
) -> None:
    targets = _shaped(targets)
    if len(predictions) >= 2:
        # Networks of one draw are not independent; where some were lost, each counts for itself.
        shared = trial.configuration.replicas.inits if alive.all() else 1
        shared = shared if len(predictions) >= 2 * shared else 1
        decomposed = bias_variance.squared(predictions, targets, shared)

        def parts(p: np.ndarray) -> dict[str, np.ndarray]:
            found = bias_variance.squared(p, targets, shared).per_example
            return {name: found[name] for name in ("bias2", "variance")}

        note.of_examples(parts, predictions)
        sampling = intervals.test_sampling_se(decomposed.per_example["risk"])
        note.record["test_sampling_se"] = {"squared_risk": sampling}
    inits = trial.configuration.replicas.inits
    if inits > 1 and alive.all():
        split = predictions.reshape(-1, inits, *predictions.shape[1:])

        def split_parts(p: np.ndarray) -> dict[str, np.ndarray]:
            found = bias_variance.components(p).per_example
            return {name: found[name] for name in ("variance_data", "variance_init")}

        note.of_examples(split_parts, split, unit=1)
    if len(predictions) > 1:
        note.of_examples(
            lambda p: {"ensemble_error": ensemble.ensemble(p, targets).per_example["error"]},
            predictions,
        )
    else:
        note.record["measures"]["ensemble_error"] = None


def _other_decompositions(
    trial: Trial, outputs: torch.Tensor, labels: np.ndarray, note: RecordWriter
) -> None:
    """Bias and variance of the 0-1 loss (Domingos) and of the cross-entropy in nats, on test."""
    if len(outputs) < 2:
        return
    votes = outputs.argmax(-1).numpy()
    logs = torch.log_softmax(outputs, -1).numpy()
    kinds: list[tuple[str, Any, np.ndarray]] = [("01", bias_variance.zero_one, votes)]
    if trial.gives_probabilities:
        kinds.append(("ce", bias_variance.cross_entropy, logs))
    for kind, function, values in kinds:

        def parts(v: np.ndarray, kind: str = kind, function: Any = function) -> dict[str, Any]:
            found = function(v, labels).per_example
            return {f"{name}_{kind}": found[name] for name in ("bias", "variance")}

        note.of_examples(parts, values)


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
    parameters, shape = trainer.cohort.parameter_count, trial.dataset.inputs.shape[1:]
    uses = families.uses(trial.configuration.model.family, shape)
    seen = record.step * min(trial.configuration.training.step_size, trial.members.shape[1])
    found = {
        "multiplications_per_prediction": cost.forward_multiplications(parameters, uses=uses),
        "training_operations": cost.training_flops(parameters, max(seen, 1), uses),
    }
    if trainer.seconds > 0:
        found["examples_per_second"] = round(seen * trainer.cohort.replicas / trainer.seconds, 1)
    return found
