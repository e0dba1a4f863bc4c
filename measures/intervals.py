"""How far to trust a number from R replicas: t, bootstrap and jackknife intervals, pairing, selection.

A replica is one draw of the training set and seeds; intervals here say how the number would move with
*retraining*: other replicas from the same pool on the same test set. What new data would change is `new_data`'s."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # scipy.stats takes a second to import: only where nothing else will do

from engram.measures import arrays
from engram.measures.arrays import Floats

FEWEST_EXACT = 5  # differences which, all the same, are so by more than chance
ROUNDING = 1e-9  # of the largest value: differences below it are none
Arrays = Any  # one array-like with the replica axis first, or a tuple of them


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. `se` is the standard error, `n` the independent units behind it.

    With one unit nothing is known about the spread: low, high and se are NaN, and nothing is excluded."""

    mean: float
    low: float
    high: float
    se: float
    n: int
    level: float = 0.95

    @property
    def half_width(self) -> float:
        """Half the distance from low to high."""
        return (self.high - self.low) / 2

    @property
    def known(self) -> bool:
        """Whether the interval has finite ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def excludes(self, value: float = 0.0) -> bool:
        """Whether `value` lies outside the interval; False when the interval is unknown."""
        return self.known and not self.low <= value <= self.high

    def __str__(self) -> str:
        if not self.known:
            return f"{self.mean:.3g} (interval unknown)"
        digits = 3
        if self.half_width > ROUNDING * abs(self.mean):  # else that of identical values
            digits = max(0, min(6, 1 - math.floor(math.log10(self.half_width))))
        return f"{self.mean:.{digits}f} ± {self.half_width:.{digits}f}"


def units(values: Any, inits: int = 1) -> Floats:
    """Independent units of a draws x inits design: the mean over the inits of each draw.

    values: [R, ...], replica r belonging to draw r // inits -> [R / inits, ...]. Networks that share a
    subset are not independent; complementary pairs of subsets are treated alike with inits=2."""
    array = arrays.floats(values, "values", nan=True)
    _divides(array.shape[0] if array.ndim else 0, inits)
    return array.reshape(-1, inits, *array.shape[1:]).mean(axis=1)


def t_interval(
    values: Any, level: float = 0.95, *, inits: int = 1, omit_nan: bool = False
) -> Interval:
    """Mean of one value per replica, with mean ± t_(R-1)·sd/√R.

    values: [R]. Refuses NaN unless `omit_nan`: dropping diverged replicas must be asked for.
    Source: Student 1908; half-widths in units of sd: 2.48 for R = 3, 0.84 for 8, 0.25 for 64."""
    _level(level)
    array = arrays.floats(values, "values", ndim=1, nan=omit_nan)
    array = units(array, inits)
    array = array[~np.isnan(array)]
    n = array.size
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0, level)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1, level)
    se = float(array.std(ddof=1)) / math.sqrt(n)
    half = _student(level, n - 1) * se
    return Interval(mean, mean - half, mean + half, se, n, level)


def paired(a: Any, b: Any, level: float = 0.95, *, inits: int = 1) -> Interval:
    """Interval of mean(a - b), replica by replica: what trials sharing subsets and seeds deserve.

    a, b: [R] each, replica k of one beside replica k of the other. Negative: a is lower.
    Fewer than `FEWEST_EXACT` differences that are all the same tell nothing of their spread (errors are counts of
    examples, and a few of them agree by chance): the interval is unknown."""
    first = arrays.floats(a, "a", ndim=1)
    second = arrays.floats(b, "b", ndim=1)
    arrays.same("b", second.shape, "a (replicas are paired)", first.shape)
    found = t_interval(first - second, level, inits=inits)
    rounding = ROUNDING * float(np.abs([first, second]).max(initial=0.0))
    if found.n < FEWEST_EXACT and abs(found.mean) > rounding >= found.se:
        return replace(found, low=math.nan, high=math.nan, se=math.nan)
    return found


def welch(a: Any, b: Any, level: float = 0.95) -> Interval:
    """Interval of mean(a) - mean(b) for replicas that share nothing, so cannot be paired.

    a: [R], b: [Q]. Source: Welch 1947, with the Satterthwaite degrees of freedom."""
    _level(level)
    first, second = t_interval(a, level), t_interval(b, level)
    mean, n = first.mean - second.mean, min(first.n, second.n)
    if n < 2:
        return Interval(mean, math.nan, math.nan, math.nan, n, level)
    se = math.hypot(first.se, second.se)
    if se == 0:
        return Interval(mean, mean, mean, 0.0, n, level)
    freedom = se**4 / (first.se**4 / (first.n - 1) + second.se**4 / (second.n - 1))
    half = _student(level, freedom) * se
    return Interval(mean, mean - half, mean + half, se, n, level)


def sd_interval(values: Any, level: float = 0.95) -> Interval:
    """Standard deviation between replicas with its χ² interval; `mean` holds the sd, `se` is sd/√(2(R-1)).

    values: [R], taken as normal. With R = 8 the interval runs from 0.66 to 2.04 times the sd."""
    _level(level)
    array = arrays.floats(values, "values", ndim=1)
    n = array.size
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, math.nan, n, level)
    sd = float(array.std(ddof=1))
    low, high = (
        sd * math.sqrt((n - 1) / special.chdtri(n - 1, tail))  # χ² with this much above it
        for tail in ((1 - level) / 2, (1 + level) / 2)
    )
    return Interval(sd, low, high, sd / math.sqrt(2 * (n - 1)), n, level)


def bootstrap(
    statistic: Callable[..., float],
    replicas: Arrays,
    level: float = 0.95,
    *,
    samples: int = 1000,
    seed: int = 0,
    inits: int = 1,
) -> Interval:
    """Bootstrap interval of statistic(arrays), resampling replicas (whole draws when inits > 1).

    replicas: one array [R, ...] or a tuple of them, resampled together. Not for statistics that see
    repeated replicas as agreement, such as a variance over replicas: use `jackknife` there.
    Source: Efron 1979, percentiles expanded for small R as in Hesterberg 2015, arXiv:1411.5279."""
    _level(level)
    parts, blocks = _blocks(replicas, inits)
    generator = np.random.default_rng(seed)
    draws = np.empty(samples)
    for s in range(samples):
        chosen = blocks[generator.integers(len(blocks), size=len(blocks))].ravel()
        draws[s] = statistic(*(part[chosen] for part in parts))
    return percentile_interval(float(statistic(*parts)), draws, len(blocks), level)


def percentile_interval(estimate: float, draws: Any, n: int, level: float = 0.95) -> Interval:
    """Interval from bootstrap draws of an estimate made of n units; NaN draws are left out.

    The percentiles are Φ(∓√(n/(n-1))·t_(n-1)) instead of 2.5 and 97.5 %: plain ones are too narrow for
    the few replicas used here. Source: Hesterberg 2015, arXiv:1411.5279 (expanded percentile interval)."""
    _level(level)
    values = arrays.floats(draws, "draws", ndim=1, nan=True)
    values = values[~np.isnan(values)]
    if n < 2 or values.size < 2:
        return Interval(float(estimate), math.nan, math.nan, math.nan, n, level)
    edge = special.ndtr(-math.sqrt(n / (n - 1)) * _student(level, n - 1))
    low, high = np.quantile(values, [edge, 1 - edge])
    return Interval(float(estimate), float(low), float(high), float(values.std(ddof=1)), n, level)


def spread_interval(estimate: float, draws: Any, n: int, level: float = 0.95) -> Interval:
    """Interval from the spread of bootstrap draws alone: estimate ± √(n/(n-1))·t_(n-1)·sd; NaN draws are left out.

    As wide as the expanded percentiles where draws are normal, and steadier: of a few hundred draws those are the first and
    the last one or two. Source: Hesterberg 2015, arXiv:1411.5279 (t interval with bootstrap standard error)."""
    found = percentile_interval(estimate, draws, n, level)
    if not found.known:
        return found
    half = math.sqrt(n / (n - 1)) * _student(level, n - 1) * found.se
    return replace(found, low=found.mean - half, high=found.mean + half)


def jackknife(
    statistic: Callable[..., float], replicas: Arrays, groups: int = 32, *, inits: int = 1
) -> Floats:
    """Pseudo-values of a statistic that needs several replicas at once (bias², variance, ensemble error).

    replicas: one array [R, ...] or a tuple of them -> [G], G = R (or draws, when inits > 1) up to
    `groups`, else that many groups. Each is G·θ - (G-1)·θ without group g; hand them to `t_interval`, or
    to `paired` beside another trial's with the same R. Their mean equals θ: for U-statistics such as the
    unbiased variance it does by itself without groups; otherwise they are shifted, because these measures
    are unbiased already, or (ensemble error) are meant for the R at hand, not for infinitely many.
    Where one vote can tip an answer (0-1 error of an ensemble or of the main prediction) the interval is
    wider than need be, 1.3 times at R = 8, twice at 24; fewer groups soften it.
    Refuses fewer than 3 units: leaving one out must leave two. Source: Tukey 1958; Efron & Stein 1981."""
    (_, estimate), *rest = left_out(statistic, replicas, groups, inits=inits)
    pseudo = np.array([share * float(estimate) - (share - 1) * float(s) for share, s in rest])
    return pseudo - pseudo.mean() + float(estimate)


def left_out(
    statistic: Callable[..., Any], replicas: Arrays, groups: int = 32, *, inits: int = 1
) -> Iterator[tuple[float, Any]]:
    """(1, the statistic of all replicas), then (G, the statistic without group g) for each group of the jackknife.

    G: units over those of the group, so that the pseudo-value of a group is G·θ - (G-1)·θ without it."""
    parts, blocks = _blocks(replicas, inits)
    if len(blocks) < 3:
        raise ValueError(f"{len(blocks)} independent replicas; the jackknife needs at least 3")
    if groups < 3:
        raise ValueError(f"groups = {groups}; the jackknife needs at least 3")
    yield 1.0, statistic(*parts)
    for group in np.array_split(blocks, group_count(len(blocks), groups)):
        keep = np.ones(parts[0].shape[0], bool)
        keep[group.ravel()] = False
        yield len(blocks) / len(group), statistic(*(part[keep] for part in parts))


def group_count(units: int, most: int = 32) -> int:
    """How many jackknife groups: all units if they are few, else the largest equal split not far below."""
    if units <= most:
        return units
    equal = [g for g in range(most, most // 2, -1) if units % g == 0]
    return equal[0] if equal else most


class Needed(NamedTuple):
    """More replicas that would separate two trials: an estimate, and the range that the effect's interval leaves."""

    low: int
    estimate: int
    high: int

    def __str__(self) -> str:
        return f"about {self.estimate:,} ({self.low:,} to {self.high:,})"


