"""A list of executions for people: a table for the terminal, JSON, and a page that links their reports."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.results import markup
from engram.sweeps.results.inventory import Entry
from engram.sweeps.results.tables import title_of
from engram.sweeps.state import paths

INDEX = "index.html"
COLUMNS = ("name", "status", "trials", "best", "verdict", "owner", "host", "when", "size")
# Where there is no room: first the best stands on a line of its own, then these go.
LESS = ("host", "owner", "size", "when")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def table(entries: Sequence[Entry], width: int | None = None) -> str:
    """One line an execution, its question below; width: of the terminal, where there is one."""
    if not entries:
        return "no execution yet"
    columns, rows, widths = _fitting([_cells(entry) for entry in entries], width)
    lines = [_line(columns, widths)]
    for entry, row in zip(entries, rows, strict=True):
        lines.append(_line(row, widths))
        if entry.question:
            lines.append(f"    {entry.question}")
        if "best" not in columns and entry.best:
            lines.append(f"    {_best(entry)}")
        if entry.ended and entry.status != "running":
            lines.append(f"    {entry.ended}")
    total = sum(entry.size or 0 for entry in entries)
    if total:
        number = "1 execution" if len(entries) == 1 else f"{len(entries)} executions"
        lines.append(f"{number}, {size(total)}")
    return "\n".join(lines)


def _fitting(
    cells: list[dict[str, str]], width: int | None
) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns that there is room for, their cells, and their widths."""
    columns = list(COLUMNS)
    for gone in ((), ("best", "verdict"), *((name,) for name in LESS)):
        columns = [name for name in columns if name not in gone]
        rows = [[cell[name] for name in columns] for cell in cells]
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        if width is None or sum(widths) + 2 * len(widths) - 2 <= width:
            break
    return columns, rows, widths


def text(entry: Entry, folder: Path, runs: Sequence[dict[str, Any]]) -> str:
    """One execution, a fact a line."""
    cells = _cells(entry)
    facts = {
        "name": entry.name,
        "study": entry.study,
        "question": entry.question,
        "status": entry.status,
        "stopped": entry.ended if entry.status != "running" else "",
        "trials": cells["trials"],
        "best": _best(entry),
        "owner": entry.owner,
        "host": entry.host,
        "started": moment(entry.started),
        "changed": cells["when"],
        "hours": "" if entry.hours is None else f"{entry.hours:.2f}",
        "size": cells["size"],
        "folder": str(folder),
    }
    lines = [f"{key:9} {value}" for key, value in facts.items() if value]
    for number, run in enumerate(runs, 1):
        who = " on ".join(filter(None, (run.get("owner"), run.get("host"))))
        said = f"{moment(run.get('started'))}, {run.get('finished')} trials by then"
        lines.append(f"run {number:<5} {said}{f', by {who}' if who else ''}")
        lines += [f"{'':10}{line}" for line in run.get("changed") or []]
    return "\n".join(lines)


def as_json(entries: Sequence[Entry]) -> str:
    return json.dumps([entry.row() for entry in entries], indent=1, ensure_ascii=False)


def write_index(entries: Sequence[Entry]) -> Path:
    """The page `index.html` of the state folder: every execution, with a link to its report where there is one."""
    from markupsafe import Markup

    rows = [
        {
            **_cells(entry),
            "question": entry.question,
            "ended": entry.ended,
            "report": _report(entry),
        }
        for entry in entries
    ]
    style = Markup(markup.style())
    text = markup.template("index.html").render(style=style, rows=rows)
    return files.write(paths.home() / INDEX, text)


def size(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return ""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes whatever is left")


def moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _report(entry: Entry) -> str | None:
    """The report's place as seen from the page."""
    path = paths.study_dir(entry.name) / "report.html"
    return f"studies/{entry.name}/report.html" if path.exists() else None


def _cells(entry: Entry) -> dict[str, str]:
    best: dict[str, Any] = entry.best or {}
    value = "" if best.get("mean") is None else f"{best['mean']:.3f}"
    shown = f"{title_of(best['measure'])} {value}" if value else ""
    if value and best["label"]:
        shown += f" at {best['label']}"
    trials = "" if entry.trials is None else f"{entry.trials}/{entry.planned or '?'}"
    if entry.failed:
        trials += f", {entry.failed} failed"
    return {
        "name": entry.name,
        "status": entry.status,
        "trials": trials,
        "best": shown if len(shown) <= 60 else f"{shown[:59]}…",
        "verdict": best.get("verdict") or "",
        "owner": entry.owner,
        "host": entry.host,
        "when": moment(entry.changed),
        "size": size(entry.size),
    }


def _best(entry: Entry) -> str:
    cells = _cells(entry)
    return f"{cells['best']} ({cells['verdict']})" if cells["verdict"] else cells["best"]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()
