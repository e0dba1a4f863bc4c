"""A committed record as results read it: a measure as an interval, and the difference of two records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engram.measures import comparison, intervals
from engram.measures.intervals import Interval, Needed

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


def tie_groups(ranked: Sequence[Record], by: str, sign: float = 1.0) -> list[int]:
    """The tie group of each of these records, which are in the order of their means, from 1; sign: -1 where the
    highest comes first.

    Where all have the same replicas, as comparison.groups says; where some lost replicas or have no values,
    pair by pair at a level divided among all pairs."""
    values = [record["replica_values"].get(by) for record in ranked]
    if not values:
        return []
    if all(each and len(each) == len(values[0]) for each in values):
        table = sign * np.asarray(values, float)
        order = np.argsort(table.mean(axis=1), kind="stable")  # as ranked, but for rounding
        found = np.empty(len(table), np.int64)
        found[order] = comparison.groups(table[order])
        return found.tolist()
    return comparison.groups_of_pairs([each or None for each in values]).tolist()


def needed(record: Record, other: Record, by: str, compared: int) -> Needed | None:
    """How many more replicas would separate the two on a board of so many; None where nothing shows that they differ."""
    mine, theirs = (r["replica_values"].get(by) for r in (record, other))
    if not mine or not theirs or len(mine) != len(theirs):
        return None
    level = 1 - comparison.ALPHA / max(1, compared * (compared - 1) // 2)
    return intervals.replicas_needed(np.subtract(mine, theirs), level)
