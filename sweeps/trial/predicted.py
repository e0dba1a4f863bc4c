"""Measures of predictions alone, as the catalog lists them: on the test set, and on validation to select by.

A measure that cannot be taken is left out of the record, which then says whose fault it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from engram.data.dataset import Dataset
from engram.measures import catalog, metrics, new_data
from engram.measures.measure import HELD_OUT, Measure
from engram.measures.new_data import Sampling
from engram.sweeps.trial.record_writer import RecordWriter

TEST, VALIDATION = "test", "validation"


@dataclass(frozen=True)
class Predicted:
    """What the replicas say of a set and what is right: logits [R, N, C] and labels [N], or values [R, N, K] and [N, K], or
    logits [R, N, L] and bool [N, L] where an example may have several labels.

    In single precision as networks give it; what is made of it is made in double, of some examples at a time."""

    outputs: Tensor
    targets: np.ndarray
    classes: bool
    clusters: np.ndarray | None = None  # [N], which examples hang together; None: none do
    ordinal: bool = False  # classes stand in their order

    @property
    def shaped(self) -> np.ndarray:
        """Values (several labels: 0 and 1) as [N, K]; classes as they are."""
        if self.classes:
            return self.targets
        values = self.targets.astype(np.float32) if self.labels else self.targets
        return values.reshape(len(values), -1)

    @property
    def labels(self) -> bool:
        """Whether an example may have any number of labels."""
        return self.targets.dtype == np.bool_

    @cached_property
    def votes(self) -> np.ndarray:
        """The likeliest classes [R, N]."""
        return self.outputs.argmax(-1).numpy()

    def block(self, some: slice) -> np.ndarray:
        """Probabilities [R, n, C] of some examples, or values as they are."""
        return self._meant(self.outputs[:, some].double()).numpy()

    def squares(self, some: slice) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and targets of some examples as their squared error is taken: [R, n, K], and labels [n] or [n, K].

        Of ordered classes the probabilities of being above each of C - 1 ranks, so that the error is the ranked
        probability score, and grows with the distance."""
        predictions = self.block(some)
        if not self.ordinal:
            return predictions, self.shaped[some]
        above = 1 - predictions.cumsum(-1)[..., :-1]
        return above, (self.targets[some, None] > np.arange(above.shape[-1])).astype(float)

    @property
    def terms(self) -> int:
        """Over how many of `squares` a mean is taken; sums over classes stay sums (Brier)."""
        if self.ordinal:
            return self.outputs.shape[-1] - 1
        return 1 if self.classes else self.outputs.shape[-1]

    def _meant(self, outputs: Tensor) -> Tensor:
        """Outputs as probabilities, or values as they are."""
        if self.labels:
            return outputs.sigmoid()
        return outputs.softmax(-1) if self.classes else outputs

    def logs(self, some: slice) -> np.ndarray:
        """Logarithms of the probabilities [R, n, C] of some examples."""
        return self.outputs[:, some].double().log_softmax(-1).numpy()

    def predictions(self, kind: type[np.floating] = np.float64) -> np.ndarray:
        """Probabilities or values of all examples [R, N, C]."""
        found = np.empty(self.outputs.shape, kind)
        for replica, outputs in enumerate(self.outputs):
            found[replica] = self._meant(outputs.double())
        return found

    def target(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Predictions [R, N, 1] of one of several labels or values, and what is right [N, 1]."""
        return self._meant(self.outputs[..., k : k + 1].double()).numpy(), self.shaped[:, k : k + 1]

    def wrong(self) -> np.ndarray | None:
        """[R, N]: whether the likeliest class is wrong, or the share of wrong labels; None for values."""
        if self.labels:
            right = torch.from_numpy(self.targets)
            return np.stack([((o > 0) != right).double().mean(-1).numpy() for o in self.outputs])
        return self.votes != self.targets if self.classes else None

    def losses(self) -> np.ndarray:
        """[R, N]: nats of each example, or its squared error, mean over K."""
        targets = torch.from_numpy(np.asarray(self.shaped))
        found = np.empty(self.outputs.shape[:2])
        for replica, outputs in enumerate(self.outputs):
            values = outputs.double()
            if self.labels:
                each = binary_cross_entropy_with_logits(values, targets.double(), reduction="none")
                found[replica] = each.mean(-1)
            elif self.classes:
                found[replica] = cross_entropy(values, targets.long(), reduction="none")
            else:
                found[replica] = ((values - targets) ** 2).mean(-1)
        return found


class _Told(NamedTuple):
    """Predictions [R, N, C] and targets [N], or values [R, N, K] and [N, K]: what a measure is called with."""

    predictions: np.ndarray
    targets: np.ndarray
    clusters: np.ndarray | None


def take(
    asked: Sequence[str], sets: Mapping[str, Predicted], data: Dataset, note: RecordWriter
) -> None:
    """Every measure of predictions that is always taken, and those that are asked for.

    On `test` it has its own name; on `validation`, where a search may select by it, its mean is in the
    record's selection and it has a column validation_NAME."""
    measures = [m for m in catalog.of_predictions(asked) if m.asked or m.fits(data.task)]
    told = {name: _in_own_unit(found, data) for name, found in sets.items()} if measures else {}
    for measure in measures:
        if not measure.fits(data.task):
            note.warn(f"{measure.name} was not taken: it means nothing for {data.task}")
            continue
        if measure.own:
            facts = {"path": str(measure.of), "better": measure.better}
            note.record.setdefault("own_measures", {})[measure.name] = facts
        for name, found in told.items():
            if name != TEST and not measure.objective:
                continue
            column = measure.name if name == TEST else f"{HELD_OUT}{measure.name}"
            values = _values(measure, found, f"{column} was not taken: ", note)
            if values is None:
                note.record["measures"][column] = None
                continue
            note.values(column, values, _sampling(measure, found))
            if name == VALIDATION:
                note.record["selection"][measure.name] = float(values.mean())


def _sampling(measure: Measure, told: _Told) -> Sampling | None:
    """What the finite sample adds; a person's own function is not called again for it."""
    if not measure.new_data:
        return None
    predictions, targets, clusters = told
    function = measure.function()

    def without(kept: np.ndarray) -> float:
        return float(np.mean(function(predictions[:, kept], targets[kept])))

    return new_data.in_parts(without, len(targets), clusters=clusters)


def _in_own_unit(found: Predicted, data: Dataset) -> _Told:
    """Regression is measured in the target's own unit."""
    predictions = found.predictions()
    if found.classes or found.labels:
        return _Told(predictions, found.targets, found.clusters)
    values = data.in_own_unit(found.shaped.astype(np.float64))
    return _Told(data.in_own_unit(predictions), values, found.clusters)


def _values(measure: Measure, told: _Told, prefix: str, note: RecordWriter) -> np.ndarray | None:
    """[R], or None where any of it is undefined."""
    predictions, targets, _ = told
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
