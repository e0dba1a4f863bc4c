"""How long training takes to reach a level, when some runs never do.

A run that stops without reaching the level is censored: its time is known to exceed the last epoch seen. Leaving
it out, or counting the last epoch as its time, flatters slow configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.intervals import Interval

# The default level: nine tenths of the way from the first epoch's value to the run's own best.
DEFAULT_SHARE = 0.9
# A run whose value never falls by a tenth of where it started has not converged to anything.
DEFAULT_FALL = 0.1


@dataclass(frozen=True)
class Convergence:
    """Epochs to a level.

    per_replica: [R], NaN where censored; censored: [R] bool; last: [R], the last epoch seen of each run;
    median (Kaplan-Meier): inf when half or more never arrived, with low and high, inf meaning beyond the last
    epoch, as is proper for few runs; restricted: the mean of min(time, last epoch) with a t interval, always
    finite, a lower bound of the mean when runs are censored."""

    per_replica: Floats
    censored: Bools
    last: Floats
    median: float
    low: float
    high: float
    restricted: Interval
    level: float = 0.95

    @property
    def reached(self) -> int:
        """How many runs arrived."""
        return int((~self.censored).sum())


def epochs_to(
    curves: Any,
    epochs: Any = None,
    threshold: float | None = None,
    *,
    direction: Literal["below", "above"] = "below",
    hold: int = 1,
    level: float = 0.95,
) -> Convergence:
    """The first epoch at which each curve is at or beyond `threshold`, for `hold` epochs in a row.

    curves: [R, E], errors or losses (below) or accuracies and shares (above), NaN after a run has stopped;
    epochs: [E], increasing, 1..E when None. threshold None: each run's own level, nine tenths of the way
    from its first value to its best; a run that never moves by a tenth of its first value is censored.
    That default says how fast a run gets where it goes, not where; compare configurations by a number.
    Source: median and its interval by Kaplan & Meier 1958 and Brookmeyer & Crowley 1982 (log-log)."""
    values = arrays.floats(curves, "curves", ndim=2, nan=True)
    runs, length = values.shape
    times = (
        np.arange(1.0, length + 1) if epochs is None else arrays.floats(epochs, "epochs", ndim=1)
    )
    arrays.same("epochs", times.shape, "curves (their second axis)", (length,))
    if (np.diff(times) <= 0).any():
        raise ValueError(f"epochs = {times.tolist()}; they must increase")
    if direction not in ("below", "above"):
        raise ValueError(f"direction = {direction!r}; it must be 'below' or 'above'")
    if not 1 <= hold <= length:
        raise ValueError(f"hold = {hold}; it must be from 1 to {length}, the number of epochs")
    sign = 1.0 if direction == "below" else -1.0
    limit = own_levels(values, direction) if threshold is None else np.full(runs, float(threshold))
    with np.errstate(invalid="ignore"):
        there = sign * values <= sign * limit[:, None]  # NaN compares false
    windows = np.lib.stride_tricks.sliding_window_view(
        there, hold, axis=1
    )  # [R, E - hold + 1, hold]
    held = np.all(windows, axis=2)
    arrived = held.any(axis=1)
    time = np.where(arrived, times[held.argmax(axis=1)], math.nan)
    seen = ~np.isnan(values)
    last = np.where(seen.any(axis=1), times[length - 1 - seen[:, ::-1].argmax(axis=1)], 0.0)
    return summarize(time, last, level)


def own_levels(curves: Any, direction: Literal["below", "above"] = "below") -> Floats:
    """The default level of each run: [R, E] -> [R], NaN for a run that never moved."""
    values = arrays.floats(curves, "curves", ndim=2, nan=True)
    sign = 1.0 if direction == "below" else -1.0
    levels = np.full(len(values), math.nan)
    for r, curve in enumerate(values):
        curve = curve[~np.isnan(curve)]
        if curve.size:
            first, best = curve[0], sign * (sign * curve).min()
            if abs(first - best) >= DEFAULT_FALL * abs(first) and first != best:
                levels[r] = first + DEFAULT_SHARE * (best - first)
    return levels


def summarize(times: Any, last: Any, level: float = 0.95) -> Convergence:
    """Convergence from times [R], NaN where censored at `last` [R] or one number for all."""
    arrays.within("level", level, 0, 1)
    time = arrays.floats(times, "times", ndim=1, nan=True)
    end = np.broadcast_to(arrays.floats(last, "last", ndim=(0, 1)), time.shape)
    censored = np.isnan(time)
    median, low, high = _kaplan_meier_median(np.where(censored, end, time), ~censored, level)
    restricted = intervals.t_interval(np.where(censored, end, time), level)
    return Convergence(time, censored, end, median, low, high, restricted, level)


def _kaplan_meier_median(time: Floats, event: Bools, level: float) -> tuple[float, float, float]:
    """Where the survival curve, and the ends of its log-log band, first come down to one half."""
    z = float(special.ndtri((1 + level) / 2))
    survival, greenwood = 1.0, 0.0
    median = low = high = math.inf
    for t in np.unique(time[event]):
        at_risk = int((time >= t).sum())
        events = int((event & (time == t)).sum())
        survival *= 1 - events / at_risk
        if survival <= 0.5 + 1e-12:
            median = min(median, float(t))
        if survival <= 1e-12:  # the band has no width to speak of: everyone has arrived
            low = min(low, float(t))
            break
        greenwood += events / (at_risk * (at_risk - events))
        center, half = math.log(-math.log(survival)), z * math.sqrt(greenwood) / -math.log(survival)
        if math.exp(-math.exp(center + half)) <= 0.5:
            low = min(low, float(t))
        if math.exp(-math.exp(center - half)) < 0.5:
            high = min(high, float(t))
    return median, low, high
