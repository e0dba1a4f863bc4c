"""What a replica knows of an example only because it was trained on it.

Replicas differ in their subsets, so each example is inside for some and outside for others. An example that no
replica trained on, or that all did, has no memorization: NaN, not 0, and means leave it out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Memorization:
    """Memorization of the pool.

    per_example, standard_error, in_accuracy, out_accuracy: [N], NaN where undefined; mean: over the
    `defined` examples, its interval over replicas; per_replica [R]: values whose mean is `mean.mean`, to be
    paired with another trial on the same subsets."""

    per_example: Floats
    standard_error: Floats
    in_accuracy: Floats
    out_accuracy: Floats
    mean: Interval
    per_replica: Floats
    defined: int


def memorization(correct: Any, member: Any) -> Floats:
    """Accuracy on each example when trained on it minus when held out.

    correct, member: bool [R, N] -> float [N] in [-1, 1], NaN where one side is empty. Counts are accepted
    as `member` (bootstrap: in = at least once), and any per-example score as `correct` (for regression
    minus the squared error, for a smoother value the probability of the label; the range is theirs then).
    When each replica trains on as many examples and each example is in as many replicas, the mean is
    in-accuracy - out-accuracy exactly. Source: Feldman & Zhang 2020, arXiv:2008.03703, eq. 1."""
    score, inside = _pair(correct, member)
    return _mean(score, inside) - _mean(score, ~inside)


def standard_error(correct: Any, member: Any) -> Floats:
    """Standard error of each example's memorization: [R, N], [R, N] -> [N].

    √(s²_in/n_in + s²_out/n_out) with divisors n - 1; NaN where a side has fewer than two replicas, 0 where
    all agree (few replicas: read `error_bound` beside it)."""
    score, inside = _pair(correct, member)
    return np.sqrt(_mean_variance(score, inside) + _mean_variance(score, ~inside))


def influence(correct_test: Any, member: Any) -> Floats:
    """Accuracy on each test example with each training example inside minus outside.

    correct_test: [R, T]; member: [R, N] -> [T, N] in [-1, 1], NaN columns where a side is empty.
    Takes T·N·8 bytes: pass the test examples of interest. Source: Feldman & Zhang 2020, section 2."""
    score, inside = _cross(correct_test, member)
    return _cross_mean(score, inside) - _cross_mean(score, ~inside)


def influence_standard_error(correct_test: Any, member: Any) -> Floats:
    """Standard error of each influence, as `standard_error`: [R, T], [R, N] -> [T, N]."""
    score, inside = _cross(correct_test, member)
    total = np.zeros((score.shape[1], inside.shape[1]))
    for side in (inside, ~inside):
        count = side.sum(axis=0)
        spread = _cross_mean(score**2, side) - _cross_mean(score, side) ** 2
        total += np.maximum(spread, 0) / np.where(
            count > 1, count - 1.0, math.nan
        )  # round-off only
    return np.sqrt(total)


def summary(correct: Any, member: Any, level: float = 0.95, *, inits: int = 1) -> Memorization:
    """Memorization with its standard errors, and the mean over defined examples with its interval.

    correct, member: [R, N]. The interval is over replicas: each one's share in the mean is its
    infinitesimal jackknife value, residuals scaled by √(n/(n-1)) per side; it covers what other draws
    and seeds would change for this pool. inits: networks per draw; 2 for complementary pairs too.
    Source: Feldman & Zhang 2020, eq. 1; Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans."""
    score, inside = _pair(correct, member)
    in_mean, out_mean = _mean(score, inside), _mean(score, ~inside)
    per_example = in_mean - out_mean
    defined = ~np.isnan(per_example)
    error = np.sqrt(_mean_variance(score, inside) + _mean_variance(score, ~inside))
    if not defined.any():
        nothing = Interval(math.nan, math.nan, math.nan, math.nan, 0, level)
        unknown = np.full(score.shape[0], math.nan)
        return Memorization(per_example, error, in_mean, out_mean, nothing, unknown, 0)
    values = per_example[defined].mean() + (
        _share(score[:, defined], inside[:, defined])
        - _share(score[:, defined], ~inside[:, defined])
    )
    mean = intervals.t_interval(values, level, inits=inits)
    if len(values) // inits < 3:
        # Two replicas mirror each other, whatever their spread: it is not known.
        mean = Interval(mean.mean, math.nan, math.nan, math.nan, mean.n, level)
    return Memorization(per_example, error, in_mean, out_mean, mean, values, int(defined.sum()))


def error_bound(p: float, replicas: int) -> float:
    """Worst root-mean-square error of one example's memorization from `replicas` networks.

    p: share of the pool in each subset (m/n). √(1/(pt) + 1/((1-p)t) + ½·e^(-min(p,1-p)·t/16)); above 0.9
    for 8 replicas, 0.36 for 64: aggregate below dozens. Source: Feldman & Zhang 2020, lemma 2.1."""
    p, t = _share_and_count(p, replicas)
    return math.sqrt(1 / (p * t) + 1 / ((1 - p) * t) + math.exp(-min(p, 1 - p) * t / 16) / 2)


def worst_standard_error(p: float, replicas: int) -> float:
    """Binomial standard error of one example's memorization at its largest (both accuracies ½)."""
    p, t = _share_and_count(p, replicas)
    return math.sqrt(1 / (4 * p * t) + 1 / (4 * (1 - p) * t))


def _share_and_count(p: float, replicas: int) -> tuple[float, int]:
    if replicas < 1:
        raise ValueError(f"replicas = {replicas}; it must be at least 1")
    return arrays.within("p", p, 0, 1), replicas


def _pair(correct: Any, member: Any) -> tuple[Floats, Bools]:
    score = arrays.floats(correct, "correct", ndim=2)
    return score, arrays.members(member, "member", score.shape)


def _cross(correct_test: Any, member: Any) -> tuple[Floats, Bools]:
    score = arrays.floats(correct_test, "correct_test", ndim=2)
    mask = arrays.floats(member, "member", ndim=2)
    arrays.same("member", mask.shape[:1], "correct_test (replicas)", score.shape[:1])
    return score, arrays.members(mask, "member", mask.shape)


def _mean(score: Floats, side: Bools) -> Floats:
    """Mean over the replicas of one side: [R, N] -> [N], NaN where there are none."""
    count = side.sum(axis=0)
    return np.where(side, score, 0).sum(axis=0) / np.where(count > 0, count, math.nan)


def _mean_variance(score: Floats, side: Bools) -> Floats:
    """Squared standard error of that mean."""
    count = side.sum(axis=0).astype(np.float64)
    count[count < 2] = math.nan
    residual = np.where(side, score - _mean(score, side), 0)
    return (residual**2).sum(axis=0) / (count * (count - 1))


def _cross_mean(score: Floats, side: Bools) -> Floats:
    """Mean test score over the replicas of one side of each training example: [T, N]."""
    count = side.sum(axis=0)
    return (score.T @ side.astype(np.float64)) / np.where(count > 0, count, math.nan)


def _share(score: Floats, side: Bools) -> Floats:
    """What each replica adds to the mean of one side, times R: [R, N] -> [R], summing to 0."""
    count = side.sum(axis=0)
    residual = np.where(side, score - _mean(score, side), 0)
    scale = 1 / np.sqrt(count * np.maximum(count - 1, 1))
    replicas = score.shape[0]
    # t_interval divides by R - 1 where each side already has its own n - 1.
    return replicas * (residual * scale).mean(axis=1) * math.sqrt((replicas - 1) / replicas)
