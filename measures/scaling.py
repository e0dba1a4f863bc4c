"""Error against dataset size: the power law ε = α·n^β + γ, what it predicts, and where two configurations cross.

Six sizes at least, and even then the three parameters can trade against each other: the fit says when they do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engram.measures import arrays, intervals, misfit
from engram.measures.arrays import Floats
from engram.measures.intervals import Interval
from engram.measures.misfit import Noise, Other

FEWEST_SIZES = 6
ROUNDING = 1e-6  # of an error: what a fit and its search leave
BETA_RANGE = (-5.0, -0.01)  # searched; a fit at either end has found no power law


@dataclass(frozen=True)
class PowerLaw:
    """ε = alpha·n^beta + gamma, alpha ≥ 0, beta < 0, gamma ≥ 0.

    identified: whether this is the right curve as far as the data can say, and they fix its parameters;
    `reason` says why not (empty when they do). An unidentified fit still describes the sizes measured; do not quote
    its exponent or its floor, and `predict` says nothing beyond them. reach: the largest size it may predict: as
    far beyond the largest measured as smaller sizes were shown to foretell. others: other curves."""

    alpha: float
    beta: float
    gamma: float
    alpha_interval: Interval
    beta_interval: Interval
    gamma_interval: Interval
    identified: bool
    reason: str
    sizes: Floats
    errors: Floats
    level: float = 0.95
    draws: Floats = field(default_factory=lambda: np.empty((0, 3)), repr=False)  # [B, 3]
    units: int = 1  # independent units behind the draws
    reach: float = math.nan
    others: tuple[Other, ...] = field(default=(), repr=False)
    floorless: Floats = field(default_factory=lambda: np.empty((0, 3)), repr=False)  # [B, 3], γ = 0

    def __call__(self, n: Any) -> Floats:
        """The fitted error at size n, any shape."""
        return self.alpha * np.asarray(n, dtype=np.float64) ** self.beta + self.gamma

    def predict(self, n: float) -> Interval:
        """The error at size n with its interval: of the mean over replicas, if the power law holds there.

        Beyond the sizes measured the interval also holds what every other curve says that explains the data about as
        well (AIC); it is unknown where the fit is not identified, and beyond its reach."""
        _positive("n", n)
        own = float(self(n))
        if not len(self.draws) or (
            n > self.sizes[-1] and not (self.identified and n <= self.reach)
        ):
            return _unknown(own, self.level)
        if n <= self.sizes[-1]:
            drawn = _evaluate(self.draws, n)
            return intervals.percentile_interval(own, drawn, self.units, self.level)
        found = self._beyond(own, self.draws, n)
        if not found.known:
            return found
        ends = [found.low, found.high]
        for other in misfit.plausible(list(self.others)):
            if other.name == misfit.FLOORLESS and len(self.floorless):
                span = self._beyond(other.at(n), self.floorless, n)
                ends += [span.low, span.high]
            else:
                ends.append(other.at(n))
        return replace(found, low=min(ends), high=max(ends))

    def _beyond(self, value: float, draws: Floats, n: float) -> Interval:
        found = intervals.spread_interval(value, _evaluate(draws, n), self.units, self.level)
        return replace(found, low=max(0.0, found.low)) if found.known else found


@dataclass(frozen=True)
class Crossing:
    """Where two fits meet. `below` wins (lower error) under n, `above` beyond it.

    interval: of n, unknown unless nearly all bootstrap draws cross; extrapolated: outside the sizes that
    both have measured."""

    n: float
    below: str
    above: str
    interval: Interval
    extrapolated: bool

    def __str__(self) -> str:
        known = self.interval.known
        spread = f" ({self.interval.low:.3g} to {self.interval.high:.3g})" if known else ""
        doubt = "" if known else "; the crossing is not certain"
        doubt += "; extrapolated" if self.extrapolated else ""
        return f"{self.below} wins below n = {self.n:.3g}{spread}, {self.above} above{doubt}"


def power_law(
    sizes: Any, errors: Any, level: float = 0.95, *, samples: int = 500, seed: int = 0
) -> PowerLaw:
    """Fit of ε = α·n^β + γ by least squares of relative errors, γ ≥ 0.

    sizes: [S], increasing; errors: [S], or [S, R] with replica k of each size in column k, NaN where a size
    has fewer replicas. Intervals: bootstrap over replicas, columns together (replica k shares its seeds
    across sizes) unless NaN breaks the columns; for [S], residuals with S - 3 degrees of freedom.
    Unidentified: fewer than six sizes; errors that do not fall, or clearly rise somewhere; β at an end of
    [-5, -0.01]; β's interval unknown, touching those ends, or wider than |β| itself; residuals larger than replicas
    explain (F test); a broken, exponential or logarithmic curve that explains the data better (AIC); the largest
    third of the sizes not foretold by the smaller ones. Refuses negative errors and sizes ≤ 0.
    Source: Hestness et al. 2017, arXiv:1712.00409; Rosenfeld et al. 2020, arXiv:1909.12673."""
    size = arrays.floats(sizes, "sizes", ndim=1)
    if size[0] <= 0 or (np.diff(size) <= 0).any():
        raise ValueError(f"sizes = {size.tolist()}; they must be positive and increase")
    table = arrays.floats(errors, "errors", ndim=(1, 2), nan=True)
    arrays.same("errors", table.shape[:1], "sizes", size.shape)
    table = table[:, None] if table.ndim == 1 else table
    if np.isnan(table).all(axis=1).any() or np.nanmin(table) < 0:
        raise ValueError(f"errors = {table.tolist()}; each size needs an error of at least 0")
    if len(size) < 2:
        raise ValueError(f"{len(size)} size; a curve needs at least 2")
    mean = np.nanmean(table, axis=1)
    alpha, beta, gamma = _polish(size, mean, _fit(size, mean[None])[0])
    means, units = _resampled(size, table, (alpha, beta, gamma), samples, seed)
    draws = _fit(size, means) if len(means) else np.empty((0, 3))
    spans = [
        intervals.percentile_interval(value, column, units, level)
        if len(draws)
        else _unknown(value, level)
        for value, column in zip((alpha, beta, gamma), draws.T, strict=True)
    ]
    spread = _spread(mean)
    residuals = (alpha * size**beta + gamma - mean) / spread
    known = misfit.noise(table, spread)
    curves = tuple(misfit.others(size, mean, spread, residuals, known))
    held = max(1, len(size) // 3)
    reason = (
        _reason(size, mean, alpha, beta, spans[1])
        or misfit.rise(table, size)
        or _wrong_curve(residuals, known, curves)
        or _not_foretold(size, table, means, units, held)
    )
    return PowerLaw(
        alpha, beta, gamma, spans[0], spans[1], spans[2], not reason, reason, size, mean, level, draws, units,
        float(size[-1] ** 2 / size[-1 - held]), curves, _floorless(size, means),
    )  # fmt: skip


def _floorless(size: Floats, means: Floats) -> Floats:
    """Power laws towards 0 through resampled means [B, S]: [B, 3]."""
    terms = np.stack([np.ones_like(size), np.log(size)], axis=1)
    a, b = np.linalg.pinv(terms) @ np.log(np.maximum(means, 1e-12)).T
    return np.stack([np.exp(a), b, np.zeros_like(a)], axis=1)


def _wrong_curve(residuals: Floats, known: Noise | None, curves: tuple[Other, ...]) -> str:
    """Why the power law is not the right curve; empty where nothing says so."""
    if better := misfit.rival(curves):
        return f"a curve that is {better.name} explains the errors better (AIC lower by {-better.delta:.1f})"
    if known is not None and (p := misfit.lack_of_fit(residuals, known)) < misfit.ALPHA:
        return (
            f"the errors lie off the curve by more than replicas explain (lack of fit, p = {p:.2g})"
        )
    return ""


def _not_foretold(size: Floats, table: Floats, means: Floats, units: int, held: int) -> str:
    """Why smaller sizes do not foretell the largest `held`; empty where they do, or without replicas."""
    fewer = len(size) - held
    if units < 2 or table.shape[1] < 2 or fewer < 4:
        return ""
    mean = np.nanmean(table, axis=1)
    own = _evaluate(_fit(size[:fewer], mean[None, :fewer]), size[fewer:])[0] - mean[fewer:]
    drawn = _evaluate(_fit(size[:fewer], means[:, :fewer]), size[fewer:]) - means[:, fewer:]
    level = 1 - misfit.FORETOLD_ALPHA / held
    for n, there, estimate, column in zip(size[fewer:], mean[fewer:], own, drawn.T, strict=True):
        if abs(estimate) <= ROUNDING * abs(there):
            continue  # replicas that move all sizes alike leave no other noise than the fit's own
        if intervals.percentile_interval(float(estimate), column, units, level).excludes(0):
            return f"the sizes up to n = {size[fewer - 1]:g} do not foretell the error at n = {n:g}"
    return ""


def crossings(
    first: PowerLaw,
    second: PowerLaw,
    names: tuple[str, str] = ("the first", "the second"),
    *,
    low: float | None = None,
    high: float | None = None,
) -> list[Crossing]:
    """Dataset sizes at which two configurations change places, at most two: "A wins below n = 800".

    low, high: where to look; by default from the smallest size measured to ten times the largest.
    Fits of equal R and seed have paired draws; the interval of n comes from them."""
    from scipy import optimize

    measured = max(first.sizes[0], second.sizes[0]), min(first.sizes[-1], second.sizes[-1])
    low = _positive("low", low or min(first.sizes[0], second.sizes[0]))
    high = _positive("high", high or 10 * max(first.sizes[-1], second.sizes[-1]))
    if low >= high:
        raise ValueError(f"low = {low:g}, high = {high:g}; low must be below high")
    grid = np.geomspace(low, high, 400)
    # Only what the curves do between grid points matters; 400 in log n separates any two roots that count.
    difference = first(grid) - second(grid)
    paired = min(len(first.draws), len(second.draws))
    clouds = _evaluate(first.draws[:paired], grid) - _evaluate(second.draws[:paired], grid)
    found = []
    for k in np.nonzero(difference[:-1] * difference[1:] < 0)[0]:
        n = float(
            optimize.brentq(lambda x: float(first(x) - second(x)), grid[k], grid[k + 1], xtol=1e-9)
        )
        rising = bool(difference[k] < 0)
        interval = _crossing_interval(
            n, rising, grid, clouds, min(first.units, second.units), first.level
        )
        below, above = names if rising else names[::-1]
        outside = not measured[0] <= n <= measured[1]
        found.append(Crossing(n, below, above, interval, outside))
    return found


def _crossing_interval(
    n: float, rising: bool, grid: Floats, clouds: Floats, units: int, level: float
) -> Interval:
    """Interval of the size at which the draws cross in the same sense, nearest to n."""
    places = np.full(len(clouds), math.nan)
    logs = np.log(grid)
    for b, curve in enumerate(clouds if rising else -clouds):
        steps = np.nonzero((curve[:-1] < 0) & (curve[1:] >= 0))[0]
        if steps.size:
            share = curve[steps] / (curve[steps] - curve[steps + 1])
            where = logs[steps] + share * (logs[steps + 1] - logs[steps])
            places[b] = where[np.abs(where - math.log(n)).argmin()]
    if not len(places) or np.isnan(places).mean() > 1 - level:
        return _unknown(n, level)
    span = intervals.percentile_interval(math.log(n), places, units, level)
    return Interval(n, math.exp(span.low), math.exp(span.high), n * span.se, span.n, level)


def _resampled(
    size: Floats, table: Floats, fit: tuple[float, float, float], samples: int, seed: int
) -> tuple[Floats, int]:
    """Mean errors of resampled data, [B, S], and the number of independent units behind them."""
    generator = np.random.default_rng(seed)
    count = table.shape[1]
    if count > 1 and not np.isnan(table).any():
        chosen = generator.integers(count, size=(samples, count))
        return table[:, chosen].mean(axis=2).T, count
    present = (~np.isnan(table)).sum(axis=1)
    means = np.empty((samples, len(size)))
    if count > 1 and (present > 1).any():
        for s, row in enumerate(table):
            row = row[~np.isnan(row)]
            means[:, s] = row[generator.integers(row.size, size=(samples, row.size))].mean(axis=1)
        return means, int(present.max())
    freedom = len(size) - 3
    if freedom < 1:
        return means[:0], 1
    mean = np.nanmean(table, axis=1)
    line = fit[0] * size ** fit[1] + fit[2]
    spread = _spread(mean)
    sd = math.sqrt((((mean - line) / spread) ** 2).sum() / freedom)
    means = line + sd * spread * generator.normal(size=(samples, len(size)))
    return np.maximum(means, 0), freedom + 1


def _fit(size: Floats, errors: Floats) -> Floats:
    """Least squares of relative errors for many curves at once: [B, S] -> [B, 3].

    For a given β the best α and γ are linear (γ held at 0 where it would be negative), so only β is searched:
    a grid over its whole range, then ten times closer around the best."""
    center = math.exp(np.log(size).mean())
    x = np.log(size / center)
    weight = 1 / _spread(errors) ** 2  # [B, S]
    low, high = (math.log(-b) for b in BETA_RANGE)
    grid = np.broadcast_to(np.linspace(high, low, 60), (len(errors), 60))
    rows = np.arange(len(errors))
    for _ in range(8):
        alpha, gamma, loss = _linear(np.exp(-np.exp(grid)[..., None] * x), errors, weight)
        best = loss.argmin(axis=1)
        left = grid[rows, np.maximum(best - 1, 0)]
        right = grid[rows, np.minimum(best + 1, grid.shape[1] - 1)]
        result = np.stack([alpha[rows, best], -np.exp(grid[rows, best]), gamma[rows, best]], axis=1)
        grid = np.linspace(left, right, 20, axis=1)
    result[:, 0] *= center ** -result[:, 1]
    return result


def _linear(power: Floats, errors: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """α, γ and loss for each curve and β: power [B, K, S], errors and weight [B, S] -> [B, K] each."""
    y, w = errors[:, None], weight[:, None]
    total, uu = w.sum(axis=2), (w * power**2).sum(axis=2)
    u, uy, sy = (w * power).sum(axis=2), (w * power * y).sum(axis=2), (w * y).sum(axis=2)
    determinant = np.maximum(uu * total - u**2, 1e-300)
    alpha, gamma = (uy * total - u * sy) / determinant, (uu * sy - u * uy) / determinant
    alpha, gamma = np.where(gamma < 0, uy / uu, alpha), np.maximum(gamma, 0)
    alpha, gamma = np.maximum(alpha, 0), np.where(alpha < 0, sy / total, gamma)
    loss = (w * (alpha[..., None] * power + gamma[..., None] - y) ** 2).sum(axis=2)
    return alpha, gamma, loss


def _polish(size: Floats, errors: Floats, start: Floats) -> tuple[float, float, float]:
    """The last digits, by a bounded least-squares step from the search's result."""
    from scipy import optimize

    center = math.exp(np.log(size).mean())
    x, spread = np.log(size / center), _spread(errors)

    def residual(p: Floats) -> Floats:
        return (p[0] * np.exp(p[1] * x) + p[2] - errors) / spread

    begin = np.array([start[0] * center ** start[1], start[1], start[2]])
    bounds = ([0, BETA_RANGE[0], 0], [np.inf, BETA_RANGE[1], np.inf])
    begin = np.clip(begin, np.array(bounds[0]) + 1e-12, np.array(bounds[1]) - 1e-12)
    found = optimize.least_squares(
        residual, begin, bounds=bounds, xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    p = found.x if (found.fun**2).sum() <= (residual(begin) ** 2).sum() else begin
    gamma = 0.0 if p[2] < 1e-9 * float(errors.max()) else float(p[2])
    return float(p[0] * center ** -p[1]), float(p[1]), gamma


def _reason(size: Floats, mean: Floats, alpha: float, beta: float, span: Interval) -> str:
    """Why the parameters are not fixed by the data; empty when they are."""
    if len(size) < FEWEST_SIZES:
        return f"{len(size)} sizes; a power law with a floor needs at least {FEWEST_SIZES}"
    if alpha <= 0 or mean[-1] >= mean[0]:
        return "the error does not fall with the dataset size"
    low, high = BETA_RANGE
    if not low * 0.99 < beta < high * 1.01:
        return f"beta = {beta:.3g} is at the end of the range searched, {low} to {high}"
    if not span.known:
        return "the interval of beta is unknown: run more sizes or replicas"
    if span.low <= low * 0.99 or span.high >= high * 1.01 or span.high - span.low > abs(beta):
        return f"beta lies anywhere between {span.low:.3g} and {span.high:.3g}"
    return ""


def _spread(errors: Floats) -> Floats:
    """The size of a residual that counts as one: the error itself, but not below a hundredth of the largest."""
    return np.maximum(errors, np.maximum(0.01 * errors.max(axis=-1, keepdims=True), 1e-300))


def _evaluate(draws: Floats, n: Any) -> Floats:
    """Every draw's curve at n: [B, 3], scalar or [G] -> [B] or [B, G]."""
    at = np.asarray(n, dtype=np.float64)
    shape = (-1,) + (1,) * at.ndim
    alpha, beta, gamma = (draws[:, k].reshape(shape) for k in range(3))
    return alpha * at**beta + gamma


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} = {value}; it must be above 0")
    return float(value)


def _unknown(mean: float, level: float) -> Interval:
    return Interval(mean, math.nan, math.nan, math.nan, 1, level)
