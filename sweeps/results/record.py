"""A committed record as results read it: a measure as an interval, and the difference of two records."""

from __future__ import annotations

import math
from typing import Any

from engram.measures import intervals
from engram.measures.intervals import Interval

Record = dict[str, Any]


def difference(record: Record, other: Record, by: str) -> Interval | None:
    """record minus other: paired where both have the same replicas, Welch where one lost some; None if unknown."""
    mine, theirs = record["replica_values"].get(by), other["replica_values"].get(by)
    if not mine or not theirs:
        return None
    if len(mine) == len(theirs):
        return intervals.paired(mine, theirs)
    return intervals.welch(mine, theirs)


def interval_of(record: Record, name: str) -> Interval:
    measure = record["measures"][name]
    low, high = (math.nan if measure[k] is None else measure[k] for k in ("low", "high"))
    units = len(record["replica_values"].get(name, ()))
    return Interval(measure["mean"], low, high, math.nan, units)
