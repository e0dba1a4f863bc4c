"""How much a network can hold: the largest set of random labels it fits, against its parameter count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Capacity:
    """per_replica: [R], the largest size fitted, 0 if not even the smallest; censored: [R], the largest size
    tried was fitted, so the capacity is at least that; interval over replicas, a lower bound if censored."""

    per_replica: Floats
    censored: Bools
    interval: Interval


@dataclass(frozen=True)
class Growth:
    """capacity = factor · parameters^exponent: the exponent's interval, and capacity per parameter [P]."""

    exponent: Interval
    factor: float
    per_parameter: Floats


def largest_fitted(
    sizes: Any, accuracies: Any, threshold: float = 0.99, level: float = 0.95
) -> Capacity:
    """The largest randomly labelled set that each replica fits.

    sizes: [S], increasing; accuracies: [S, R], training accuracy on random labels at the end; fitted means
    at least `threshold`, at this size and every smaller one. Resolved no finer than the sizes, and only
    as good as the training was long: report the epochs beside it.
    Source: Zhang et al. 2017, arXiv:1611.03530, section 2; Arpit et al. 2017, arXiv:1706.05394."""
    sizes = _sizes(sizes)
    values = arrays.floats(accuracies, "accuracies", ndim=2)
    arrays.same("accuracies", values.shape[:1], "sizes", sizes.shape)
    arrays.within("threshold", threshold, 0, 1, ends=True)
    run = np.cumprod(values >= threshold, axis=0).sum(axis=0)  # sizes fitted in a row
    found = np.concatenate([[0.0], sizes])[run]
    return Capacity(found, run == len(sizes), intervals.t_interval(found, level))


def growth(parameters: Any, capacities: Any, level: float = 0.95) -> Growth:
    """How capacity grows with the parameter count: a straight line in logarithms.

    parameters: [P] counts; capacities: [P], or [P, R], averaged over replicas. Exponent 1: a fixed number of
    labels per parameter. Needs three networks that fitted anything (capacity above 0); the interval is that
    of least squares, NaN for two. Refuses counts or capacities that leave fewer than two networks."""
    from scipy import stats

    arrays.within("level", level, 0, 1)
    counts = arrays.floats(parameters, "parameters", ndim=1)
    found = arrays.floats(capacities, "capacities", ndim=(1, 2))
    arrays.same("capacities", found.shape[:1], "parameters", counts.shape)
    if counts.min() <= 0:
        raise ValueError(f"parameters holds {counts.min():g}; a count is at least 1")
    found = found.mean(axis=1) if found.ndim == 2 else found
    some = found > 0
    if len(np.unique(counts[some])) < 2:
        raise ValueError(
            f"capacities = {found.tolist()}; at least two networks of different size must fit something"
        )
    line = stats.linregress(np.log(counts[some]), np.log(found[some]))
    n = int(some.sum())
    half = float(stats.t.ppf((1 + level) / 2, n - 2)) * line.stderr if n > 2 else math.nan
    slope = float(line.slope)
    error = float(line.stderr) if n > 2 else math.nan
    exponent = Interval(slope, slope - half, slope + half, error, n, level)
    return Growth(exponent, math.exp(line.intercept), found / counts)


def _sizes(sizes: Any) -> Floats:
    values = arrays.floats(sizes, "sizes", ndim=1)
    if values[0] <= 0 or (np.diff(values) <= 0).any():
        raise ValueError(f"sizes = {values.tolist()}; they must be positive and increase")
    return values
