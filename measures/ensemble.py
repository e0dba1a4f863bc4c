"""What averaging the cohort's predictions gains over its average member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays
from engram.measures.arrays import Floats, PerExample


@dataclass(frozen=True)
class Ensemble:
    """The averaged predictor against its members, on the same examples.

    error: 0-1 error of the averaged probabilities (classes) or squared error (values);
    member_error: the mean of the same over replicas; gain = member_error - error.
    squared = member_squared - ambiguity, exactly (Brier score for classes).
    prediction: [N, ...], the average itself."""

    error: float
    member_error: float
    squared: float
    member_squared: float
    ambiguity: float
    prediction: Floats
    per_example: PerExample

    @property
    def gain(self) -> float:
        """By how much the ensemble's error is below its average member's."""
        return self.member_error - self.error


def ensemble(predictions: Any, targets: Any) -> Ensemble:
    """Error of the averaged predictions, and the ambiguity that made it lower than the members' own.

    predictions: [R, N, C] probabilities with labels [N] as targets, or values [R, N, ...] with targets
    [N, ...]. Classes are predicted by the largest average, ties to the lowest label. ambiguity =
    mean_r (f_r - f̄)² ≥ 0 with divisor R, since it belongs to these R members.
    Refuses probabilities outside [0, 1] (log-probabilities, logits).
    Source: Krogh & Vedelsby 1995."""
    values = arrays.floats(predictions, "predictions")
    if values.ndim < 2:
        raise ValueError(f"predictions has shape {values.shape}; it must be [R, N] or [R, N, C]")
    array = arrays.plain(targets)
    mean = values.mean(axis=0)
    if values.ndim == 3 and array.ndim == 1:
        _, examples, classes = values.shape
        label = arrays.labels(array, "targets (labels)", examples=examples, classes=classes)
        if values.min() < 0 or values.max() > 1 + 1e-6:
            worst = values.min() if values.min() < 0 else values.max()
            raise ValueError(
                f"predictions holds {worst:g}; with labels they are probabilities in [0, 1]"
            )
        wanted = np.eye(classes)[label]
        wrong = (mean.argmax(axis=1) != label).astype(np.float64)
        member_wrong = (values.argmax(axis=2) != label).mean(axis=0)
    else:
        wanted = arrays.floats(array, "targets")
        arrays.same("targets", wanted.shape, "predictions after the replica axis", mean.shape)
        wrong, member_wrong = None, None
    squared = _total((mean - wanted) ** 2)
    member_squared = _total(((values - wanted) ** 2).mean(axis=0))
    ambiguity = _total(((values - mean) ** 2).mean(axis=0))
    per_example = PerExample(
        error=squared if wrong is None else wrong,
        member_error=member_squared if member_wrong is None else member_wrong,
        squared=squared,
        member_squared=member_squared,
        ambiguity=ambiguity,
    )
    return Ensemble(**per_example.means(*per_example), prediction=mean, per_example=per_example)


def _total(values: Floats) -> Floats:
    """Sum over outputs: [N, ...] -> [N]."""
    return values.reshape(values.shape[0], -1).sum(axis=1)
