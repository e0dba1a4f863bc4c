"""Executions held against a first one: which trials match, what moved, what else changed, and the trend over all.

Trials are matched by configuration and paired by replica where both sides drew the same subsets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engram.measures import intervals
from engram.measures.intervals import Interval
from engram.sweeps.results import columns
from engram.sweeps.results.boards import available, default_column
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import SHOWN

LEVEL = 0.95
VERSIONS, MACHINE, DATA, CODE = "version.", "machine.", "data.digest.", "git."
NOT_COMPARED = ("command",)
NO_SETTINGS = (
    *("name", "question", "asks", "claim", "nightly", "tracking"),
    *("resources", "checkpoint", "faults", "budget"),
)
FEWEST_FOR_TREND = 3


@dataclass(frozen=True)
class Moved:
    """One measure of a matched pair of trials. change: second minus first; certain: beyond what the number
    of comparisons made would throw up by chance (Bonferroni)."""

    measure: str
    first: float
    second: float
    change: float
    low: float | None
    high: float | None
    certain: bool

    @property
    def text(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.change:+.3f}"
        return f"{self.change:+.3f} ± {(self.high - self.low) / 2:.3f}"


@dataclass(frozen=True)
class Pair:
    """A configuration that both executions trained."""

    params: dict[str, Any]
    statuses: tuple[str, str]
    trials: tuple[int, int]
    paired: bool
    moved: list[Moved]
    first: Record = field(repr=False)
    second: Record = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """What matched, what did not, and what differs between the executions besides their results.

    changed: {"code" | "data" | "versions" | "machine" | "study": sentences}, empty lists left out.
    """

    names: tuple[str, str]
    matched_by: str
    pairs: list[Pair]
    only_first: list[Record]
    only_second: list[Record]
    changed: dict[str, list[str]]
    verdict: str


@dataclass(frozen=True)
class Trend:
    """How a measure of one configuration moves from each execution to the next, in the order in which they stand.

    change: the slope of each replica's values over the executions, with its interval."""

    params: dict[str, Any]
    measure: str
    change: Interval
    certain: bool


def compare(first: Evidence, second: Evidence) -> Comparison:
    """The second execution against the first, trial by trial."""
    return compare_all(first, [second])[0][0]


def compare_all(
    first: Evidence, others: Sequence[Evidence], ordered: bool = True
) -> tuple[list[Comparison], list[Trend]]:
    """Each of the others against the first, and where they are ordered and many enough, the trend over all.

    One error rate for all comparisons and trends together."""
    found = [(other, *match(first, other), _measures(first, other)) for other in others]
    tests = sum(
        _comparable(a, b, m) for _, _, matches, names in found for a, b in matches for m in names
    )
    series = list(_series(first, found)) if ordered else []
    tests = max(1, tests + len(series))
    compared = [_compared(first, *one, tests) for one in found]
    return compared, [_trend(*one, tests) for one in series]


Found = tuple[Evidence, str, list[tuple[Record, Record]], list[str]]


def _compared(
    first: Evidence,
    second: Evidence,
    matched_by: str,
    matches: list[tuple[Record, Record]],
    measures: list[str],
    tests: int,
) -> Comparison:
    changed = _changed(first, second)
    paired = same_draws(first, second) and "data" not in changed
    pairs = [_pair(a, b, measures, paired, tests) for a, b in matches]
    taken = ({a["trial"] for a, _ in matches}, {b["trial"] for _, b in matches})
    return Comparison(
        (first.name, second.name),
        matched_by,
        pairs,
        [r for r in first.records if r["trial"] not in taken[0]],
        [r for r in second.records if r["trial"] not in taken[1]],
        changed,
        _verdict(pairs, changed, first, second),
    )


def _measures(first: Evidence, second: Evidence) -> list[str]:
    return [*measures_of(first, second), *asked_of(first, second)]


