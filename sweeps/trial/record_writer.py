"""How measures enter a record: a mean with its ends for people, values per replica for pairing.

Knows intervals and the record's layout; must not know how anything is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from engram.measures import intervals, new_data
from engram.measures.intervals import Interval
from engram.measures.left_out import Groups
from engram.measures.new_data import Sampling

# Memory for one array kept with a trial; larger ones are left out and the record says so.
LARGEST_KEPT_BYTES = 32 * 2**20


def shortened(value: float) -> float:
    """Seven digits: more are noise, and make tables hard to read."""
    return float(f"{value:.7g}")


class RecordWriter:
    """Writes measures into `record`, and what is too long for it into `arrays`.

    unit: replicas that are not independent of each other (networks of one draw, pairs of draws). pool_share: of
    new_data.pool_share, NaN where nothing is known of other pools. `measures` hold the interval for retraining, and
    `new_data` the ends of the one for new data where it is known.
    """

    def __init__(
        self,
        record: dict[str, Any],
        arrays: dict[str, np.ndarray],
        unit: int = 1,
        pool_share: float = math.nan,
    ):
        self.record, self.arrays, self.unit = record, arrays, unit
        self.pool_share = pool_share

    def unit_of(self, count: int) -> int:
        """The unit where `count` replicas are whole units; else each replica for itself."""
        return self.unit if count % self.unit == 0 else 1

    def values(self, name: str, values: np.ndarray, sampling: Sampling | None = None) -> None:
        """A measure that each replica has: its mean with a t interval; null without replicas.

        sampling: what the finite sample of held-out examples adds; None: nothing is known of new data."""
        if not len(values):
            self.record["measures"][name] = None
            return
        unit = self.unit_of(len(values))
        found = intervals.t_interval(values, inits=unit)
        self.interval(name, found, intervals.units(values, unit))
        self.new_data(name, found, sampling, len(values) // unit)

    def new_data(
        self, name: str, found: Interval, sampling: Sampling | None, independent: int
    ) -> None:
        """The ends of the interval for new data; nothing where the design does not tell."""
        if sampling is None or not math.isfinite(found.mean):
            return
        wide = new_data.interval(found, self.pool_share, sampling, independent)
        if wide.known:
            ends = {"low": shortened(wide.low), "high": shortened(wide.high)}
            self.record.setdefault("new_data", {})[name] = ends

    def interval(self, name: str, interval: Interval, values: np.ndarray | None = None) -> None:
        """A measure with its interval as it is; null where it is undefined."""
        if not math.isfinite(interval.mean):
            self.record["measures"][name] = None
            return
        ends = (shortened(x) if math.isfinite(x) else None for x in (interval.low, interval.high))
        low, high = ends
        self.record["measures"][name] = {"mean": shortened(interval.mean), "low": low, "high": high}
        if values is not None and np.isfinite(values).all():
            self.record["replica_values"][name] = [shortened(v) for v in values]

    def number(self, name: str, value: float) -> None:
        """A measure whose interval is not known."""
        self.interval(name, Interval(float(value), math.nan, math.nan, math.nan, 1))

    def statistic(self, name: str, rows: np.ndarray, groups: Groups) -> None:
        """A measure of all replicas at once, [1 + G] as `left_out` has it: jackknife pseudo-values give its interval."""
        if len(groups):
            pseudo = groups.pseudo_values(rows)
            self.interval(name, intervals.t_interval(pseudo), pseudo)
        else:
            self.number(name, rows[0])

    def of_examples(
        self, rows: Mapping[str, np.ndarray], groups: Groups, clusters: np.ndarray | None = None
    ) -> None:
        """Measures of all replicas at once that are means over held-out examples: {name: [1 + G, N]}.

        clusters: [N], which examples hang together; None: none do."""
        if not len(groups):
            for name, values in rows.items():
                self.number(name, values[0].mean())
            return
        for name, (pseudo, sampling) in new_data.jackknifed(rows, groups, clusters).items():
            found = intervals.t_interval(pseudo)
            self.interval(name, found, pseudo)
            self.new_data(name, found, sampling, groups.count // groups.unit)

    def warn(self, text: str) -> None:
        """Something a reader must know to trust the record."""
        self.record["warnings"].append(text)

    def keep(self, name: str, array: np.ndarray) -> None:
        """An array for pictures and later questions, unless it is too large."""
        if self.room(name, array.nbytes):
            self.arrays[name] = array

    def room(self, name: str, size: int) -> bool:
        """Whether an array of so many bytes is kept; the record says so where it is not."""
        if size > LARGEST_KEPT_BYTES:
            self.warn(f"{name} would take {size / 2**20:.0f} MiB and was not kept")
        return size <= LARGEST_KEPT_BYTES
