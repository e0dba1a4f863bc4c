"""One effect measured on several datasets, put together: what it is on average, and what another dataset may show.

Random effects: datasets differ, and an interval that knows only their replicas would be far too narrow. Knows numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from engram.measures import arrays
from engram.measures.arrays import Floats
from engram.measures.intervals import Interval

FEWEST = 3  # datasets: with two, neither their spread nor another one's effect can be told


@dataclass(frozen=True)
class Pooled:
    """mean: the average effect over datasets, with its interval; spread: τ, the standard deviation of the true effects
    between datasets; another: where the true effect on another dataset lies (a prediction interval); heterogeneity: I²,
    the share of the variance that is not the replicas' own, in [0, 1]; datasets: how many."""

    mean: Interval
    spread: float
    another: Interval
    heterogeneity: float
    datasets: int


def pool(effects: Sequence[float], errors: Sequence[float], level: float = 0.95) -> Pooled:
    """The random-effects mean of independent effects [K] with these standard errors [K], K of at least FEWEST.

    τ² by restricted maximum likelihood; the mean's interval with the variance of Hartung, Knapp, Sidik and Jonkman,
    never below the ordinary one (Röver, Knapp & Friede 2015), by Student's t with K - 1 degrees of freedom; the
    prediction interval with K - 2 (Higgins, Thompson & Spiegelhalter 2009). A standard error of zero is refused: such a
    dataset would count infinitely."""
    found = arrays.floats(effects, "effects", ndim=1)
    own = arrays.floats(errors, "errors", ndim=1) ** 2
    arrays.same("errors", own.shape, "effects", found.shape)
    arrays.within("level", level, 0, 1)
    count = len(found)
    if count < FEWEST:
        raise ValueError(f"effects holds {count}; at least {FEWEST} datasets are needed")
    if not (own > 0).all():
        raise ValueError("errors holds a zero; every effect needs a standard error above it")
    tau2 = _restricted(found, own)
    weights = 1 / (own + tau2)
    mean = float(weights @ found / weights.sum())
    scale = float(weights @ (found - mean) ** 2) / (count - 1)
    se = math.sqrt(max(1.0, scale) / weights.sum())
    around = _interval(mean, se, count - 1, count, level)
    wide = math.sqrt(tau2 + se**2)
    typical = _typical(own)
    return Pooled(
        around,
        math.sqrt(tau2),
        _interval(mean, wide, count - 2, count, level),
        tau2 / (tau2 + typical),
        count,
    )


def _restricted(effects: Floats, own: Floats) -> float:
    """τ² by restricted maximum likelihood (Viechtbauer 2005, Journal of Educational and Behavioral Statistics 30)."""

    def loss(tau2: float) -> float:
        weights = 1 / (own + tau2)
        mean = weights @ effects / weights.sum()
        return float(
            -np.log(weights).sum() + math.log(weights.sum()) + weights @ (effects - mean) ** 2
        )

    most = float(np.var(effects, ddof=1) + own.max()) * 10
    # The likelihood may have several tops: the best of a grid, then the top beside it.
    grid = np.concatenate([[0.0], np.geomspace(most * 1e-8, most, 200)])
    best = int(np.argmin([loss(value) for value in grid]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    top = optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": most * 1e-12}
    )
    return float(top.x) if loss(float(top.x)) < loss(float(grid[best])) else float(grid[best])


def _typical(own: Floats) -> float:
    """The effects' typical variance of their own (Higgins & Thompson 2002)."""
    weights = 1 / own
    return float((len(own) - 1) * weights.sum() / (weights.sum() ** 2 - (weights**2).sum()))


def _interval(mean: float, se: float, freedom: int, count: int, level: float) -> Interval:
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * se
    return Interval(mean, mean - half, mean + half, se, count, level)