def _series(
    first: Evidence, found: Sequence[Found]
) -> Iterable[tuple[dict[str, Any], str, np.ndarray]]:
    """(configuration, measure, values [executions, R]) of what all executions have, with as many replicas."""
    if len(found) + 1 < FEWEST_FOR_TREND:
        return
    partners = [{a["trial"]: b for a, b in matches} for _, _, matches, _ in found]
    measures = [m for m in found[0][3] if all(m in names for _, _, _, names in found)]
    for record in first.records:
        row = [record, *(there.get(record["trial"]) for there in partners)]
        for measure in measures:
            values = [r["replica_values"].get(measure) if r else None for r in row]
            if not all(values) or len({len(v) for v in values if v}) > 1:
                continue
            table = np.array(values, float)
            if np.isfinite(table).all():
                yield record["params"], measure, table


def _trend(params: dict[str, Any], measure: str, values: np.ndarray, tests: int) -> Trend:
    places = np.arange(len(values)) - (len(values) - 1) / 2
    slopes = places @ values / (places**2).sum()
    strict = intervals.t_interval(slopes, 1 - (1 - LEVEL) / tests)
    return Trend(params, measure, intervals.t_interval(slopes, LEVEL), strict.excludes(0))


# -- which trials belong together -------------------------------------------------------------------


def match(first: Evidence, second: Evidence) -> tuple[str, list[tuple[Record, Record]]]:
    """By the whole configuration, else by what either of them sweeps: (how, pairs in the first's order)."""
    keys = list(
        dict.fromkeys(key for e in (first, second) for r in e.records for key in r["params"])
    )
    ways: list[tuple[str, Callable[[Evidence, Record], Any]]] = [
        ("the same configuration", lambda _, r: r.get("config_hash")),
        (
            "the same swept values; other settings differ",
            lambda e, r: json.dumps([_number(v) for v in settings(e, r, keys).values()]),
        ),
    ]
    for how, key in ways:
        known = {key(second, record): record for record in second.records}
        known.pop(None, None)
        pairs = [(r, known[k]) for r in first.records if (k := key(first, r)) in known]
        if pairs:
            return how, pairs
    return "nothing", []


def settings(evidence: Evidence, record: Record, keys: Iterable[str]) -> dict[str, Any]:
    """What a trial has at these keys: as it was swept, or as its study fixes it."""
    params = record["params"]
    if evidence.study is None or all(key in params for key in keys):
        return {key: params.get(key) for key in keys}
    whole = evidence.study.configure(params).dotted()
    return {key: params.get(key, whole.get(key)) for key in keys}


def _number(value: Any) -> Any:
    """0 and 0.0 are one value."""
    return float(value) if is_number(value) else value


def measures_of(first: Evidence, second: Evidence) -> list[str]:
    """The measure that selects, then those every table shows."""
    by = default_column(first.records)
    if by != default_column(second.records):
        by = "test_error"
    return list(dict.fromkeys([by, *(name for name, _ in SHOWN)]))


def asked_of(first: Evidence, second: Evidence) -> list[str]:
    """Metrics that both sides asked for."""
    there = set(available(second.records))
    asked = columns.asked_for(available(first.records), first.records)
    return [name for name in asked if name in there]


def same_draws(first: Evidence, second: Evidence) -> bool:
    """Whether replica k of one side had the subset and seeds of replica k of the other."""
    if first.study is None or second.study is None:
        return False
    a, b = first.study, second.study
    same = ("draw", "inits", "seed", "count")
    return a.data.validation == b.data.validation and all(
        getattr(a.replicas, key) == getattr(b.replicas, key) for key in same
    )


# -- what moved -------------------------------------------------------------------------------------


def _comparable(a: Record, b: Record, measure: str) -> bool:
    return bool(a["replica_values"].get(measure) and b["replica_values"].get(measure))


def _pair(a: Record, b: Record, measures: list[str], paired: bool, tests: int) -> Pair:
    moved = [m for m in (_moved(a, b, name, paired, tests) for name in measures) if m is not None]
    return Pair(
        a["params"], (a["status"], b["status"]), (a["trial"], b["trial"]), paired, moved, a, b
    )


