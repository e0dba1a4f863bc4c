"""What a network knew and lost: within one training, and from one task to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats, Ints
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Events:
    """Forgetting of each of N examples, one entry each.

    forgotten: how often it went from right to wrong; learned_at: index of the first right presentation, NaN
    if never; unforgettable: learned, and never forgotten; never_learned; sort_value: `forgotten`, and the
    number of presentations for examples never learned, which are thus the hardest."""

    forgotten: Ints
    learned_at: Floats
    unforgettable: Bools
    never_learned: Bools
    sort_value: Ints

    @property
    def unforgettable_share(self) -> float:
        """Share of presented examples that are unforgettable; NaN when nothing was presented."""
        presented = self.unforgettable | self.never_learned | (self.forgotten > 0)
        return float(self.unforgettable.sum() / presented.sum()) if presented.any() else math.nan


def events(correct: Any) -> Events:
    """Forgetting events over training.

    correct: [E, N], right (1) or wrong (0) at each presentation, in order, before the update it causes;
    NaN: not presented then (skipped). An example never presented is neither learned nor unlearned.
    A departure when one entry per epoch is given: events inside an epoch go unseen.
    Source: Toneva et al. 2019, arXiv:1812.05159, section 3 and algorithm 1."""
    values = arrays.floats(correct, "correct", ndim=2, nan=True)
    seen = ~np.isnan(values)
    if not np.isin(values[seen], (0, 1)).all():
        raise ValueError(f"correct holds {values[seen].max():g}; it must hold 0, 1 or NaN")
    right = values == 1
    forgotten = np.zeros(values.shape[1], dtype=np.int64)
    before = np.zeros(values.shape[1], dtype=bool)
    for now, here in zip(right, seen, strict=True):
        forgotten += here & before & ~now
        before = np.where(here, now, before)
    learned = right.any(axis=0)
    presented = seen.any(axis=0)
    learned_at = np.where(learned, right.argmax(axis=0), math.nan)
    never = presented & ~learned
    return Events(
        forgotten=forgotten,
        learned_at=learned_at,
        unforgettable=learned & (forgotten == 0),
        never_learned=never,
        sort_value=np.where(never, seen.sum(axis=0), forgotten),
    )


@dataclass(frozen=True)
class Retention:
    """What a second training did to the first task: per replica [R] and over replicas.

    lost: share of the examples known before that are wrong after; drop: accuracy before - after."""

    lost: Floats
    drop: Floats
    lost_interval: Interval
    drop_interval: Interval


def retention(before: Any, after: Any, level: float = 0.95) -> Retention:
    """Forgetting of task A by training on task B.

    before, after: [R, N] right or wrong on task A, before and after B. lost is in [0, 1], NaN (and left
    out of its interval) for a replica that knew nothing; drop is in [-1, 1].
    Source: backward transfer of Lopez-Paz & Ranzato 2017, arXiv:1706.08840, eq. 3, with the sign turned."""
    old = arrays.booleans(before, "before", ndim=2)
    new = arrays.booleans(after, "after", ndim=2)
    arrays.same("after", new.shape, "before", old.shape)
    known = old.sum(axis=1).astype(np.float64)
    lost = (old & ~new).sum(axis=1) / np.where(known > 0, known, math.nan)
    drop = old.mean(axis=1) - new.mean(axis=1)
    return Retention(
        lost,
        drop,
        intervals.t_interval(lost, level, omit_nan=True),
        intervals.t_interval(drop, level),
    )