def replicas_needed(
    differences: Any, level: float = 0.95, *, power: float = 0.8, most: int = 100_000
) -> Needed | None:
    """How many more replicas would separate two trials whose paired differences these are, with probability `power`.

    differences: [R]; level: of the comparison, which may be divided among many. The size of the effect in units of
    sd has a 95 % interval of its own (noncentral t), and with it the number. None where that interval includes
    no effect at all: then no number is honest, for none may do; also when R < 2, when the comparison already
    excludes zero, or above `most`. Numbers by the normal approximation of the noncentral t.
    Source: Steiger & Fouladi 1997 (interval of an effect size)."""
    _level(level)
    arrays.within("power", power, 0, 1)
    now = t_interval(differences, level)
    if now.n < 2 or now.excludes(0) or now.se == 0:
        return None
    t, freedom = abs(now.mean) / now.se, now.n - 1
    if t <= _student(0.95, freedom):
        return None
    ends = (special.nctdtrinc(freedom, share, t) for share in (0.025, 0.975))
    found = [
        _enough(float(effect) / math.sqrt(now.n), now.n, level, power, most)
        for effect in (*ends, t)
    ]
    if any(n is None for n in found):
        return None
    low, estimate, high = sorted(n - now.n for n in found if n is not None)
    return Needed(low, estimate, high)