def _moved(a: Record, b: Record, measure: str, paired: bool, tests: int) -> Moved | None:
    if not a["measures"].get(measure) or not b["measures"].get(measure):
        return None
    first, second = a["measures"][measure]["mean"], b["measures"][measure]["mean"]
    interval = difference(a, b, measure, paired, LEVEL)
    strict = difference(a, b, measure, paired, 1 - (1 - LEVEL) / tests)
    low, high = (
        (interval.low, interval.high) if interval is not None and interval.known else (None, None)
    )
    return Moved(
        measure, first, second, second - first, low, high, strict is not None and strict.excludes(0)
    )


def difference(a: Record, b: Record, measure: str, paired: bool, level: float) -> Interval | None:
    """b minus a: paired by replica where the draws were the same, Welch where not; None where unknown."""
    if not _comparable(a, b, measure):
        return None
    first, second = a["replica_values"][measure], b["replica_values"][measure]
    if paired and len(first) == len(second):
        return intervals.paired(second, first, level)
    return intervals.welch(second, first, level)


def identical(pair: Pair) -> bool:
    """Whether every replica's value of every measure is the same, digit for digit."""
    a, b = pair.first["replica_values"], pair.second["replica_values"]
    return bool(a) and a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# -- what else changed ------------------------------------------------------------------------------


def _changed(first: Evidence, second: Evidence) -> dict[str, list[str]]:
    kinds = {"code": CODE, "data": DATA, "versions": VERSIONS, "machine": MACHINE}
    found: dict[str, list[str]] = {}
    a, b = first.provenance, second.provenance
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) == b.get(key) or key in NOT_COMPARED:
            continue
        kind = next((k for k, prefix in kinds.items() if key.startswith(prefix)), "versions")
        found.setdefault(kind, []).append(
            f"{key.removeprefix('version.')}: {_short(a.get(key))} → {_short(b.get(key))}"
        )
    study = _study_changes(first, second)
    return {**found, **({"study": study} if study else {})}


def _study_changes(first: Evidence, second: Evidence) -> list[str]:
    """Settings that differ between the two studies, by dotted key; names and questions are no settings."""
    sides = [flat_study(e) for e in (first, second)]
    a, b = sides
    if not a or not b:
        return []
    keys = [k for k in dict.fromkeys([*a, *b]) if k.split(".")[0] not in NO_SETTINGS]
    return [f"{k}: {_short(a.get(k))} → {_short(b.get(k))}" for k in keys if a.get(k) != b.get(k)]


def flat_study(evidence: Evidence) -> dict[str, Any]:
    """A study's values by dotted key; nothing where only its text is known."""
    return _flat(evidence.study.model_dump(mode="json")) if evidence.study else {}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found.update(_flat(inner, f"{prefix}.{key}" if prefix else key))
        return found
    return {prefix: value}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def _verdict(
    pairs: list[Pair], changed: dict[str, list[str]], first: Evidence, second: Evidence
) -> str:
    """One sentence: did it move, and what can have moved it."""
    if not pairs:
        return "No configuration is in both: nothing can be compared."
    if all(identical(pair) for pair in pairs):
        return f"All {len(pairs)} matched trials are identical, digit for digit."
    certain = sum(any(m.certain for m in pair.moved) for pair in pairs)
    causes: list[str] = [k for k in ("code", "data", "versions", "machine") if k in changed]
    if any(not text.startswith("replicas.") for text in changed.get("study", ())):
        causes.insert(0, "the study's settings")
    if not same_draws(first, second):
        causes.append("the replicas' draws")
    if first.provenance.get("git.dirty") or second.provenance.get("git.dirty"):
        causes.append("changes to the code that were not committed")
    what = (
        ", ".join(causes)
        if causes
        else "noise of the machine alone (nothing that is recorded changed)"
    )
    if certain:
        return (
            f"{certain} of {len(pairs)} matched trials moved beyond chance; what changed: {what}."
        )
    return f"Nothing moved beyond chance in {len(pairs)} matched trials, though numbers differ; what changed: {what}."
