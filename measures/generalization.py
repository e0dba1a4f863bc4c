"""The generalization gap: what a replica loses between its own training subset and the test set.

Both sides must come from eval mode at the final parameters: accuracy measured while training, under dropout,
makes a false negative gap. Knows nothing of networks; errors, losses and membership come in as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Floats
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Gap:
    """test - train: `per_replica` [R], and its mean with a t interval."""

    per_replica: Floats
    interval: Interval


def gap(train: Any, test: Any, level: float = 0.95, *, inits: int = 1) -> Gap:
    """test - train per replica, in whatever both are: error rates, nats or squared units.

    train, test: [R]. Positive when the test side is worse. `inits`: networks per draw, averaged first.
    Source: Jiang et al. 2020, arXiv:1912.02178 (there train - test of accuracy)."""
    before = arrays.floats(train, "train", ndim=1)
    after = arrays.floats(test, "test", ndim=1)
    arrays.same("test", after.shape, "train (one value per replica)", before.shape)
    values = after - before
    return Gap(values, intervals.t_interval(values, level, inits=inits))


def errors(predicted: Any, labels: Any, member: Any = None) -> Floats:
    """Error rate of each replica, on all examples or on its own subset.

    predicted: [R, N] classes; labels: [N]; member: [R, N] bool or counts (bootstrap) -> [R] in [0, 1],
    NaN for a replica without examples."""
    votes = arrays.integers(predicted, "predicted", ndim=2)
    target = arrays.labels(labels, "labels", examples=votes.shape[1])
    return _average((votes != target).astype(np.float64), member)


def losses(log_probabilities: Any, labels: Any, member: Any = None) -> Floats:
    """Cross-entropy of each replica in nats, on all examples or on its own subset.

    log_probabilities: [R, N, C]; labels: [N]; member: [R, N] bool or counts -> [R], at least 0."""
    values = arrays.floats(log_probabilities, "log_probabilities", ndim=3)
    _, examples, classes = values.shape
    target = arrays.labels(labels, "labels", examples=examples, classes=classes)
    return _average(-values[:, np.arange(examples), target], member)


def squared_errors(predictions: Any, targets: Any, member: Any = None) -> Floats:
    """Mean squared error of each replica (regression), summed over outputs.

    predictions: [R, N, ...]; targets: [N, ...]; member: [R, N] bool or counts -> [R], at least 0."""
    values = arrays.floats(predictions, "predictions")
    wanted = arrays.floats(targets, "targets")
    arrays.same("targets", wanted.shape, "predictions after the replica axis", values.shape[1:])
    square = (values - wanted) ** 2
    return _average(square.reshape(*square.shape[:2], -1).sum(axis=2), member)


def _average(per_example: Floats, member: Any) -> Floats:
    """Mean over each replica's members: [R, N] -> [R]."""
    if member is None:
        return per_example.mean(axis=1)
    weight = arrays.floats(member, "member", ndim=2)
    arrays.same("member", weight.shape, "predictions", per_example.shape)
    if weight.min() < 0:
        raise ValueError(f"member holds {weight.min()}; it counts how often an example is used")
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (per_example * weight).sum(axis=1) / np.where(total > 0, total, np.nan)
