"""Two executions side by side: which trials match, what moved between them, and what else changed.

Trials are matched by configuration and paired by replica where both sides drew the same subsets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engram.measures import intervals
from engram.measures.intervals import Interval
from engram.sweeps.results import columns
from engram.sweeps.results.boards import available, default_column
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import SHOWN, cell, title_of
from engram.sweeps.study.configuration import label

LEVEL = 0.95
VERSIONS, MACHINE, DATA, CODE = "version.", "machine.", "data.digest.", "git."
NOT_COMPARED = ("command",)
MOST_ROWS = 20


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


def compare(first: Evidence, second: Evidence) -> Comparison:
    """The second execution against the first, trial by trial."""
    matched_by, matches = match(first, second)
    measures = [*measures_of(first, second), *asked_of(first, second)]
    changed = _changed(first, second)
    paired = same_draws(first, second) and "data" not in changed
    tests = max(1, sum(_comparable(a, b, m) for a, b in matches for m in measures))
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


# -- which trials belong together -------------------------------------------------------------------


def match(first: Evidence, second: Evidence) -> tuple[str, list[tuple[Record, Record]]]:
    """By the whole configuration, else by the swept values: (how, pairs in the first's order)."""
    ways: list[tuple[str, Callable[[Record], Any]]] = [
        ("the same configuration", lambda r: r.get("config_hash")),
        (
            "the same swept values; other settings differ",
            lambda r: json.dumps(r["params"], sort_keys=True),
        ),
    ]
    for how, key in ways:
        known = {key(record): record for record in second.records}
        pairs = [
            (r, known[key(r)]) for r in first.records if key(r) is not None and key(r) in known
        ]
        if pairs:
            return how, pairs
    return "nothing", []


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
    if first.study is None or second.study is None:
        return []
    sides = [_flat(e.study.model_dump(mode="json")) for e in (first, second) if e.study is not None]
    a, b = sides
    ignored = (
        "name",
        "question",
        "claim",
        "nightly",
        "tracking",
        "resources",
        "checkpoint",
        "faults",
        "budget",
    )
    keys = [k for k in dict.fromkeys([*a, *b]) if k.split(".")[0] not in ignored]
    return [f"{k}: {_short(a.get(k))} → {_short(b.get(k))}" for k in keys if a.get(k) != b.get(k)]


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


# -- how it is shown --------------------------------------------------------------------------------


def _rows(found: Comparison) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """(configuration, [(measure, first, second, change)]) of each pair, those that moved most first."""

    def size(pair: Pair) -> tuple[bool, float]:
        return any(m.certain for m in pair.moved), max(
            (abs(m.change) for m in pair.moved), default=0
        )

    rows = []
    for pair in sorted(found.pairs, key=size, reverse=True):
        cells = [
            (
                title_of(m.measure),
                cell(pair.first, m.measure),
                cell(pair.second, m.measure),
                f"{m.text}{' *' if m.certain else ''}",
            )
            for m in pair.moved
        ]
        if not cells:
            cells = [("status", *pair.statuses, "")]
        rows.append((label(pair.params), cells))
    return rows


def _notes(found: Comparison) -> list[str]:
    how = (
        "paired by replica"
        if found.pairs and found.pairs[0].paired
        else "not paired (other draws, seeds or data): Welch"
    )
    notes = [
        f"matched by {found.matched_by}; {how}; * beyond chance at 95 % for all comparisons together"
    ]
    for name, records in zip(found.names, (found.only_first, found.only_second), strict=True):
        if records:
            listed = "; ".join(label(r["params"]) for r in records[:4]) + (
                "; …" if len(records) > 4 else ""
            )
            notes.append(f"only in {name}: {len(records)} ({listed})")
    for kind, sentences in found.changed.items():
        notes.append(f"{kind} changed: {'; '.join(sentences[:8])}")
    same = [k for k in ("code", "data", "versions", "machine", "study") if k not in found.changed]
    if same:
        notes.append(f"the same: {', '.join(same)}")
    return notes


def text(found: Comparison) -> str:
    rows = _rows(found)
    width = max([len(name) for name, _ in rows[:MOST_ROWS]] + [13])
    lines = [f"{found.names[0]} → {found.names[1]}", found.verdict, ""]
    lines.append(
        f"{'configuration':{width}}  {'measure':18}  {'first':>15}  {'second':>15}  change"
    )
    for name, cells in rows[:MOST_ROWS]:
        for k, (measure, first, second, change) in enumerate(cells):
            lines.append(
                f"{name if k == 0 else '':{width}}  {measure:18}  {first:>15}  {second:>15}  {change}"
            )
    if len(rows) > MOST_ROWS:
        lines.append(f"{len(rows) - MOST_ROWS} more trials; --format json has all")
    return "\n".join([*lines, "", *(f"  {note}" for note in _notes(found))])


def markdown(found: Comparison) -> str:
    lines = [
        f"**{found.verdict}**",
        "",
        "| configuration | measure | first | second | change |",
        "|---|---|---:|---:|---:|",
    ]
    for name, cells in _rows(found)[:MOST_ROWS]:
        shown = name.replace("|", "\\|").replace("<", "&lt;")
        lines += [f"| {shown} | {m} | {a} | {b} | {c} |" for m, a, b, c in cells]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(found))])


def to_json(found: Comparison) -> str:
    def plain(pair: Pair) -> dict[str, Any]:
        values = asdict(pair)
        del values["first"], values["second"]
        return values

    content = {
        "names": found.names,
        "verdict": found.verdict,
        "matched_by": found.matched_by,
        "changed": found.changed,
        "pairs": [plain(pair) for pair in found.pairs],
        "only_first": [r["params"] for r in found.only_first],
        "only_second": [r["params"] for r in found.only_second],
    }
    return json.dumps(_finite(content), indent=1)


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


FORMS: dict[str, Callable[[Comparison], str]] = {
    "table": text,
    "json": to_json,
    "markdown": markdown,
}
