"""Many configurations over the same replicas: which can be told from the best, at one error rate for the whole board.

A board picks its leader by looking, and then compares everybody with it. Intervals of single comparisons are too
narrow for that: of 20 equal configurations they split 80 % of boards. Here the picking is part of the test."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from engram.measures import arrays, intervals
from engram.measures.arrays import Floats, Ints

ALPHA = 0.05  # of a whole board: equal configurations split into several groups at most this often
MOST_DRAWS, FEWEST_DRAWS = 999, 99  # rotations; fewer for large boards
DRAWN_VALUES = 500_000  # rotations times rows that a board may take
MOST_STEPS = 20  # of the step-down; stopping early only ties more
FEWEST_ROWS = 5  # whose variances say what variances have in common


def groups(values: Any, alpha: float = ALPHA, *, seed: int = 0) -> Ints:
    """The tie group of each row, from 1: a row belongs to the first group whose leader it cannot be told from.

    values: [K, R], rows in the order of their means (the lowest first), replica r of all rows with the
    same subset and seeds -> [K]. The leader of a group is its first row. Groups need not be adjacent: a noisy row
    can tie with the first leader although a steadier one before it does not. One replica tells nothing apart.

    Method: t of each row against its leader, with the variance of the pair moderated towards that of all rows
    (empirical Bayes), compared with the distribution of the largest such t when the replicas are rotated at
    random, leader picked anew each time. If errors are normal and the same from replica to replica (with any
    variances and correlations between configurations), rotating leaves the distribution of equal configurations as it
    is, so more than one group appears with probability `alpha` at most: exactly so for the moderated t with a given
    prior. Then step down: rows already told apart leave each other's comparison, which cannot lower the limit
    below what the configurations equal to the leader need, as long as none of them was rejected (Romano & Wolf 2005).
    For two rows it is the paired t test.
    Source: Hsu 1984 and 1996 (comparison with the best); Langsrud 2005, Wu et al. 2010, Bioinformatics 26(17)
    (rotation tests); Smyth 2004 (moderation). Error rates and power: docs/measures.md, benchmarks/statistics.py."""
    arrays.within("alpha", alpha, 0, 1)
    table = arrays.floats(values, "values", ndim=2)
    means = table.mean(axis=1)
    if (np.diff(means) < -intervals.ROUNDING * np.abs(table).max()).any():
        raise ValueError("the rows of values are not in the order of their means, the lowest first")
    count, replicas = table.shape
    if replicas < 2 or count < 2:
        return np.ones(count, np.int64)
    largest = float(np.abs(table).max())
    if not largest:  # every value is zero: nothing differs, and t would be 0/0
        return np.ones(count, np.int64)
    board = _Board(table / largest, alpha, seed)  # squares of any unit stay within range
    partition = [np.arange(count)]
    for _ in range(MOST_STEPS):
        finer = board.partition(board.limit(partition), partition)
        if len(finer) <= len(partition):
            break
        partition = finer
    found = np.empty(count, np.int64)
    for number, rows in enumerate(partition, 1):
        found[rows] = number
    return found


class _Board:
    """The rows less the mean of each replica, and the same seen from random directions of replica space."""

    def __init__(self, table: Floats, alpha: float, seed: int):
        self.rows = table - table.mean(axis=0)  # [K, R]
        count, replicas = table.shape
        self.alpha, self.freedom = alpha, replicas - 1
        self.tiny = intervals.ROUNDING * float(np.abs(table).max())
        draws = int(np.clip(DRAWN_VALUES // count, FEWEST_DRAWS, MOST_DRAWS))
        directions = np.random.default_rng(seed).normal(size=(draws, replicas))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.rotated = directions @ self.rows.T  # [B, K], what √R·mean would be
        self.norms = (self.rows**2).sum(axis=1)  # [K], left alone by rotations

    def limit(self, partition: list[Ints]) -> float:
        """The t that the largest one stays below with probability 1 - alpha where all within each part are equal."""
        if len(self.rows) == 2:
            return float(special.stdtrit(self.freedom, 1 - self.alpha / 2))
        largest = np.zeros(len(self.rotated))
        for rows in partition:
            if len(rows) > 1:
                largest = np.maximum(largest, self._rotated_t(rows).max(axis=1))
        rank = math.ceil((len(largest) + 1) * (1 - self.alpha))
        return float(np.sort(largest)[min(rank, len(largest)) - 1])

    def partition(self, limit: float, earlier: list[Ints]) -> list[Ints]:
        """Each part split into those that tie with its first row, those that tie with the first of the others, ..."""
        found = []
        for rows in earlier:
            prior = self._prior(rows)
            rest = rows
            while len(rest):
                apart = self._t(rest, prior) > limit
                found.append(rest[~apart])
                rest = rest[apart]
        return sorted(found, key=lambda rows: int(rows[0]))

    def _t(self, rows: Ints, prior: tuple[float, float]) -> Floats:
        """t of each of these rows against the first of them; 0 where they are equal but for rounding, or nobody knows."""
        difference = self.rows[rows] - self.rows[rows[0]]
        mean = difference.mean(axis=1)
        squares = ((difference - mean[:, None]) ** 2).sum(axis=1)
        t = math.sqrt(self.freedom + 1) * mean / self._scale(squares, prior)
        nothing = np.abs(mean) <= self.tiny
        if self.freedom + 1 < intervals.FEWEST_EXACT and not prior[0]:
            # As few agree by chance, which tells nothing of their spread.
            nothing |= squares <= self.tiny**2
        return np.where(nothing, 0.0, t)

    def _rotated_t(self, rows: Ints) -> Floats:
        """The same from each random direction, against whichever row is first there: [B, rows]."""
        seen, rest = self.rotated[:, rows], self.rows[rows]
        first = seen.argmin(axis=1)
        difference = seen - seen.min(axis=1, keepdims=True)
        norms = self.norms[rows]
        distance = norms + norms[first][:, None] - 2 * (rest[first] @ rest.T)
        squares = np.maximum(distance - difference**2, 0)
        return difference / self._scale(squares, self._prior(rows))

    def _scale(self, squares: Floats, prior: tuple[float, float]) -> Floats:
        """Moderated standard deviation of a difference, from its sum of squares about its mean."""
        weight, variance = prior
        if math.isinf(weight):
            moderated = np.full_like(squares, variance)
        else:
            moderated = (squares + weight * variance) / (self.freedom + weight)
        # Where replicas are all equal a difference is exact: its t is as large as rounding lets it be, never 0/0.
        return np.maximum(np.sqrt(moderated), self.tiny)

    def _prior(self, rows: Ints) -> tuple[float, float]:
        """Prior degrees of freedom, and variance of a difference of two rows, of one part."""
        if len(rows) < FEWEST_ROWS:
            return 0.0, 0.0
        some = self.rows[rows]
        residuals = some - some.mean(axis=0)
        variances = residuals.var(axis=1, ddof=1) * len(rows) / (len(rows) - 1)
        weight, variance = prior_of(variances, self.freedom)
        return weight, 2 * variance


def prior_of(variances: Any, freedom: int) -> tuple[float, float]:
    """Degrees of freedom and size of what many variances have in common; infinite where they are alike.

    variances: [K], each estimated with `freedom` degrees of freedom and scaled-F distributed about the common
    one. (0, 0) where fewer than 3 are above 0: nothing is known. Source: Smyth 2004, section 6.2."""
    found = arrays.floats(variances, "variances", ndim=1)
    found = found[found > 0]
    if found.size < 3:
        return 0.0, 0.0
    logs = np.log(found) - special.digamma(freedom / 2) + math.log(freedom / 2)
    excess = float(logs.var(ddof=1) - special.polygamma(1, freedom / 2))
    if excess <= 0:
        return math.inf, float(found.mean())
    half = _trigamma_inverse(excess)
    return 2 * half, math.exp(logs.mean() + float(special.digamma(half)) - math.log(half))


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1/trigamma, which is nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(50):
        here = float(special.polygamma(1, x))
        step = here * (1 - here / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x


def groups_of_pairs(values: list[Any], alpha: float = ALPHA) -> Ints:
    """The same for rows whose replicas differ in number: Welch, or paired t, at a level divided among all pairs.

    values: [K] arrays, in the order of their means, None where nothing is known (ties with everything).
    Source: Bonferroni; wider than `groups` where that can be used."""
    count = len(values)
    level = 1 - alpha / max(1, count * (count - 1) // 2)
    found, rest, number = np.empty(count, np.int64), list(range(count)), 1
    while rest:
        first, further = values[rest[0]], []
        for row in rest:
            if row != rest[0] and _told(first, values[row], level):
                further.append(row)
            else:
                found[row] = number
        rest, number = further, number + 1
    return found


def _told(first: Any, second: Any, level: float) -> bool:
    if first is None or second is None:
        return False
    how = intervals.paired if len(first) == len(second) else intervals.welch
    return how(second, first, level).excludes(0)
