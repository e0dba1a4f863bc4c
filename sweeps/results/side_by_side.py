"""Executions side by side, for people and programs: what moved from the first, the trend over all, and what else changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from engram import program
from engram.sweeps.results import findings
from engram.sweeps.results.amounts import signed
from engram.sweeps.results.compare import Comparison, Moved, Pair, Trend
from engram.sweeps.results.joined import EXECUTION, Joined
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import cell, title_of
from engram.sweeps.study.configuration import label

MOST_TRIALS = 20
LONGEST_NAME = 16
WIDTH = 100
TREND = "trend"
KINDS = ("code", "data", "versions", "machine", "study")


@dataclass(frozen=True)
class Line:
    """One measure of one configuration: a cell for each execution, and the change or the trend."""

    configuration: str
    measure: str
    cells: list[str]
    change: str


def headings(found: Joined) -> list[str]:
    """What each execution is called: by what differs, or by its name."""
    if found.axis == EXECUTION:
        return found.names
    return [label({found.axis: value}) for value in found.values]


def change_heading(found: Joined) -> str:
    """What the last column tells; empty where it would tell nothing."""
    if len(found.evidences) == 2:
        return "change"
    return TREND if found.trends else ""


def lines(found: Joined, exact: bool = True) -> Iterator[list[Line]]:
    """The lines of each configuration that others share with the first execution, those that moved most first."""
    partners = [{p.trials[0]: p for p in c.pairs} for c in found.comparisons]
    trends = {(label(t.params), t.measure): t for t in found.trends}
    rows = []
    for record in found.evidences[0].records:
        pairs = [there.get(record["trial"]) for there in partners]
        if any(pairs):
            rows.append((record, pairs))
    rows.sort(key=lambda row: _size(row[1]), reverse=True)
    for record, pairs in rows:
        yield _configuration(record, pairs, trends, exact)


def _size(pairs: list[Pair | None]) -> tuple[bool, float]:
    moved = [m for pair in pairs if pair for m in pair.moved]
    return any(m.certain for m in moved), max((abs(m.change) for m in moved), default=0)


def _configuration(
    record: Record,
    pairs: list[Pair | None],
    trends: dict[tuple[str, str], Trend],
    exact: bool,
) -> list[Line]:
    name = label(record["params"])
    moved = [{m.measure: m for m in pair.moved} if pair else {} for pair in pairs]
    measures = list(dict.fromkeys(name for there in moved for name in there))
    found = []
    for measure in measures:
        cells = [cell(record, measure, exact)]
        for pair, there in zip(pairs, moved, strict=True):
            cells.append(_cell(pair, there.get(measure), exact, star=len(pairs) > 1))
        change = ""
        if len(pairs) == 1:
            change = _starred(moved[0][measure].text, moved[0][measure].certain)
        elif (trend := trends.get((name, measure))) is not None:
            change = _starred(signed(trend.change), trend.certain)
        found.append(Line(name, title_of(measure), cells, change))
    if not found:
        statuses = [record["status"], *(pair.statuses[1] if pair else "–" for pair in pairs)]
        found.append(Line(name, "status", statuses, ""))
    return found


def _cell(pair: Pair | None, moved: Moved | None, exact: bool, star: bool) -> str:
    if pair is None or moved is None:
        return "–" if pair is None or pair.statuses[1] == "completed" else pair.statuses[1]
    return _starred(cell(pair.second, moved.measure, exact), star and moved.certain)


def _starred(text: str, certain: bool) -> str:
    return f"{text} *" if certain else text


# -- in words -----------------------------------------------------------------------------------------


def verdicts(found: Joined) -> list[str]:
    """Whether anything moved, and what can have moved it: of each execution against the first."""
    if len(found.comparisons) == 1:
        return [found.comparisons[0].verdict]
    return [f"{c.names[1]}: {c.verdict[0].lower()}{c.verdict[1:]}" for c in found.comparisons]


def answers(found: Joined) -> list[str]:
    """What the setting that differs changes, or which of several executions is best."""
    if (found.axis == EXECUTION and len(found.evidences) == 2) or len(set(found.names)) == 1:
        return []
    return findings.answers(found.whole)


def notes(found: Joined) -> list[str]:
    """How they were matched, what a star means, what is in one alone, and what else differs."""
    told = [_how(found), "* beyond chance at 95 % for all comparisons together"]
    if change_heading(found) == TREND:
        told.append("trend: the change from each execution to the next, a line through all of them")
    for comparison in found.comparisons:
        for name, records in zip(
            comparison.names, (comparison.only_first, comparison.only_second), strict=True
        ):
            if records:
                listed = "; ".join(label(r["params"]) for r in records[:4])
                more = "; …" if len(records) > 4 else ""
                other = comparison.names[0] if name == comparison.names[1] else comparison.names[1]
                told.append(f"in {name}, not in {other}: {len(records)} ({listed}{more})")
    for comparison in found.comparisons:
        who = f"{comparison.names[1]}: " if len(found.comparisons) > 1 else ""
        for kind, sentences in comparison.changed.items():
            told.append(f"{who}{kind} changed: {'; '.join(sentences[:8])}")
    same = [k for k in KINDS if not any(k in c.changed for c in found.comparisons)]
    if same:
        told.append(f"the same: {', '.join(same)}")
    return list(dict.fromkeys(told))


def _how(found: Joined) -> str:
    ways = {(c.matched_by, bool(c.pairs and c.pairs[0].paired)) for c in found.comparisons}
    told = [
        f"matched by {by}; "
        + ("paired by replica" if paired else "not paired (other draws, seeds or data): Welch")
        for by, paired in sorted(ways)
    ]
    if len(told) == 1:
        return told[0]
    each = (
        f"{c.names[1]} matched by {c.matched_by}, {'paired' if c.pairs[0].paired else 'not paired'}"
        for c in found.comparisons
    )
    return "; ".join(each)


# -- forms --------------------------------------------------------------------------------------------


def text(found: Joined, width: int = WIDTH) -> str:
    """For a terminal of so many columns: without intervals, and in parts, where there is no room."""
    rows = list(lines(found))
    said = [" → ".join(found.names), *verdicts(found), *answers(found), ""]
    told = [*_wrapped(said, width), *_table(found, width)]
    return "\n".join([*told, *_more(rows), "", *_wrapped(notes(found), width, "  ")])


def _more(rows: list[list[Line]]) -> list[str]:
    """What a table of the first configurations leaves out."""
    left = len(rows) - MOST_TRIALS
    return [f"{left} more configurations; --format json has all"] if left > 0 else []


def _wrapped(sentences: list[str], width: int, indent: str = "") -> Iterator[str]:
    for sentence in sentences:
        yield from program.fitted(indent + sentence, width).split("\n")


def _table(found: Joined, width: int) -> list[str]:
    heads, last = [_short(name) for name in headings(found)], change_heading(found)
    every = list(range(len(heads)))
    for exact in (True, False):
        rows = [line for some in list(lines(found, exact))[:MOST_TRIALS] for line in some]
        made = _part(heads, last, rows, every)
        if _width(made) <= width:
            return made
    # Still too wide: configurations on lines of their own, and as many executions at a time as there is room for.
    own_line = _width(_part(heads, last, rows, every[:2])) > width
    size = max(
        [
            n
            for n in every[1:]
            if _width(_part(heads, last, rows, every[: n + 1], own_line)) <= width
        ],
        default=1,
    )
    told: list[str] = []
    for start in range(1, len(heads), size):
        at = [0, *every[start : start + size]]
        told += ([""] if told else []) + _part(heads, last, rows, at, own_line)
    return told


def _width(made: list[str]) -> int:
    return max(map(len, made))


def _part(
    heads: list[str], last: str, rows: list[Line], at: list[int], own_line: bool = False
) -> list[str]:
    """The table with the executions at these places, the first always among them."""
    starts = {
        k for k, row in enumerate(rows) if not k or row.configuration != rows[k - 1].configuration
    }
    names = [row.configuration if k in starts else "" for k, row in enumerate(rows)]
    columns = [["measure", *(row.measure for row in rows)]]
    columns += [[heads[k], *(row.cells[k] for row in rows)] for k in at]
    columns += [[last, *(row.change for row in rows)]]
    if not own_line:
        columns.insert(0, ["configuration", *names])
    for column in columns[-1 - len(at) : -1]:
        if any(text.endswith(" *") for text in column):  # digits stand below digits
            column[:] = [text if text.endswith(" *") else f"{text}  " for text in column]
    widths = [max(map(len, column)) for column in columns]
    left = len(columns) - len(at) - 1
    sides = [*[str.ljust] * left, *[str.rjust] * len(at), str.ljust]
    told = []
    for k, cells in enumerate(zip(*columns, strict=True)):
        if own_line and k - 1 in starts:
            told.append(names[k - 1])
        made = (side(text, w) for side, text, w in zip(sides, cells, widths, strict=True))
        told.append(f"{'  ' if own_line else ''}{'  '.join(made)}".rstrip())
    return told


def _short(name: str) -> str:
    """Names differ at their end: quickstart-2."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"