def _enough(effect: float, start: int, level: float, power: float, most: int) -> int | None:
    """The smallest number of replicas, not below `start`, that shows an effect in units of sd."""

    def separated(n: int) -> bool:
        return effect * math.sqrt(n) >= _student(level, n - 1) + _normal(power)

    return fewest(separated, start, start + most)


def fewest(enough: Callable[[int], bool], start: int, most: int) -> int | None:
    """The smallest number from `start` to `most` that is enough, as all above it are; None where none is."""
    low, high = start - 1, start
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def sign_test(above: int, below: int) -> float:
    """Two-sided p-value that `above` against `below` is a fair coin's doing; ties are left out before.

    1.0 when there is nothing to compare. Below 0.05 needs at least six, all alike. Source: Dixon & Mood 1946."""
    if min(above, below) < 0:
        raise ValueError(f"counts {above} and {below}; they must be at least 0")
    return min(1.0, 2 * float(special.bdtr(min(above, below), above + below, 0.5)))


def expected_best(n: int) -> float:
    """Expected maximum of n standard normals: by how many sd the best of n equal trials flatters itself.

    1.42 for n = 8, 2.51 for n = 100. Source: order statistics, E = ∫ x·n·φ(x)·Φ(x)^(n-1) dx."""
    if n < 1:
        raise ValueError(f"n = {n}; the best of at least 1")
    if n == 1:
        return 0.0

    # The trapezoidal rule is exact to rounding for a smooth density that is zero at both ends.
    x, step = np.linspace(-12, 14, 5201, retstep=True)
    density = np.exp((n - 1) * special.log_ndtr(x) - x**2 / 2) * (n / math.sqrt(2 * math.pi))
    return float((x * density).sum() * step)


