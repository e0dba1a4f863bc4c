"""Leaderboards for people and programs: cells and footnotes, JSON, CSV, Markdown, and tables for MLflow.

What a number looks like is decided here and nowhere else, so that it is the same wherever it stands.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engram import files
from engram.measures import catalog, intervals
from engram.measures.measure import HELD_OUT
from engram.sweeps.results.boards import (
    BESIDES,
    GAPS,
    Board,
    Row,
    class_of,
    default_column,
    entry_of,
)
from engram.sweeps.results.columns import column, ends, higher_is_better, shown
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import label

SHOWN = tuple((name, catalog.get(name).heading) for name in catalog.HEADLINES)
IN_MLFLOW = 1000  # rows of a table there: of 20,000 its page shows none
MOST_ROWS = 50  # of a table without --top: nobody reads ten thousand
# The groups are those of comparison.groups; a row need not stand next to the first of its group.
TIED = "=N cannot be told from row N, the first of its group (95 % for the whole board, paired by replica)"
RETRAINING = (
    "± is a 95 % interval for retraining: other subsets and seeds, this pool and this test set"
)


def status_of(row: Row, by: str) -> str:
    if row.record["status"] != "completed":
        return row.record["status"]
    if by in GAPS and row.tie_group is None:
        return f"{row.verdict} (not ranked)" if row.verdict else "not ranked"
    return row.verdict or ""


def footnotes(board: Board, top: int | None) -> list[str]:
    """What a reader must know to trust the table."""
    notes = []
    if any(row.rank != row.first for row in board.rows[:top]):
        more = f"; {board.needed} more replicas would separate the first two"
        notes.append(TIED + (more if board.needed else ""))
    notes += _about_intervals(board)
    if board.by in GAPS and any(class_of(row.record, board.by) == 1 for row in board.rows):
        notes.append(
            "not ranked: train error not clearly below 3/4 of chance, so there is no gap to speak of"
        )
    if board.by.removeprefix(HELD_OUT) == "rank_error":
        median = [r for row in board.rows if (r := row.record.get("chance_rank_error")) is not None]
        notes += (
            [f"always answering the pool's median errs by {number(median[0])} ranks"]
            if median
            else []
        )
    if board.by.startswith(HELD_OUT):
        completed = sum(row.record["status"] == "completed" for row in board.rows)
        luck = ""
        if completed > 1:
            luck = (
                f"; by luck alone the best of {completed} looks about {intervals.expected_best(completed):.1f} standard "
                "deviations of the noise better than it is"
            )
        notes.append(f"selected on validation, reported on test{luck}")
    elif (
        board.by == "test_error" and default_column([row.record for row in board.rows]) == board.by
    ):
        notes.append(
            "nothing was held out for validation: these are test errors, and choosing by them flatters the winner"
        )
    if top is not None and len(board.rows) > top:
        notes.append(f"{len(board.rows) - top} more; --top {len(board.rows)} shows them")
    return notes


def _about_intervals(board: Board) -> list[str]:
    """Which interval stands in the table, the other one of the first row, and for how many replicas the values are."""
    first = next((row.record for row in board.rows if row.tie_group is not None), None)
    if first is None or not any(
        cell(first, n) != cell(first, n, False) for n in (board.by, "test_error")
    ):
        return []
    notes = [RETRAINING]
    told = new_data(first, "test_error")
    if told:
        notes[0] += f"; for new data (another pool and test set) row 1 has a test error of {told}"
        if groups := first.get("test_groups"):
            notes[0] += f", by the {groups} groups of the test set, not its rows"
    counts = sorted({r for row in board.rows if (r := row.record.get("replicas"))})
    if column(board.by, [row.record for row in board.rows]).cohort and counts:
        given = " and ".join(map(str, counts))
        differ = (
            "; trials with different numbers cannot be compared by it" if len(counts) > 1 else ""
        )
        notes.append(
            f"the {title_of(board.by)} depends on how many replicas there are: given for {given}{differ}"
        )
    return notes


def new_data(record: Record, key: str) -> str:
    """The interval for new data, as in 0.28 to 0.34; empty where the design does not tell."""
    found = (record.get("new_data") or {}).get(key)
    if not found:
        return ""
    low, high = ends(record, key, found)
    return f"{number(low)} to {number(high)}"


def cell(record: Record, key: str, interval: bool = True) -> str:
    measure = record["measures"].get(key)
    if measure is None:
        value = record.get(key) if key in BESIDES else None
        return "–" if value is None else f"{value:,.4g}"
    if measure["low"] is None or measure["high"] is None or not interval:
        return number(measure["mean"])
    return f"{number(measure['mean'])} ± {(measure['high'] - measure['low']) / 2:.3f}"


def number(value: float) -> str:
    """Three decimals; nothing but zeros has no sign."""
    text = f"{value:.3f}"
    return text if text.strip("-0.") else text.removeprefix("-")


def ranked_by(board: Board) -> str:
    """What a board is ranked by, and that the highest is first where it is."""
    higher = higher_is_better(board.by, [row.record for row in board.rows])
    return title_of(board.by) + (", the highest first" if higher else "")


def title_of(column: str) -> str:
    """What a column is called."""
    return catalog.title(column)


def to_json(board: Board) -> str:
    return json.dumps(board.entries(), indent=1)


def flat(board: Board) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: place, parameters, each measure with its ends for retraining, and those for new data."""
    records = [row.record for row in board.rows]
    params = list(dict.fromkeys(key for r in records for key in r["params"]))
    names = list(dict.fromkeys(key for r in records for key, m in r["measures"].items() if m))
    columns = [
        "rank",
        "tie_group",
        "trial",
        "run_id",
        "status",
        "verdict",
        *params,
        "replicas",
        "parameters",
    ]
    columns += [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    wide = [name for name in names if any(name in (r.get("new_data") or {}) for r in records)]
    columns += [f"{name}_new_data_{end}" for name in wide for end in ("low", "high")]
    rows = []
    for row in board.rows:
        entry = entry_of(row)
        values = [entry[key] for key in columns[:6]] + [entry["params"].get(key) for key in params]
        values += [entry["replicas"], entry["parameters"]]
        for name in names:
            measure = entry["measures"].get(name) or {}
            values += [measure.get(end) for end in ("mean", "low", "high")]
        for name in wide:
            wider = (row.record.get("new_data") or {}).get(name) or {}
            values += [wider.get(end) for end in ("low", "high")]
        rows.append(values)
    return columns, rows


def to_csv(board: Board) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns, rows = flat(board)
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def markdown(board: Board) -> str:
    columns = shown(board.by, [row.record for row in board.rows])
    lines = [
        "| rank | configuration | " + " | ".join(short for _, short in columns) + " | verdict |"
    ]
    lines.append("|---:|---|" + "---:|" * len(columns) + "---|")
    for row in board.rows:
        cells = " | ".join(cell(row.record, key) for key, _ in columns)
        name = label(row.record["params"]).replace("|", "\\|")
        lines.append(f"| {row.place} | {name} | {cells} | {status_of(row, board.by)} |")
    return "\n".join(lines)


def write_tables(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Each board as a table that MLflow shows: leaderboard_<column>.json, of its best IN_MLFLOW rows."""
    paths = []
    for board in boards:
        columns, rows = flat(Board(board.by, board.rows[:IN_MLFLOW], board.needed))
        path = folder / f"leaderboard_{board.by}.json"
        files.write(path, json.dumps({"columns": columns, "data": rows}))
        paths.append(path)
    return paths