def markdown(found: Joined) -> str:
    heads = [name.replace("|", "\\|") for name in headings(found)]
    last = change_heading(found)
    told = [f"**{sentence}**\n" for sentence in [*verdicts(found), *answers(found)]]
    told.append(f"| configuration | measure | {' | '.join(heads)} | {last} |")
    told.append("|---|---|" + "---:|" * (len(heads) + 1))
    rows = list(lines(found))
    for some in rows[:MOST_TRIALS]:
        for line in some:
            name = line.configuration.replace("|", "\\|").replace("<", "&lt;")
            told.append(f"| {name} | {line.measure} | {' | '.join(line.cells)} | {line.change} |")
    return "\n".join([*told, "", *(f"- {note}" for note in [*_more(rows), *notes(found)])])


def to_json(found: Joined) -> str:
    """Of two executions their comparison; of more, each against the first, and the trends."""
    each = [_plain(comparison) for comparison in found.comparisons]
    content = each[0]
    if len(each) > 1:
        content = {
            "names": found.names,
            "axis": found.axis,
            "values": found.values,
            "comparisons": each,
            "trends": [asdict(trend) for trend in found.trends],
        }
    return json.dumps(_finite(content), indent=1)


def _plain(found: Comparison) -> dict[str, Any]:
    def plain(pair: Pair) -> dict[str, Any]:
        values = asdict(pair)
        del values["first"], values["second"]
        return values

    return {
        "names": found.names,
        "verdict": found.verdict,
        "matched_by": found.matched_by,
        "changed": found.changed,
        "pairs": [plain(pair) for pair in found.pairs],
        "only_first": [r["params"] for r in found.only_first],
        "only_second": [r["params"] for r in found.only_second],
    }


def _finite(value: Any) -> Any:
    """NaN is no JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


# Besides `text`, which is as wide as the terminal.
FORMS: dict[str, Callable[[Joined], str]] = {
    "json": to_json,
    "markdown": markdown,
}
