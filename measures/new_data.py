"""The second interval: what another pool and another test set would change, from how the replicas were drawn.

The first one (`intervals`) speaks of *retraining*: other subsets and seeds, the same pool and test set. For *new data*
three sources add up: replicas; the pool they share, where their subsets overlap; and the finite test sample.

Where examples hang together in clusters (the patients of a hospital, the recordings of a speaker), clusters are what is sampled, of
the pool and of the test set: they are counted, not their examples.

What it holds is the value that the same design has on average over pools and test sets. For errors and gaps that
is the value for training sets of that size; for bias² and variance from overlapping subsets it is the one given a pool
of that size, since overlap moves variance into bias. Knows arrays and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engram.measures import arrays, between_nights, intervals
from engram.measures.arrays import Floats, Ints
from engram.measures.intervals import Interval
from engram.measures.left_out import Groups

PARTS = (
    10  # of the examples, one of which is left out at a time where a measure is no mean over them
)


@dataclass(frozen=True)
class Sampling:
    """Variance of a measure by the finite sample of examples alone, and its degrees of freedom (0: known)."""

    variance: float
    freedom: int


NONE = Sampling(0.0, 0)  # of a measure that looks at no held-out examples


def pool_share(draw: str, size: float, pool: int) -> float:
    """Variance between pools over variance between replicas of one pool, for what is linear in the examples.

    draw: as in `replicas.draw`; size: m, examples (or clusters) of a replica; pool: n. 0 where no example is in two subsets
    (fresh, disjoint): replicas are independent then. m/(n-m) for subsets without replacement, m/n for bootstrap draws;
    NaN where nothing can be known: all replicas have the same examples, or come in pairs that cancel (complementary).
    The variance between replicas also holds what seeds do, which no pool explains: with it the interval is wider than
    need be. Source: Nadeau & Bengio 2003, section 3, with the correlation that subsets of one pool have exactly."""
    if min(size, pool) < 1:
        raise ValueError(f"size = {size}, pool = {pool}; both must be at least 1")
    if draw in ("fresh", "disjoint"):
        return 0.0
    if draw == "bootstrap":
        return size / pool
    return size / (pool - size) if draw == "subset" and size < pool else math.nan


def interval(found: Interval, share: float, sampling: Sampling, independent: int) -> Interval:
    """The interval for new data from the one for retraining.

    found: mean over replicas with its se; independent: replicas (draws, with several inits) behind it; share: of
    `pool_share`. Unknown where any of the parts is. Degrees of freedom as in Welch 1947, and never narrower than without
    the examples."""
    if not found.known or math.isnan(share) or math.isnan(sampling.variance) or found.n < 2:
        return replace(found, low=math.nan, high=math.nan, se=math.nan)
    wider = math.sqrt(1 + share * independent)
    half = found.half_width * wider
    plain = replace(found, low=found.mean - half, high=found.mean + half, se=found.se * wider)
    wide = between_nights.widened(plain, sampling.variance, sampling.freedom)
    # With three replicas, what is known better (examples) can make the quantile smaller than what it adds.
    return wide if wide.half_width >= half else plain


@dataclass
class Crossing:
    """Replicas crossed with examples, a row of values [N] at a time: means of rows, and what the sample of examples adds.

    Source: Searle et al. 1992, Variance Components (two-way crossed, one value a cell)."""

    means: list[float] = field(default_factory=list)
    _sum: Floats | float = 0.0  # [N]
    _squares: float = 0.0

    def add(self, row: Any) -> None:
        """One replica's values on all examples."""
        values = arrays.floats(row, "row", ndim=1)
        self.means.append(float(values.mean()))
        self._sum = self._sum + values
        self._squares += float((values**2).sum())

    @property
    def sampling(self) -> Sampling:
        """Variance of the grand mean by examples alone: (MS_examples - MS_rest)/(R·N), 0 where that is negative.

        What only this replica does on only this example is in the variance between replicas already."""
        rows, total = len(self.means), np.asarray(self._sum)
        examples = total.size
        if examples < 2:
            return Sampling(math.nan, 0)
        grand = float(np.mean(self.means))
        between = rows * float(((total / rows - grand) ** 2).sum())
        found = between / (examples - 1)
        if rows > 1:
            spread = examples * float(((np.asarray(self.means) - grand) ** 2).sum())
            rest = self._squares - rows * examples * grand**2 - between - spread
            found -= max(0.0, rest) / ((rows - 1) * (examples - 1))
        return Sampling(max(0.0, found) / (rows * examples), examples - 1)


def crossed(values: Any, inits: int = 1, clusters: Ints | None = None) -> Sampling:
    """What the sample of examples adds to the mean of values [R, N]; inits: networks of one draw, averaged first.

    clusters: [N], the same number for examples that hang together."""
    made = Crossing()
    rows = intervals.units(arrays.floats(values, "values", ndim=2), inits)
    for row in rows if clusters is None else _of_clusters(rows, clusters):
        made.add(row)
    return made.sampling


def _of_clusters(rows: Floats, clusters: Ints) -> Floats:
    """[R, N] -> [R, G], whose means are those of the rows: totals of clusters, about the mean of all.

    A mean over examples is a ratio of two totals over clusters, each with its own number of examples; this is its
    linearization. Source: Cochran 1977, Sampling Techniques, section 2.11; Liang & Zeger 1986."""
    coded = np.unique(clusters, return_inverse=True)[1]
    sizes, grand = np.bincount(coded), rows.mean()
    totals = np.stack([np.bincount(coded, row - grand) for row in rows])
    return grand + totals * (len(sizes) / rows.shape[1])


def clusters_taken(draws: Ints, clusters: Ints) -> float:
    """Clusters that a replica trains on, mean over replicas; one picked twice counts twice.

    draws: [R, m] examples of each replica; clusters: of every example."""
    counts = []
    for own in draws:
        examples, often = np.unique(own, return_counts=True)
        most = np.zeros(int(clusters.max()) + 1, np.int64)
        np.maximum.at(most, clusters[examples], often)
        counts.append(most.sum())
    return float(np.mean(counts))


def jackknifed(
    rows: Mapping[str, Floats], groups: Groups, clusters: Ints | None = None
) -> dict[str, tuple[Floats, Sampling]]:
    """Pseudo-values [G] of measures of all replicas that are means over examples, and what the examples add.

    rows: {name: [1 + G, N]} as `left_out` makes them. The pseudo-values are those of `intervals.jackknife`, for each
    example too."""
    results = {}
    for name, values in rows.items():
        means = groups.pseudo_values(values.mean(axis=1))
        results[name] = means, crossed(groups.pseudo(values), clusters=clusters)
    return results


def in_parts(
    statistic: Callable[[Any], float],
    examples: int,
    parts: int = PARTS,
    clusters: Ints | None = None,
) -> Sampling:
    """What the sample of examples adds to a measure that is no mean over them, by the delete-a-part jackknife.

    statistic: of the indices kept [K] -> a number, NaN where undefined. Examples are dealt out by place,
    or whole clusters [N] of them.
    Source: Shao & Wu 1989."""
    dealt = np.arange(examples) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    parts = min(parts, int(dealt.max()) + 1)
    if parts < 2:
        return Sampling(math.nan, 0)
    place = np.arange(examples)
    left = np.array([statistic(place[dealt % parts != part]) for part in range(parts)])
    return Sampling(float((parts - 1) / parts * ((left - left.mean()) ** 2).sum()), parts - 1)
