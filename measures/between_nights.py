"""Noise between nights: how much a measure moves from one night to the next when nothing happened.

Replicas say how a measure would move with other subsets and seeds. What all replicas of a night share
(its data, its test set, its machine) they cannot say: only other nights can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from engram.measures.comparison import prior_of
from engram.measures.intervals import Interval

# Degrees of freedom that a variance may borrow from others, which are correlated: so many, or so many times its own.
MOST_BORROWED, MOST_TIMES = 40, 4


def between(means: Sequence[float], eras: Sequence[int]) -> tuple[float, int]:
    """Variance of a measure between nights about the mean of their era, and its degrees of freedom.

    means: [B], one a night; eras: [B], the same number for nights between which nothing real happened.
    (0, 0) where every era has one night: nothing is known then."""
    array, labels = np.asarray(means, float), np.asarray(eras)
    known = np.unique(labels)
    freedom = len(array) - len(known)
    if freedom < 1:
        return 0.0, 0
    squares = sum(
        float(((array[labels == e] - array[labels == e].mean()) ** 2).sum()) for e in known
    )
    return squares / freedom, freedom


def moderated(variances: Sequence[float], freedom: int) -> tuple[np.ndarray, float]:
    """Variances pulled towards what they have in common, and the degrees of freedom that each then has.

    variances: [S], in comparable units, each with `freedom` degrees of freedom; 0 stays 0. Source: Smyth 2004."""
    found = np.asarray(variances, float)
    if freedom < 1:
        return found, float(freedom)
    weight, common = prior_of(found, freedom) if found.size else (0.0, 0.0)
    weight = min(weight, max(MOST_BORROWED, MOST_TIMES * freedom))
    pulled = (freedom * found + weight * common) / (freedom + weight)
    return np.where(found > 0, pulled, 0.0), freedom + weight


def widened(interval: Interval, variance: float, freedom: float) -> Interval:
    """The interval of the same mean with a further, independent source of noise in it.

    variance: of that source, in squared units of the mean; freedom: its degrees of freedom, 0 where it is
    known rather than estimated. Degrees of freedom are combined as in Welch 1947 (Satterthwaite), those
    of the interval taken as n - 1."""
    if not interval.known or variance <= 0:
        return interval
    own = interval.se**2
    total = own + variance
    shares = own**2 / (interval.n - 1) + (variance**2 / freedom if freedom else 0.0)
    t = (
        special.stdtrit(total**2 / shares, (1 + interval.level) / 2)
        if shares
        else special.ndtri((1 + interval.level) / 2)
    )
    half = float(t) * math.sqrt(total)
    mean = interval.mean
    return Interval(mean, mean - half, mean + half, math.sqrt(total), interval.n, interval.level)
