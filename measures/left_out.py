"""The jackknife without copies: what is made of sums over replicas, with the sums of each group taken off.

Every function gives rows [1 + G, N]: of all replicas first, then without each group, each row what the plain function of
that name gives for these replicas (`bias_variance`, `ensemble`, `memorization`; tests hold them together). The work is
that of one pass over the replicas, not of G. Knows arrays and intervals' groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats, Ints

Rows = dict[str, Floats]
FLOATS_AT_ONCE = (
    2**20
)  # of predictions [R, n, C] looked at together: bounds memory, and stays near the caches


@dataclass(frozen=True)
class Groups:
    """Consecutive replicas that are left out together: G groups of whole units, or none where there are too few.

    starts: [G], the first replica of each; count: R; unit: replicas that are not independent of each other."""

    starts: Ints
    count: int
    unit: int = 1

    @classmethod
    def of(cls, count: int, unit: int = 1, groups: int = 32) -> Groups:
        """Those of `intervals.jackknife`; none below three units."""
        units = count // unit
        if units < 3:
            return cls(np.empty(0, np.int64), count, unit)
        parts = np.array_split(np.arange(units), intervals.group_count(units, groups))
        return cls(np.array([part[0] * unit for part in parts]), count, unit)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> Ints:
        """[G] replicas of each group."""
        return np.diff(self.starts, append=self.count)

    @property
    def left(self) -> Ints:
        """[1 + G] replicas in each row."""
        return np.append(self.count, self.count - self.sizes)

    def slices(self) -> Iterator[slice]:
        """The replicas of each group."""
        for start, size in zip(self.starts, self.sizes, strict=True):
            yield slice(int(start), int(start + size))

    def sums(self, values: Any) -> Floats:
        """[R, ...] -> [1 + G, ...]: over all replicas, then over those outside each group."""
        if not len(self):
            return values.sum(axis=0, dtype=np.float64)[None]
        of_groups = np.add.reduceat(values, self.starts, axis=0, dtype=np.float64)
        total = of_groups.sum(axis=0)
        return np.concatenate([total[None], total - of_groups])

    def pseudo(self, rows: Floats) -> Floats:
        """[1 + G, ...] -> [G, ...]: G·θ - (G-1)·θ without the group, where G is units over those of the group."""
        share = (self.count / self.sizes).reshape(-1, *[1] * (rows.ndim - 1))
        return share * rows[:1] - (share - 1) * rows[1:]

    def pseudo_values(self, rows: Floats) -> Floats:
        """The same of one number a row [1 + G], shifted so that their mean is that of all replicas."""
        found = self.pseudo(rows)
        return found - found.mean() + rows[0]


def in_blocks(of: Callable[[slice], Mapping[str, Floats]], examples: int, floats: int) -> Rows:
    """Rows of all examples, from those of some at a time; floats: numbers that one example's predictions have."""
    step = max(1, FLOATS_AT_ONCE // floats)
    blocks = [of(slice(start, start + step)) for start in range(0, examples, step)]
    return {name: np.concatenate([block[name] for block in blocks], axis=-1) for name in blocks[0]}


def squared(predictions: Any, targets: Any, groups: Groups, inits: int = 1) -> Rows:
    """`bias2` and `variance` of `bias_variance.squared`, and the error of the average of `ensemble.ensemble`.

    predictions: [R, N, C] with labels [N], or values [R, N, ...] with targets [N, ...]; inits: replicas that share a
    subset; they divide each group."""
    values = arrays.floats(predictions, "predictions")
    values = values.reshape(*values.shape[:2], -1)  # [R, N, K]
    array = arrays.plain(targets)
    labels = array.ndim == 1 and np.ndim(predictions) == 3
    wanted = np.eye(values.shape[2])[array] if labels else array.reshape(values.shape[1], -1)
    left = groups.left[:, None]
    sums = groups.sums(values)
    mean = sums / left[..., None]
    off = ((mean - wanted) ** 2).sum(axis=2)
    if inits > 1:
        parts = components(values.reshape(-1, inits, *values.shape[1:]), groups, inits)
        data, init = parts["variance_data"], parts["variance_init"]
        variance, of_mean = data + init, (inits * data + init) / left  # MSB/R
    else:
        with np.errstate(invalid="ignore"):  # a single replica: 0/0
            variance = _spread(values, groups) / (left - 1)
        of_mean = variance / left
    error = (sums.argmax(axis=2) != array).astype(np.float64) if labels else off
    return {"bias2": off - of_mean, "variance": variance, "ensemble_error": error}


def label_errors(probabilities: Any, labels: Any, groups: Groups) -> Rows:
    """`error`: share of each example's labels that the mean of the probabilities [R, N, L] has wrong; labels: [N, L]."""
    values = arrays.floats(probabilities, "probabilities")
    mean = groups.sums(values) / groups.left[:, None, None]
    return {"error": ((mean > 0.5) != np.asarray(labels, bool)).mean(axis=2)}


def class_errors(probabilities: Any, labels: Any, groups: Groups) -> Rows:
    """`error`: whether the mean of the probabilities [R, N, C] has another class likeliest than labels [N]."""
    mean = groups.sums(arrays.floats(probabilities, "probabilities"))
    return {"error": (mean.argmax(axis=2) != np.asarray(labels)).astype(np.float64)}


def components(predictions: Any, groups: Groups, inits: int) -> Rows:
    """`variance_data` and `variance_init` of `bias_variance.components`; predictions: [D, S, N, ...], S = inits > 1.

    groups: of the replicas D·S in their order; each holds whole draws."""
    values = arrays.floats(predictions, "predictions")
    draws = values.shape[0]
    values = values.reshape(draws, inits, values.shape[2], -1)
    by_draw = values.mean(axis=1)  # [D, N, K]
    of_draws = Groups(groups.starts // inits, draws, 1)
    left = of_draws.left[:, None]
    within = ((values - by_draw[:, None]) ** 2).sum(axis=(1, 3))  # [D, N]
    init = of_draws.sums(within) / (left * (inits - 1))
    between = np.full_like(init, math.nan)
    np.divide(inits * _spread(by_draw, of_draws), left - 1, out=between, where=left > 1)
    return {"variance_data": (between - init) / inits, "variance_init": init}


def zero_one(predicted: Ints, labels: Ints, classes: int, groups: Groups) -> Rows:
    """`bias_01` and `variance_01`: bias and variance of `bias_variance.zero_one`; predicted: [R, N]."""
    examples = np.arange(predicted.shape[1])
    place = examples * classes + predicted  # [R, N]
    size = len(examples) * classes

    def count(votes: Ints) -> Ints:
        return np.bincount(votes.ravel(), minlength=size).reshape(-1, classes)

    total = count(place)
    votes = np.stack([total, *(total - count(place[some]) for some in groups.slices())])
    main = votes.argmax(axis=2)  # ties to the lowest label
    most = np.take_along_axis(votes, main[..., None], 2)[..., 0]
    return {
        "bias_01": (main != labels).astype(np.float64),
        "variance_01": 1 - most / groups.left[:, None],
    }


def cross_entropy(log_probabilities: Any, labels: Ints, groups: Groups) -> Rows:
    """`bias_ce` and `variance_ce`: those of `bias_variance.cross_entropy`; log_probabilities: [R, N, C]."""
    values = arrays.floats(log_probabilities, "log_probabilities", ndim=3)
    left = groups.left[:, None]
    mean = groups.sums(values) / left[..., None]  # [1 + G, N, C]
    top = mean.max(axis=2, keepdims=True)
    log_z = np.log(np.exp(mean - top).sum(axis=2)) + top[..., 0]
    risk = -mean[:, np.arange(len(labels)), labels]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(left > 1, -log_z * left / (left - 1), math.nan)
    return {"bias_ce": risk - variance, "variance_ce": variance}


def memorization(score: Any, inside: Bools, groups: Groups) -> Floats:
    """`memorization.memorization`: [R, N], [R, N] -> [1 + G, N], NaN where a side is empty."""
    values = arrays.floats(score, "score", ndim=2)
    count, within, total = (groups.sums(v) for v in (inside, np.where(inside, values, 0), values))
    outside = groups.left[:, None] - count
    ours, others = (np.where(some > 0, some, math.nan) for some in (count, outside))
    return within / ours - (total - within) / others


def _spread(values: Floats, groups: Groups) -> Floats:
    """Σ(f_r - f̄)² of each row, summed over outputs: [R, N, K] -> [1 + G, N]. About the mean of all: nothing cancels."""
    centered = values - values.mean(axis=0)
    squares = groups.sums((centered**2).sum(axis=2))
    return squares - (groups.sums(centered) ** 2).sum(axis=2) / groups.left[:, None]
