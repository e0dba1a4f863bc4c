"""Whether a power law is the right curve for errors over dataset sizes: lack of fit, and other curves that explain more.

Residuals are relative, as in the fit itself. Noise is what replicas show; without replicas there is no test of fit,
and other curves are compared by their residuals. Source of the curves: Caballero et al. 2023, arXiv:2210.14891
(broken laws); of the criterion: Akaike 1974; of the test: any text on regression with replicates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from engram.measures.arrays import Floats

WINS_BY = 2.0  # in AIC: the other curve is clearly better
PLAUSIBLE_WITHIN = 4.0  # in AIC of the best: a curve that a prediction must allow for
ALPHA = 0.05  # of the test of lack of fit, and of a rise between neighbouring sizes
FORETOLD_ALPHA = (
    0.01  # of the forecast of the largest sizes, whose bootstrap is rough with few sizes
)
FLOORLESS = "floorless"
PARAMETERS = 3  # of a power law with a floor


class Noise(NamedTuple):
    """Variance of the mean relative error at each size [S], and the degrees of freedom behind it."""

    variance: Floats
    freedom: int


@dataclass(frozen=True)
class Other:
    """Another curve fitted to the same errors. delta: its AIC minus the power law's, below 0 where it is better;
    rival: it is no power law."""

    name: str
    delta: float
    at: Callable[[float], float]
    rival: bool = True


def noise(table: Floats, spread: Floats) -> Noise | None:
    """From errors [S, R], NaN where a size has fewer replicas, in units of spread [S]; None without replicas.

    What whole columns share (replica k has its seeds at every size) moves the curve up and down, not its shape:
    it is taken out where columns are complete."""
    relative = table / spread[:, None]
    present = ~np.isnan(relative)
    count = present.sum(axis=1)
    residual = relative - np.nanmean(relative, axis=1, keepdims=True)
    freedom = int((count - 1).sum())
    if present.all() and table.shape[1] > 1:
        residual = residual - residual.mean(axis=0)
        freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    if freedom < 1:
        return None
    variance = float(np.nansum(residual**2)) / freedom
    return Noise(variance / count, freedom) if variance > 0 else None


def lack_of_fit(residuals: Floats, known: Noise) -> float:
    """p-value of relative residuals [S] of a power law, if the law holds: F of their size against the noise."""
    freedom = len(residuals) - PARAMETERS
    if freedom < 1:
        return 1.0
    ratio = float((residuals**2 / known.variance).sum()) / freedom
    return float(special.fdtrc(freedom, known.freedom, ratio))


def rise(table: Floats, sizes: Floats) -> str:
    """Where the error clearly rises from one size to the next, paired by replica; empty where it does not."""
    if table.shape[1] < 2 or np.isnan(table).any():
        return ""
    steps = np.diff(table, axis=0)
    mean, sd = steps.mean(axis=1), steps.std(axis=1, ddof=1)
    t = mean / np.maximum(sd / math.sqrt(table.shape[1]), 1e-300)
    limit = float(special.stdtrit(table.shape[1] - 1, 1 - ALPHA / len(steps)))
    where = np.nonzero((t > limit) & (mean > 0))[0]
    if not len(where):
        return ""
    k = int(where[0])
    return f"the error rises from n = {sizes[k]:g} to {sizes[k + 1]:g}"


def others(
    sizes: Floats, errors: Floats, spread: Floats, residuals: Floats, known: Noise | None
) -> list[Other]:
    """Curves other than a power law with a floor, the best first.

    sizes, errors, spread, residuals (relative, of the power law): [S]. AIC is χ² + 2k where the noise is known,
    else S·log(RSS/S) + 2k."""

    def criterion(residual: Floats, parameters: int) -> float:
        if known is not None:
            return float((residual**2 / known.variance).sum()) + 2 * parameters
        # Below this, curves fit to rounding, and none does so better than another.
        mean = max(float((residual**2).mean()), 1e-12)
        return len(residual) * math.log(mean) + 2 * parameters

    own = criterion(residuals, PARAMETERS)
    found = []
    for name, parameters, curve in (
        ("logarithmic", 2, _logarithmic(sizes, errors, spread)),
        ("exponential", 3, _exponential(sizes, errors, spread)),
        ("broken", 4, _broken(sizes, errors)),
        (FLOORLESS, 2, _floorless(sizes, errors)),
    ):
        if len(sizes) <= parameters:
            continue
        residual = (np.array([curve(n) for n in sizes]) - errors) / spread
        delta = criterion(residual, parameters) - own
        found.append(Other(name, delta, curve, name != FLOORLESS))
    return sorted(found, key=lambda other: other.delta)


def rival(curves: tuple[Other, ...]) -> Other | None:
    """The best curve that is no power law and clearly explains the errors better, if any."""
    return next((c for c in curves if c.rival and c.delta < -WINS_BY), None)


def plausible(curves: list[Other]) -> list[Other]:
    """Those that a prediction beyond the sizes measured must allow for."""
    best = min([0.0, *(curve.delta for curve in curves)])
    return [curve for curve in curves if curve.delta - best <= PLAUSIBLE_WITHIN]


def _logarithmic(sizes: Floats, errors: Floats, spread: Floats) -> Callable[[float], float]:
    """ε = a - b·log n, not below 0."""
    a, b = _least_squares(np.stack([np.ones_like(sizes), np.log(sizes)]), errors, spread)
    return lambda n: max(0.0, float(a + b * math.log(n)))


def _exponential(sizes: Floats, errors: Floats, spread: Floats) -> Callable[[float], float]:
    """ε = a·exp(-n/τ) + c, c ≥ 0; τ from a grid."""
    best: tuple[float, float, float, float] | None = None
    for scale in np.geomspace(sizes[0] / 4, sizes[-1] * 10, 200):
        power = np.exp(-sizes / scale)
        a, c = _least_squares(np.stack([power, np.ones_like(sizes)]), errors, spread)
        if c < 0:
            (a,), c = _least_squares(power[None], errors, spread), 0.0
        loss = float((((a * power + c) - errors) ** 2 / spread**2).sum())
        if best is None or loss < best[0]:
            best = loss, float(a), float(c), float(scale)
    assert best is not None
    _, a, c, scale = best
    return lambda n: a * math.exp(-n / scale) + c


def _floorless(sizes: Floats, errors: Floats) -> Callable[[float], float]:
    """A power law towards 0: a floor held at or above 0 is found too high where there is none."""
    terms = np.stack([np.ones_like(sizes), np.log(sizes)])
    a, b = _least_squares(terms, np.log(np.maximum(errors, 1e-12)), np.ones_like(sizes))
    return lambda n: math.exp(a + b * math.log(n))


def _broken(sizes: Floats, errors: Floats) -> Callable[[float], float]:
    """Two power laws that meet: log ε piecewise linear in log n; at least two sizes on either side."""
    x, y = np.log(sizes), np.log(np.maximum(errors, 1e-12))
    best: tuple[float, Floats, float] | None = None
    for place in np.linspace(x[1], x[-2], 50):
        terms = np.stack([np.ones_like(x), x, np.maximum(0, x - place)])
        found = _least_squares(terms, y, np.ones_like(y))
        loss = float(((found @ terms - y) ** 2).sum())
        if best is None or loss < best[0]:
            best = loss, found, float(place)
    assert best is not None
    _, (a, b, c), place = best
    return lambda n: math.exp(a + b * math.log(n) + c * max(0.0, math.log(n) - place))


def _least_squares(terms: Floats, values: Floats, spread: Floats) -> Floats:
    """Coefficients of terms [K, S] by weighted least squares."""
    found, *_ = np.linalg.lstsq((terms / spread).T, values / spread, rcond=None)
    return np.asarray(found, np.float64)
