"""Trials that differ in one key alone, side by side, and a measure of each, replica by replica."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from engram.sweeps.results import columns
from engram.sweeps.results.boards import GAPS
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.results.verdicts import learns
from engram.sweeps.study.sections import ALIASES, CASES, AsksConfig, several

EXACT = ("epochs", "steps", "parameters")  # counts: one number a trial, and no chance in it
Values = list[float]
Column = dict[str, tuple[Any, Record]]  # by the value as text: the value and its trial


@dataclass(frozen=True)
class Slices:
    """found: what else held in a slice, and its trials; left_out: values that could not be compared."""

    found: list[tuple[dict[str, Any], Column]]
    left_out: list[Any]


def slices_of(evidence: Evidence, asks: AsksConfig, measure: str, axis: str) -> Slices:
    """The slices of a key. Keys that are `tuned` take their best value for each value of this one."""
    tuned = {ALIASES.get(key, key) for key in several(asks.tuned)} - {axis}
    own = {axis, *tuned}
    if axis == CASES and evidence.study and evidence.study.cases:
        own |= set(evidence.study.cases[0])
    groups: dict[str, tuple[dict[str, Any], Column]] = {}
    left_out = []
    by = evidence.board.by if evidence.board else ""
    sign = -1 if columns.higher_is_better(by, evidence.records) else 1
    for record in evidence.records:
        value = value_of(record, axis, evidence)
        if record["status"] != "completed" or values_of(record, measure) is None:
            left_out.append(value)
            continue
        if measure in GAPS and not learns(record):
            left_out.append(value)
            continue
        rest = {k: v for k, v in record["params"].items() if k not in own and k in evidence.axes}
        place, column = groups.setdefault(repr(sorted(rest.items())), (rest, {}))
        known = column.get(repr(value))
        if known is None or sign * mean_of(record, by) < sign * mean_of(known[1], by):
            column[repr(value)] = (value, record)
    usual = Counter(
        len(values_of(r, measure) or ())
        for _, column in groups.values()
        for _, r in column.values()
    )
    if not usual:
        return Slices([], distinct(left_out))
    length = usual.most_common(1)[0][0]
    kept = []
    for place, column in groups.values():
        whole = {
            key: (value, record)
            for key, (value, record) in column.items()
            if len(values_of(record, measure) or ()) == length
        }
        # Without as many replicas as the others a value has no partners: it is left out, and said to be.
        left_out += [value for key, (value, _) in column.items() if key not in whole]
        if len(whole) > 1:
            kept.append((place, whole))
    there = {key for _, column in kept for key in column}
    return Slices(kept, [value for value in distinct(left_out) if repr(value) not in there])


def value_of(record: Record, axis: str, evidence: Evidence) -> Any:
    """The value of a key in a trial; of `cases`, the case as one value."""
    if axis != CASES:
        return record["params"].get(axis)
    keys = evidence.study.cases[0] if evidence.study and evidence.study.cases else ()
    moved = [key for key in keys if key in evidence.axes]
    return tuple((key, record["params"].get(key)) for key in moved)


def ordered(evidence: Evidence, axis: str, slices: Slices) -> list[Any]:
    """The values there are: numbers in order, after what is off; names as the study lists them."""
    there = {key: value for _, column in slices.found for key, (value, _) in column.items()}
    if all(is_number(v) or v is None for v in there.values()):
        return sorted(there.values(), key=lambda v: (v is not None, v or 0))
    if axis == CASES:
        return list(there.values())
    axes = evidence.study.sweep if evidence.study else {}
    listed = [repr(v) for v in getattr(axes.get(axis), "values", ())]
    return [
        there[key] for key in sorted(there, key=lambda k: listed.index(k) if k in listed else 99)
    ]


def values_of(record: Record, measure: str) -> Values | None:
    """A measure replica by replica, or one number where that is all there is; None where a replica has none."""
    values = record["replica_values"].get(measure)
    if values and all(v is not None and math.isfinite(v) for v in values):
        return list(values)
    if values:
        return None
    mean = mean_of(record, measure)
    return [mean] if math.isfinite(mean) else None


def known(record: Record, measure: str) -> Values:
    """The same where it is known to be there."""
    found = values_of(record, measure)
    assert found is not None
    return found


def mean_of(record: Record, measure: str) -> float:
    """A measure's mean, or a count; NaN where it was not measured."""
    found = record["measures"].get(measure)
    value = found["mean"] if found else record.get(measure) if measure in EXACT else None
    return math.nan if value is None else float(value)


def distinct(values: list[Any]) -> list[Any]:
    """Each value once, in the order in which they came."""
    return list({repr(value): value for value in values}.values())
