"""What the report's script draws: trials, axes, measures and curves as plain values. Knows nothing of pages.

Numbers are rounded to what a screen shows; the boards and the CSV have them whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from engram.sweeps.results import columns, tables, words
from engram.sweeps.results.boards import BESIDES, Row, available
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import label

MOST_TRIALS = 2000
MOST_CURVES, MOST_POINTS = 60, 60
CURVES = ("train_error", "validation_error", "test_error")
FEWEST_FOR_IMPORTANCE = 10
DIGITS = 5


def content(evidence: Evidence) -> dict[str, Any]:
    """Everything that the charts and the table of a page need."""
    board = evidence.board
    rows = board.rows[:MOST_TRIALS] if board else []
    measures = _measures(evidence, [row.record for row in rows])
    return {
        "by": board.by if board else "",
        "name": evidence.name,
        "axes": [axis(evidence, key) for key in evidence.axes],
        "measures": measures,
        "trials": [
            _trial(evidence, row, [m["key"] for m in measures], place < MOST_CURVES)
            for place, row in enumerate(rows)
        ],
        "importance": _importance(evidence),
    }


def axis(evidence: Evidence, key: str) -> dict[str, Any]:
    """A swept key as an axis: its name, and a scale that is linear, log, or of names."""
    values = evidence.values(key)
    kind = evidence.scale(key)
    return {
        "key": key,
        "name": words.axis_title(key),
        "short": words.heading(key),
        "scale": kind,
        "values": [words.value(v) for v in values] if kind == "names" else [],
    }


def _measures(evidence: Evidence, records: Sequence[Record]) -> list[dict[str, Any]]:
    board = evidence.board
    shown = [key for key, _ in columns.shown(board.by, records)] if board else []
    names = list(dict.fromkeys([*shown, *(n for n in available(records))]))
    found = []
    for name in names:
        measure = columns.column(name, records)
        found.append(
            {
                "key": name,
                "name": measure.title,
                "short": measure.heading,
                "better": measure.better or "min",
                "means": measure.sentence,
                "shown": name in shown,
            }
        )
    return found


def _trial(evidence: Evidence, row: Row, names: Sequence[str], curves: bool) -> dict[str, Any]:
    record = row.record
    values = {}
    for name in names:
        measure = record["measures"].get(name)
        if measure and measure["mean"] is not None:
            values[name] = _interval(record, name, measure)
        elif name in BESIDES and record.get(name) is not None:
            values[name] = [_rounded(record[name]), None, None, None]
    return {
        "trial": record["trial"],
        "rank": row.rank,
        "place": row.place,
        "tie": row.tie_group,
        "label": label(record["params"]),
        "status": record["status"],
        "verdict": tables.status_of(row, evidence.board.by if evidence.board else ""),
        "params": {key: _setting(evidence, key, record) for key in evidence.axes},
        "values": values,
        "curves": _curves(evidence, record) if curves else None,
    }


def _interval(record: Record, name: str, measure: dict[str, float]) -> list[float | None]:
    """[mean, low, high, half]: the ends as they are shown, and half the interval as it is."""
    if None in (measure["low"], measure["high"]):
        return [_rounded(measure["mean"]), None, None, None]
    low, high = columns.ends(record, name, measure)
    half = (measure["high"] - measure["low"]) / 2
    return [_rounded(v) for v in (measure["mean"], low, high, half)]


def _setting(evidence: Evidence, key: str, record: Record) -> Any:
    value = record["params"].get(key)
    return words.value(value) if evidence.scale(key) == "names" else value


def _curves(evidence: Evidence, record: Record) -> dict[str, Any] | None:
    """Mean errors by epoch, thinned."""
    if not record["measures"].get("train_error"):
        return None
    try:  # not `evidence.arrays`, which would keep all of them in memory
        arrays = evidence.read_arrays(record) or {}
        epochs = np.asarray(arrays["epochs"])
    except (KeyError, OSError, ValueError):
        return None
    if len(epochs) < 2:
        return None
    at = np.unique(np.linspace(0, len(epochs) - 1, MOST_POINTS).astype(int))
    found: dict[str, Any] = {"epochs": epochs[at].tolist()}
    for name in CURVES:
        curve = arrays.get(f"{name}_curve")
        if curve is not None and len(curve) == len(epochs):
            means = np.nanmean(np.asarray(curve, float), axis=1)[at]
            found[name] = [_rounded(v) for v in means]
    return found if len(found) > 1 else None


def _importance(evidence: Evidence) -> list[dict[str, Any]]:
    """Share of the differences that each axis explains by itself, and whether it is told from nothing."""
    by = evidence.board.by if evidence.board else ""
    there = [r for r in evidence.completed if r["measures"].get(by)]
    if len(evidence.axes) < 2 or len(there) < FEWEST_FOR_IMPORTANCE:
        return []
    found = evidence.shares(by, there)
    return [
        {
            "key": key,
            "share": _rounded(found[key].mean),
            "low": _rounded(found[key].low),
            "high": _rounded(found[key].high),
            "told": found[key].told,
        }
        for key in sorted(evidence.axes, key=lambda k: -found[k].mean)
    ]


def _rounded(value: Any) -> float | None:
    if not is_number(value) and not isinstance(value, np.number):
        return None
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
