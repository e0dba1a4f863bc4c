"""Several executions as one: what differs between them becomes an axis beside those that were swept.

The axis is the setting that differs (a dataset, a family, a number of steps), or the execution where more than one does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engram.problems import Place, Problem, StudyError
from engram.sweeps.results import compare, words
from engram.sweeps.results.compare import Comparison, Trend
from engram.sweeps.results.evidence import Arrays, Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.study.sections import SWEPT_SECTIONS

EXECUTION = "execution"
WHOLE = ("data.name", "model.family")  # other settings follow from these


@dataclass(frozen=True)
class Joined:
    """Executions in the order in which they were named, held against the first.

    axis: the setting that differs, or `execution`; values: what each has there."""

    evidences: list[Evidence]
    axis: str
    values: list[Any]
    comparisons: list[Comparison]
    trends: list[Trend]

    @functools.cached_property
    def whole(self) -> Evidence:
        """All trials of all executions as one evidence, with the axis as one more swept key.

        StudyError where an execution is named twice: its trials would stand beside themselves."""
        return _together(self)

    @property
    def names(self) -> list[str]:
        return [evidence.name for evidence in self.evidences]

    @property
    def question(self) -> str:
        if self.axis == EXECUTION:
            return f"What differs between {words.listed(self.names)}?"
        return f"What does {words.subject(self.axis)} change?"


def join(evidences: Sequence[Evidence]) -> Joined:
    """The executions side by side; StudyError where one has nothing that the first can be compared with."""
    first, *others = evidences
    problems = [p for other in others for p in _task(first, other)]
    if problems:
        raise StudyError(problems)
    axis, values, ordered = _axis(evidences)
    comparisons, trends = compare.compare_all(first, others, ordered)
    problems = [
        _unmatched(first, other)
        for other, found in zip(others, comparisons, strict=True)
        if not found.pairs
    ]
    if problems:
        raise StudyError(problems)
    return Joined(list(evidences), axis, values, comparisons, trends)


def _task(first: Evidence, other: Evidence) -> list[Problem]:
    a, b = ({r["task"] for r in e.records if r.get("task")} for e in (first, other))
    if not a or not b or a & b:
        return []
    rule = f"is a {b.pop()} and {first.name} a {a.pop()}: their errors have no common measure"
    return [Problem(Place(other.name), rule, "compare executions of one task")]


def _unmatched(first: Evidence, other: Evidence) -> Problem:
    for evidence in (first, other):
        if not evidence.records:
            return Problem(Place(evidence.name), "has no trial yet", "wait for its first ones")
    rule = f"has no configuration in common with {first.name}"
    fix = (
        f"{first.name} has {_swept(first)}; {other.name} has {_swept(other)}; what one of them sweeps, the "
        "other must sweep or fix at a value among those"
    )
    return Problem(Place(other.name), rule, fix)


def _swept(evidence: Evidence) -> str:
    """What an execution sweeps, with its values."""
    keys = dict.fromkeys(key for record in evidence.records for key in record["params"])
    told = []
    for key in keys:
        values = [words.value(v) for v in evidence.values(key)]
        more = ", …" if len(values) > 6 else ""
        told.append(f"{key} {', '.join(values[:6])}{more}")
    return " and ".join(told) or "one configuration"


def _axis(evidences: Sequence[Evidence]) -> tuple[str, list[Any], bool]:
    """(the one setting that differs, else the execution; its values; whether one after the other means anything)

    A trend is over executions of the same settings: code, versions or data moved between them."""
    studies = [compare.flat_study(e) for e in evidences]
    swept = {key for e in evidences if e.study for key in e.study.sweep}
    keys = dict.fromkeys(key for study in studies for key in study)
    differ = [
        key
        for key in keys
        if key.partition(".")[0] in SWEPT_SECTIONS
        and key not in swept
        and len({repr(study.get(key)) for study in studies}) > 1
    ]
    whole = [key for key in WHOLE if key in differ]
    named = whole or differ
    if len(named) == 1:
        values = [study.get(named[0]) for study in studies]
        if len({repr(v) for v in values}) == len(values):
            return named[0], values, False
    return EXECUTION, [e.name for e in evidences], not differ


# -- all trials together ------------------------------------------------------------------------------


def _together(joined: Joined) -> Evidence:
    twice = sorted({name for name in joined.names if joined.names.count(name) > 1})
    if twice:
        raise StudyError([Problem(Place(name), "is named twice", "name it once") for name in twice])
    keys = list(
        dict.fromkeys(key for e in joined.evidences for r in e.records for key in r["params"])
    )
    # 0 and 0.0 are one value, written as where it stood first.
    same: dict[tuple[str, bool, Any], Any] = {}
    records: list[Record] = []
    origins: list[tuple[Evidence, Record]] = []
    for evidence, value in zip(joined.evidences, joined.values, strict=True):
        for record in evidence.records:
            settings = compare.settings(evidence, record, keys)
            params = {
                key: same.setdefault((key, isinstance(v, bool), v), v)
                for key, v in settings.items()
            }
            params = {joined.axis: value, **params}
            origins.append((evidence, record))
            records.append(
                {
                    **record,
                    "trial": len(records),
                    "params": params,
                    "execution": f"trial {record['trial']} of {evidence.name}",
                }
            )

    def arrays(record: Record) -> Arrays | None:
        evidence, own = origins[record["trial"]]
        return evidence.read_arrays(own)

    info = {"question": joined.question, "definition": _definition(joined, records)}
    return Evidence(", ".join(joined.names), records, info, {}, "", arrays)


def _definition(joined: Joined, records: Sequence[Record]) -> dict[str, Any]:
    """The first study, as if it had swept what all of them have, and had asked about the axis."""
    study = joined.evidences[0].study
    if study is None:
        return {}
    swept: dict[str, dict[str, Any]] = {}
    for record in records:
        for key, value in record["params"].items():
            swept.setdefault(key, {}).setdefault(repr(value), value)
    definition = study.model_dump(mode="json")
    objectives = [e.study.search.objective for e in joined.evidences if e.study]
    search = {**definition["search"], "sampler": "grid", "trials": len(records)}
    if any(objective != objectives[0] for objective in objectives):
        search["objective"] = {"validation_error": "min"}
    return {
        **definition,
        "question": joined.question,
        "sweep": {key: {"values": list(values.values())} for key, values in swept.items()},
        "cases": [],
        "asks": {"of": joined.axis},
        "claim": {},
        "search": search,
    }
