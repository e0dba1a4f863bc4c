"""All series of a night against one noise model: what of each change noise can explain, and what of all together.

The model: tonight minus the baseline varies by replica (seeds and subsets, as far as they differ) and by night
(data, machine). The variance of night means holds both, so that only what exceeds the replicas' part is added
to it: noise is counted once. Variances are moderated among the series of a night.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from engram.measures import between_nights, intervals
from engram.measures.intervals import Interval
from engram.sweeps.nightly.series import (
    BETTER,
    FEW,
    FEWEST_NIGHTS,
    NOISY,
    REGRESSION,
    STEADY,
    Change,
    Series,
)

# How the rate of false alarms of a night is shared out.
ALONE, PERSISTENT, TOGETHER = 0.6, 0.1, 0.3
ONE_SIDED = 2  # only a rise is an alarm, and intervals have two sides
ROUNDING = 1e-9  # a change below it is none, whatever the margin
FEWEST_TOGETHER = 3  # series
SUSPECT_LEVEL = 0.95
EVIDENT = 0.1  # p-value below which nights are taken to move series together


@dataclass(frozen=True)
class Noise:
    """Of one series: variance of tonight minus baseline by replicas, and by nights beyond that, with their freedoms."""

    replicas: float
    replica_freedom: float
    nights: float
    night_freedom: float

    def interval(self, mean: float, level: float) -> Interval:
        """The interval of a change; unknown for a single replica."""
        if not self.replica_freedom:
            return Interval(mean, math.nan, math.nan, math.nan, 1, level)
        n = max(2, round(self.replica_freedom) + 1)
        half = intervals._student(level, n - 1) * math.sqrt(self.replicas)
        plain = Interval(mean, mean - half, mean + half, math.sqrt(self.replicas), n, level)
        return between_nights.widened(plain, self.nights, self.night_freedom)


def judged(series: list[Series], alarms: float, margin: float) -> list[Change]:
    """What each series did; alarms: how often a night on which nothing happened may be called a regression."""
    if not series:
        return []
    noises = _noises(series)
    alone, persistent = (
        1 - ONE_SIDED * alarms * share / len(series) for share in (ALONE, PERSISTENT)
    )
    found = [
        _judged(one, noise, alone, persistent, margin)
        for one, noise in zip(series, noises, strict=True)
    ]
    # Those that show it by themselves explain themselves: the others are asked for what they say together.
    rest = [k for k, change in enumerate(found) if change.kind != REGRESSION]
    others = [series[k] for k in rest], [noises[k] for k in rest]
    return _told_together(found) if _together(*others, alarms * TOGETHER) else found


def _told_together(changes: list[Change]) -> list[Change]:
    """All series together have risen: those that show it by themselves are regressions, or all that rose."""
    suspect = any(change.suspect or change.kind == REGRESSION for change in changes)
    return [
        replace(change, kind=REGRESSION, suspect=False)
        if change.kind == NOISY and (change.suspect or not suspect)
        else change
        for change in changes
    ]


def _noises(series: list[Series]) -> list[Noise]:
    changes = [one.change(one.tonight) for one in series]
    freedom = min((change.n for change in changes), default=1) - 1
    # Errors, gaps, bias² and variance have like units; what has others makes the moderation weaker, not wrong.
    pulled, replica_freedom = between_nights.moderated(
        [c.se**2 if c.known else 0.0 for c in changes], freedom
    )
    replicas = [float(variance) for variance in pulled]
    found = [one.between() for one in series]
    beyond = _beyond(series, replicas, found)
    together = _move_together(series, replicas)
    noises = []
    for one, variance, (_, nights), extra in zip(series, replicas, found, beyond, strict=True):
        extra *= 1 + 1 / len(one.current)
        known = float(nights)
        if together and extra > 0:
            # What is beyond replicas is a difference of two estimates: together they are known as well as the nights
            # are, and no other series says more of them.
            known *= (extra / (extra + variance)) ** 2
        noise = Noise(variance, replica_freedom if freedom else 0.0, extra, known)
        if one.sampling > extra:
            noise = replace(noise, nights=one.sampling, night_freedom=0)
        noises.append(noise)
    return noises


def _beyond(
    series: list[Series], replicas: list[float], found: list[tuple[float, int]]
) -> list[float]:
    """Variance between nights that replicas do not explain."""
    parts = [v / (1 + 1 / len(one.current)) for v, one in zip(replicas, series, strict=True)]
    ratios = [v / part if part > 0 else 0.0 for (v, _), part in zip(found, parts, strict=True)]
    least = min((freedom for _, freedom in found), default=0)
    pulled, _ = between_nights.moderated(ratios, least)
    return [
        max(0.0, float(ratio) - 1) * part if part > 0 else variance
        for ratio, part, (variance, _) in zip(pulled, parts, found, strict=True)
    ]


def _move_together(series: list[Series], replicas: list[float]) -> bool:
    """Whether nights differ in something that all series feel (machine, data): an F test of night means, in units of
    what replicas explain; for fewer than three series, of their variance itself."""
    first = series[0]
    quiet = [
        b
        for b in range(len(first.nights))
        if not any(b < len(s.suspects) and s.suspects[b] for s in series)
    ]
    if any(s.eras != first.eras or s.nights.shape != first.nights.shape for s in series):
        return True  # they cannot be laid beside each other
    eras = np.array(first.eras)[quiet]
    if not quiet or min(replicas) <= 0:
        return False
    rows = np.array([s.nights[quiet].mean(axis=1) for s in series])
    for era in np.unique(eras):
        rows[:, eras == era] -= rows[:, eras == era].mean(axis=1, keepdims=True)
    rows /= np.sqrt([v / (1 + 1 / len(s.current)) for v, s in zip(replicas, series, strict=True)])[
        :, None
    ]
    freedom = len(quiet) - len(np.unique(eras))
    if freedom < 1:
        return False
    common = len(series) * float((rows.mean(axis=0) ** 2).sum()) / freedom
    if len(series) < FEWEST_TOGETHER:
        return bool(special.chdtrc(freedom, common * freedom) < EVIDENT)
    rest = float(((rows - rows.mean(axis=0)) ** 2).sum())
    left = freedom * (len(series) - 1)
    return rest <= 0 or bool(special.fdtrc(freedom, left, common * left / rest) < EVIDENT)


def _together(series: list[Series], noises: list[Noise], alarms: float) -> bool:
    """Whether all series together have risen: their mean in units of their own noise, judged as one series."""
    sizes = [math.sqrt(n.replicas + n.nights) for n in noises]
    whole = [
        (one, size)
        for one, size in zip(series, sizes, strict=True)
        if size > 0 and not one.exhausted and one.nights.shape == series[0].nights.shape
    ]
    if len(whole) < FEWEST_TOGETHER:
        return False
    rows = [b for b in range(len(series[0].nights)) if all(b in one.current for one, _ in whole)]
    if not rows:
        return False
    combined = Series(
        {},
        "all",
        np.mean([one.tonight / size for one, size in whole], axis=0),
        np.mean([one.nights[rows] / size for one, size in whole], axis=0),
        [0] * len(rows),
        [False] * len(rows),
        all(one.paired for one, _ in whole),
        max(one.sampling / size**2 for one, size in whole),
    )
    (noise,) = _noises([combined])
    change = noise.interval(
        float(combined.tonight.mean() - combined.baseline.mean()), 1 - ONE_SIDED * alarms
    )
    return change.mean > 0 and change.excludes(0)


def _judged(one: Series, noise: Noise, alone: float, persistent: float, margin: float) -> Change:
    wide = noise.interval(float(one.tonight.mean() - one.baseline.mean()), alone)
    suspect = noise.interval(wide.mean, SUSPECT_LEVEL).excludes(0)
    beyond = wide.excludes(0) or (one.exhausted and suspect)
    if suspect and not beyond and (recent := one.recent) is not None:
        late = one.change(recent)
        wider = replace(noise, replicas=max(noise.replicas, late.se**2))
        ends = wider.interval(late.mean, persistent)
        beyond = late.mean > margin and ends.excludes(0)
    kind = _kind(one, wide.mean, beyond, margin)
    needs = None
    if kind == NOISY and abs(wide.mean) > 2 * math.sqrt(noise.nights):
        more = intervals.replicas_needed(one.tonight - one.baseline, alone)
        needs = more.estimate if more else None
    return Change(
        one.params,
        one.measure,
        kind,
        float(one.baseline.mean()),
        float(one.tonight.mean()),
        wide.mean,
        wide.low if wide.known else None,
        wide.high if wide.known else None,
        len(one.current),
        one.paired,
        needs,
        kind == NOISY and suspect,
    )


def _kind(one: Series, change: float, beyond: bool, margin: float) -> str:
    if len(one.nights) < FEWEST_NIGHTS:
        return FEW
    moves = [change]
    older = [b for b, era in enumerate(one.eras) if era > 0]
    if len(one.current) < FEWEST_NIGHTS and older:
        moves.append(float(one.tonight.mean() - one.nights[older].mean()))
    margin = max(margin, ROUNDING)
    worse, better = min(moves) > margin, max(moves) < -margin
    if not (worse or better):
        return STEADY
    if worse:
        return REGRESSION if beyond else NOISY
    return BETTER if beyond else STEADY
