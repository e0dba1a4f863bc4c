"""How measures enter a record: a mean with its ends for people, values per replica for pairing.

Knows intervals and the record's layout; must not know how anything is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engram.measures import intervals, new_data
from engram.measures.intervals import Interval
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

    def statistic(self, name: str, statistic: Callable[..., float], *arrays: np.ndarray) -> None:
        """A measure of all replicas at once: jackknife pseudo-values give its interval."""
        count = len(arrays[0])
        unit = self.unit_of(count)
        if count // unit >= 3:
            pseudo = intervals.jackknife(statistic, arrays, inits=unit)
            self.interval(name, intervals.t_interval(pseudo), pseudo)
        elif count >= 2:
            self.number(name, statistic(*arrays))
        else:
            self.record["measures"][name] = None

    def of_examples(
        self,
        statistic: Callable[..., Mapping[str, np.ndarray]],
        *arrays: np.ndarray,
        unit: int | None = None,
    ) -> None:
        """Measures of all replicas at once that are means over held-out examples; statistic: -> {name: [N]}."""
        count = len(arrays[0])
        unit = unit or self.unit_of(count)
        if count // unit >= 3:
            for name, (pseudo, sampling) in new_data.jackknifed(
                statistic, arrays, inits=unit
            ).items():
                found = intervals.t_interval(pseudo)
                self.interval(name, found, pseudo)
                self.new_data(name, found, sampling, count // unit)
            return
        for name, values in statistic(*arrays).items():
            self.number(name, float(values.mean()))

    def warn(self, text: str) -> None:
        """Something a reader must know to trust the record."""
        self.record["warnings"].append(text)

    def keep(self, name: str, array: np.ndarray) -> None:
        """An array for pictures and later questions, unless it is too large."""
        if array.nbytes > LARGEST_KEPT_BYTES:
            self.warn(f"{name} would take {array.nbytes / 2**20:.0f} MiB and was not kept")
        else:
            self.arrays[name] = array
