"""A column of a leaderboard as the catalog of measures knows it, or as the records do: a person's own measure.

Records say of each such measure which function it is and which way is better; a board needs no study for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engram.measures import catalog
from engram.measures.measure import FREE, HELD_OUT, Measure
from engram.sweeps.results.record import Record


def column(name: str, records: Sequence[Record] = ()) -> Measure:
    """What is known of a column; of one that neither the table nor a record describes, its name."""
    found = catalog.find(name)
    if found is not None:
        return found
    bare = name.removeprefix(HELD_OUT)
    facts = next((f for r in records if (f := (r.get("own_measures") or {}).get(bare))), None)
    if facts is None:
        return Measure(name, catalog.title(name), "", "min", FREE, "")
    own = replace(catalog.own(facts["path"]), better=facts["better"])
    return own if bare == name else own.held_out()


def ends(record: Record, name: str, found: Mapping[str, float]) -> tuple[float, float]:
    """The ends of an interval as they are shown: an error is never below 0 or above 1. What is recorded stays whole."""
    low, high = catalog.bounds(column(name, [record]), record.get("task") != "regression")
    return min(max(found["low"], low), high), max(min(found["high"], high), low)


def higher_is_better(name: str, records: Sequence[Record]) -> bool:
    return column(name, records).better == "max"


def superlative(name: str, records: Sequence[Record]) -> str:
    """The best value of a column, in a word."""
    return "highest" if higher_is_better(name, records) else "lowest"


def asked_for(names: Sequence[str], records: Sequence[Record]) -> list[str]:
    """Of these columns, the metrics that a study asked for, as measured on the test set."""
    found = (column(name, records) for name in names if not name.startswith(HELD_OUT))
    return [measure.name for measure in found if measure.asked]


def beside(by: str, records: Sequence[Record]) -> str:
    """The same on the test set, of a column that is measured on the validation set; else the column itself."""
    if not by.startswith(HELD_OUT):
        return by
    bare = by.removeprefix(HELD_OUT)
    return bare if column(by, records).of is not None else f"test_{bare}"


def shown(by: str, records: Sequence[Record] = ()) -> list[tuple[str, str]]:
    """Columns of a table ranked by one, each with its heading: that one first, where it is not among the usual."""
    usual = list(catalog.HEADLINES)
    first = [name for name in dict.fromkeys((by, beside(by, records))) if name not in usual]
    return [(name, column(name, records).heading) for name in [*first, *usual]]
