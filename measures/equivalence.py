"""Equivalence: "no effect" and "at no cost" as claims with a margin and a test, and what so many replicas can tell.

A difference that was not found is not shown to be absent. Knows arrays and intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scipy import special

from engram.measures import arrays, intervals
from engram.measures.intervals import Interval

MARGIN_SHARE = 0.02  # of chance error: what counts as no difference unless a study says otherwise


@dataclass(frozen=True)
class Equivalence:
    """Whether a mean difference is shown to lie within ± margin. p_value: of the larger of the two one-sided tests;
    interval: at level 1 - 2·alpha, which lies within the margin exactly where that is shown."""

    shown: bool
    p_value: float
    interval: Interval
    margin: float

    def __str__(self) -> str:
        said = "within" if self.shown else "not shown to be within"
        return f"{said} ±{self.margin:.3g} ({self.interval}, p = {self.p_value:.2g})"


def equivalent(differences: Any, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t tests (TOST) that the mean of paired differences [R] lies within ± margin.

    Nothing is shown by one replica. Source: Schuirmann 1987."""
    return _test(differences, margin, alpha, both=True)


def not_higher(differences: Any, margin: float, alpha: float = 0.05) -> Equivalence:
    """One one-sided t test that the mean of paired differences [R] lies below the margin: "at no cost".

    Source: Schuirmann 1987; Wellek 2010 (non-inferiority)."""
    return _test(differences, margin, alpha, both=False)


def _test(differences: Any, margin: float, alpha: float, both: bool) -> Equivalence:
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(
            f"margin = {margin}; it must be positive: no finite data show an exact zero"
        )
    arrays.within("alpha", alpha, 0, 0.5)
    found = intervals.t_interval(differences, 1 - 2 * alpha)
    if found.n < 2:
        return Equivalence(False, 1.0, found, margin)
    worst = abs(found.mean) if both else found.mean
    if found.se == 0:
        p = 0.0 if worst < margin else 1.0
    else:
        p = 1 - float(special.stdtr(found.n - 1, (margin - worst) / found.se))
    return Equivalence(p < alpha, p, found, margin)


def told(
    replicas: int, sd: float, compared: int = 2, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference that so many paired replicas tell apart with probability `power`.

    sd: of one difference between two configurations over replicas; compared: configurations on the board, among
    whose pairs alpha is divided, and whose variances are taken to be alike, so that their degrees of freedom add up
    (as `comparison.groups` moderates them). Infinite for one replica. By the noncentral t distribution."""
    arrays.within("alpha", alpha, 0, 1)
    arrays.within("power", power, 0, 1)
    _sd(sd)
    if replicas < 2:
        return math.inf
    pairs = max(1, compared * (compared - 1) // 2)
    freedom = (replicas - 1) * max(1, compared - 1)
    limit = float(special.stdtrit(freedom, 1 - alpha / (2 * pairs)))
    shift = float(special.nctdtrinc(freedom, 1 - power, limit))
    return shift * sd / math.sqrt(replicas)


def enough(
    margin: float, sd: float, alpha: float = 0.05, power: float = 0.8, most: int = 100_000
) -> int | None:
    """The fewest paired replicas by which two configurations that do not differ are shown to lie within ± margin.

    sd: of their difference over replicas. Shown with probability `power` at least: each of the two one-sided tests fails
    with half of the rest, by the noncentral t distribution. None above `most`."""
    if not (margin > 0 and math.isfinite(margin)):
        raise ValueError(f"margin = {margin}; it must be positive and finite")
    arrays.within("alpha", alpha, 0, 0.5)
    arrays.within("power", power, 0, 1)
    _sd(sd)
    if sd == 0:
        return 2

    def shown(replicas: int) -> bool:
        freedom = replicas - 1
        limit = float(special.stdtrit(freedom, 1 - alpha))
        fails = float(special.nctdtr(freedom, margin / sd * math.sqrt(replicas), limit))
        return 2 * fails <= 1 - power

    return intervals.fewest(shown, 2, most)


def _sd(sd: float) -> None:
    if sd < 0 or not math.isfinite(sd):
        raise ValueError(f"sd = {sd}; it must be a finite number of at least 0")