def test_sampling_se(per_example: Any) -> float:
    """Standard error from the finite test set alone: sd over examples / √N.

    per_example: [N], or [R, N] which is averaged over replicas first. It does not shrink with more
    replicas, and is shared by all trials tested on the same examples, so it cancels when they are paired."""
    array = arrays.floats(per_example, "per_example", ndim=(1, 2))
    if array.ndim == 2:
        array = array.mean(axis=0)
    if array.size < 2:
        return math.nan
    return float(array.std(ddof=1)) / math.sqrt(array.size)


test_sampling_se.__test__ = False  # type: ignore[attr-defined]  # a measure, not a pytest case


def _blocks(replicas: Arrays, inits: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The arrays, and the replica indices of each independent unit [units, inits]."""
    parts = [arrays.plain(p) for p in (replicas if isinstance(replicas, tuple) else (replicas,))]
    count = parts[0].shape[0] if parts[0].ndim else 0
    for k, part in enumerate(parts):
        arrays.same(f"array {k}", part.shape[:1], "array 0 (replicas first)", (count,))
    _divides(count, inits)
    return parts, np.arange(count).reshape(-1, inits)


def _divides(count: int, inits: int) -> None:
    if inits < 1 or count == 0 or count % inits:
        raise ValueError(f"{count} replicas, inits = {inits}; replicas must be draws x inits")


# Remembered: scipy takes 0.1 ms for one, and a leaderboard of thousands of trials asks for the same few.
@functools.lru_cache(maxsize=4096)
def _student(level: float, freedom: float) -> float:
    """Half-width of a two-sided interval in standard errors."""
    return float(special.stdtrit(freedom, (1 + level) / 2))


@functools.lru_cache(maxsize=64)
def _normal(share: float) -> float:
    return float(special.ndtri(share))


def _level(level: float) -> None:
    arrays.within("level", level, 0, 1)
