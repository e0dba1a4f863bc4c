"""Measures of predictions alone, as the catalog lists them: on the test set, and on validation to select by.

A measure that cannot be taken is left out of the record, which then says whose fault it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engram.data.dataset import Dataset
from engram.measures import catalog, metrics, new_data
from engram.measures.measure import HELD_OUT, Measure
from engram.measures.new_data import Sampling
from engram.sweeps.trial.record_writer import RecordWriter

TEST, VALIDATION = "test", "validation"


class Predicted(NamedTuple):
    """What the replicas say of a set and what is right: [R, N, C] and [N], or values [R, N, K] and [N, K]."""

    predictions: np.ndarray
    targets: np.ndarray


def take(
    asked: Sequence[str], sets: Mapping[str, Predicted], data: Dataset, note: RecordWriter
) -> None:
    """Every measure of predictions that is always taken, and those that are asked for.

    On `test` it has its own name; on `validation`, where a search may select by it, its mean is in the
    record's selection and it has a column validation_NAME."""
    classification = data.classes is not None
    for measure in catalog.of_predictions(asked):
        if not measure.fits(classification):
            kind = "classification" if classification else "regression"
            note.warn(f"{measure.name} was not taken: it means nothing for {kind}")
            continue
        if measure.own:
            facts = {"path": str(measure.of), "better": measure.better}
            note.record.setdefault("own_measures", {})[measure.name] = facts
        for name, found in sets.items():
            if name != TEST and not measure.objective:
                continue
            column = measure.name if name == TEST else f"{HELD_OUT}{measure.name}"
            values = _values(measure, found, data, f"{column} was not taken: ", note)
            if values is None:
                note.record["measures"][column] = None
                continue
            note.values(column, values, _sampling(measure, found, data))
            if name == VALIDATION:
                note.record["selection"][measure.name] = float(values.mean())


def _sampling(measure: Measure, found: Predicted, data: Dataset) -> Sampling | None:
    """What the finite sample adds; a person's own function is not called again for it."""
    if not measure.new_data:
        return None
    predictions, targets = _in_own_unit(found, data)
    function = measure.function()
    return new_data.in_parts(
        lambda kept: float(np.mean(function(predictions[:, kept], targets[kept]))), len(targets)
    )


def _in_own_unit(found: Predicted, data: Dataset) -> Predicted:
    """Regression is measured in the target's own unit."""
    predictions, targets = found
    if data.classes is not None:
        return found
    shape = (len(targets), predictions.shape[-1])
    values = data.in_own_unit(targets.reshape(shape).astype(np.float64))
    return Predicted(data.in_own_unit(predictions), values)


def _values(
    measure: Measure, found: Predicted, data: Dataset, prefix: str, note: RecordWriter
) -> np.ndarray | None:
    """[R], or None where any of it is undefined."""
    predictions, targets = _in_own_unit(found, data)
    function = measure.function()
    if measure.own:
        try:
            return metrics.own(function, predictions, targets)
        except metrics.OwnMetricError as error:
            note.warn(f"{prefix}{error}")
            return None
    values = np.asarray(function(predictions, targets), dtype=np.float64)
    if values.shape != predictions.shape[:1]:
        raise ValueError(
            f"{measure.of} returned shape {values.shape} for {len(predictions)} replicas"
        )
    if not np.isfinite(values).all():
        note.warn(f"{prefix}undefined on these {len(targets)} examples")
        return None
    return values
