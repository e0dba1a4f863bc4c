"""Ranks the trials of a study by any measure, with paired intervals, tie groups and verdicts.

Works on committed records alone: from the study's ledger, or from the parent run's table in MLflow
where there is no ledger (another machine, years later).
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from measures import intervals, pareto, verdict
from measures.intervals import Interval
from sweeps import across, state
from sweeps.definition import label
from sweeps.problems import Place, Problem, StudyError

Record = dict[str, Any]
GAPS = ("generalization_gap", "generalization_gap_loss")
# After those that completed; a trial that learned nothing has no gap to be ranked by.
ORDER = {"completed": 0, "not learned": 1, "pruned": 2, "diverged": 3, "failed": 4}
BESIDES = ("parameters", "seconds", "epochs", "steps")  # columns that have no interval
SHOWN = (
    ("test_error", "test error"),
    ("generalization_gap", "gap"),
    ("bias2", "bias²"),
    ("variance", "variance"),
)

SHORT = {"validation_error": "validation"}
MOST_FINDINGS = 3  # sentences below the tables; the report has all
NARROWEST = 100  # columns of text that a table of intervals needs; a pipe has no width of its own


@dataclass(frozen=True)
class Row:
    """One trial's place: rank from 1; tie_group from 1, None for trials that are not compared."""

    rank: int
    tie_group: int | None
    record: Record
    verdict: str | None
    reason: str
    behind: Interval | None  # paired difference to the leader of the tie group
    value: float | None


@dataclass(frozen=True)
class Board:
    """A ranking by one column, and how many more replicas would separate the first two trials."""

    by: str
    rows: list[Row]
    more_replicas: int | None

    def entries(self) -> list[dict[str, Any]]:
        """The rows as the contract's JSON."""
        return [_entry(row) for row in self.rows]


def rank(records: Sequence[Record], by: str) -> Board:
    """Rank records by a column, the lowest first.

    Two trials tie when the paired interval of their difference (same replicas, same subsets) includes
    0; a tie group holds all that tie with its leader. Trials that did not complete come last.
    """
    placed = sorted(records, key=lambda r: (_class(r, by), _sort_value(r, by), r["trial"]))
    judged = _verdicts(records)
    rows: list[Row] = []
    leader: Record | None = None
    group = 0
    for place, record in enumerate(placed, 1):
        behind = None
        number: int | None = None
        if _class(record, by) == 0 and _value(record, by) is not None:
            if leader is not None:
                behind = difference(record, leader, by)
            if leader is None or (behind is not None and behind.excludes(0)):
                leader, group, behind = record, group + 1, None
            number = group
        word, reason = judged.get(record["trial"], (None, ""))
        rows.append(Row(place, number, record, word, reason, behind, _value(record, by)))
    return Board(by, rows, _more_replicas(rows, by))


def difference(record: Record, other: Record, by: str) -> Interval | None:
    """record minus other: paired where both have the same replicas, Welch where one lost some; None if unknown."""
    mine, theirs = record["replica_values"].get(by), other["replica_values"].get(by)
    if not mine or not theirs:
        return None
    if len(mine) == len(theirs):
        return intervals.paired(mine, theirs)
    return intervals.welch(mine, theirs)


def _more_replicas(rows: list[Row], by: str) -> int | None:
    """Replicas to add before the first two separate; 0 when they are separate already."""
    if len(rows) < 2 or rows[1].tie_group is None:
        return None
    if rows[1].tie_group != rows[0].tie_group:
        return 0
    first, second = (row.record["replica_values"].get(by) for row in rows[:2])
    if not first or not second or len(first) != len(second):
        return None
    return intervals.replicas_needed(np.subtract(second, first))


def _class(record: Record, by: str) -> int:
    status = record["status"]
    if status == "completed" and by in GAPS and not _learns(record):
        status = "not learned"
    return ORDER.get(status, len(ORDER))


def _sort_value(record: Record, by: str) -> float:
    value = _value(record, by)
    return math.inf if value is None else value


def _value(record: Record, by: str) -> float | None:
    measure = record["measures"].get(by)
    value = measure["mean"] if measure else record.get(by) if by in BESIDES else None
    return value if value is not None and math.isfinite(value) else None


# -- verdicts ---------------------------------------------------------------------------------------


def _verdicts(records: Sequence[Record]) -> dict[int, tuple[str, str]]:
    """{trial: (verdict, reason)} of completed trials, each against the best of its dataset size."""
    judged = {}
    groups: dict[int, list[Record]] = {}
    for record in records:
        if record["status"] == "completed" and record["measures"].get("test_error"):
            groups.setdefault(record["train_examples"], []).append(record)
    for group in groups.values():
        best = min(group, key=lambda r: r["measures"]["test_error"]["mean"])
        for record in group:
            judged[record["trial"]] = _verdict(record, best, alone=len(group) == 1)
    return judged


def _verdict(record: Record, best: Record, alone: bool) -> tuple[str, str]:
    itself = record is best
    behind = None if itself else difference(record, best, "test_error")
    found = verdict.verdict(
        _interval(record, "train_error"),
        _interval(record, "generalization_gap"),
        chance=record["chance_error"],
        difference=behind,
        best_train_error=None if itself else _interval(best, "train_error"),
        best_gap=None if itself else _interval(best, "generalization_gap"),
        bias2=_interval(record, "bias2") if record["measures"].get("bias2") else None,
        variance=_interval(record, "variance") if record["measures"].get("variance") else None,
        more_replicas=None if itself else _needed(record, best),
    )
    reason = found.reason
    if alone:
        reason += " (the only configuration at this dataset size)"
    return found.verdict, reason


def _needed(record: Record, best: Record) -> int | None:
    mine, theirs = (r["replica_values"].get("test_error") for r in (record, best))
    if not mine or not theirs or len(mine) != len(theirs):
        return None
    return intervals.replicas_needed(np.subtract(mine, theirs))


def _learns(record: Record) -> bool:
    return bool(record["measures"].get("train_error")) and verdict.learns(
        _interval(record, "train_error"), record["chance_error"]
    )


def _interval(record: Record, name: str) -> Interval:
    measure = record["measures"][name]
    low, high = (math.nan if measure[k] is None else measure[k] for k in ("low", "high"))
    units = len(record["replica_values"].get(name, ()))
    return Interval(measure["mean"], low, high, math.nan, units)


# -- where records come from ------------------------------------------------------------------------


@dataclass(frozen=True)
class Execution:
    """A named execution of a study as it was recorded: its committed trials and its question."""

    name: str
    records: list[Record]
    info: dict[str, Any]


def find(name: str | None, uri: str | None = None) -> Execution:
    """An execution's records, while it runs or years later; name None: the newest. StudyError where there is none."""
    from sweeps.search import read_records

    known = _local()
    chosen = name or (known[0] if known else None)
    if chosen in known:
        folder = state.study_dir(chosen)
        return Execution(chosen, read_records(folder / "search.journal", chosen), _info(folder))
    from sweeps import tracking

    found = tracking.find_study(uri or state.mlflow_uri(), name)
    if found is None:
        raise StudyError([_unknown(name, known)])
    client, run = found
    records = tracking.read_json(client, run.info.run_id, "trials.json") or []
    info = tracking.read_json(client, run.info.run_id, "execution.json") or {
        "question": run.data.tags.get("engram.question", "")
    }
    return Execution(run.data.tags["engram.name"], records, info)


def _local() -> list[str]:
    """Executions with a ledger in the state folder, the newest first."""
    folders = (state.home() / "studies").glob("*/search.journal")
    return [
        path.parent.name for path in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True)
    ]


def _info(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "execution.json").read_text())
    except (OSError, ValueError):
        return {}


def _unknown(name: str | None, known: list[str]) -> Problem:
    if name is None:
        return Problem(
            Place("leaderboard"),
            "no study has been run here yet",
            "start with: python orchestrate.py run quickstart",
        )
    close = difflib.get_close_matches(name, known, 1)
    fix = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known) or 'none yet'}"
    return Problem(Place("leaderboard"), "is no execution in this store", fix, "name", name)


# -- how a board is shown ---------------------------------------------------------------------------


def command(name: str | None, by: str | None, top: int | None, output: str) -> int:
    """Print leaderboards: as tables, or one as JSON, CSV or Markdown."""
    execution = find(name)
    columns = available(execution.records)
    if by is not None and by not in columns:
        raise StudyError([_unknown_column(by, columns)])
    if output == "table":
        boards = [rank(execution.records, by)] if by else boards_of(execution.records)
        show(boards, Console(), top, execution.name)
        objectives = execution.info.get("definition", {}).get("search", {}).get("objective", {})
        if len(objectives) > 1 and by is None:
            show_front(execution.records, objectives, Console())
        return 0
    board = rank(execution.records, by or default_column(execution.records))
    rows = board.rows[:top]
    write = {"json": _json, "csv": _csv, "markdown": markdown}[output]
    print(write(Board(board.by, rows, board.more_replicas)))
    return 0


def default_column(records: Sequence[Record]) -> str:
    """Validation error, which selects without touching the test set; test error where nothing was held out."""
    return "validation_error" if "validation_error" in available(records) else "test_error"


def boards_of(records: Sequence[Record]) -> list[Board]:
    """The boards every study ends in: error, generalization gap, bias² and variance."""
    wanted = [default_column(records), "generalization_gap", "bias2", "variance"]
    there = available(records)
    return [rank(records, by) for by in wanted if by in there]


def available(records: Sequence[Record]) -> list[str]:
    """Columns that at least one trial has a value for."""
    names: dict[str, None] = {}
    for record in records:
        names.update(dict.fromkeys(n for n, m in record["measures"].items() if m))
        names.update(dict.fromkeys(n for n in BESIDES if n in record))
    return list(names)


def front(records: Sequence[Record], objectives: dict[str, str]) -> list[Record]:
    """Completed trials that no other beats in all objectives ({name: min or max}), as the search saw them."""
    signs = [1.0 if direction == "min" else -1.0 for direction in objectives.values()]
    known = [
        r
        for r in records
        if r["status"] == "completed" and objectives.keys() <= r["selection"].keys()
    ]
    points = [
        [s * r["selection"][n] for s, n in zip(signs, objectives, strict=True)] for r in known
    ]
    return [known[index] for index in pareto.front(points)] if points else []


def show_front(records: Sequence[Record], objectives: dict[str, str], console: Console) -> None:
    """The Pareto front of a study with several objectives, as a table."""
    title = f"Pareto front of {', '.join(title_of(name) for name in objectives)}"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("configuration")
    for name, direction in objectives.items():
        table.add_column(f"{title_of(name)} ({direction})", justify="right")
    for record in front(records, objectives):
        values = [f"{record['selection'][name]:.4g}" for name in objectives]
        table.add_row(label(record["params"]), *values)
    console.print()
    console.print(table)


def _unknown_column(by: str, columns: list[str]) -> Problem:
    close = difflib.get_close_matches(by, columns, 1)
    fix = f"did you mean '{close[0]}'? " if close else ""
    return Problem(
        Place("leaderboard"),
        "is no measure of this study",
        f"{fix}there are: {', '.join(columns)}",
        "--by",
        by,
    )


def show(boards: Sequence[Board], console: Console, top: int | None = 10, name: str = "") -> None:
    """The boards as tables for people."""
    console = Console(
        width=max(console.width, NARROWEST),
        file=console.file,
        force_terminal=console.is_terminal or None,
    )
    for board in boards:
        console.print()
        title = f"{name + ' · ' if name else ''}ranked by {title_of(board.by)}"
        console.print(_table(board, title, top))
        for line in footnotes(board, top):
            console.print(f"  {line}", highlight=False, style="bright_black")
    found = across.findings([row.record for row in boards[0].rows], MOST_FINDINGS) if boards else []
    if found:
        console.print("\nwhat the trials say together", style="bold")
    for line in found:
        console.print(f"  {line}", highlight=False)


def _table(board: Board, title: str, top: int | None) -> Table:
    columns = list(SHOWN)
    if board.by not in dict(columns):
        columns.insert(0, (board.by, SHORT.get(board.by, title_of(board.by))))
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1),
        pad_edge=False,
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("configuration")
    for key, short in columns:
        table.add_column(
            short, justify="right", no_wrap=True, style="bold" if key == board.by else ""
        )
    table.add_column("verdict", no_wrap=True)
    previous = None
    for row in board.rows[:top]:
        tied = row.tie_group is not None and row.tie_group == previous
        previous = row.tie_group
        cells = [cell(row.record, key, key in (board.by, "test_error")) for key, _ in columns]
        place = "=" if tied else str(row.rank)
        table.add_row(place, label(row.record["params"]), *cells, status_of(row, board.by))
    return table


def status_of(row: Row, by: str) -> str:
    if row.record["status"] != "completed":
        return row.record["status"]
    if by in GAPS and row.tie_group is None:
        return "underfit (not ranked)"
    return row.verdict or ""


def footnotes(board: Board, top: int | None) -> list[str]:
    """What a reader must know to trust the table."""
    notes = []
    ties = [row for row in board.rows if row.tie_group == 1]
    if len(ties) > 1:
        more = board.more_replicas
        how = f"; about {more} more replicas would separate the first two" if more else ""
        notes.append(f"= cannot be told apart from the one above at 95 %, paired by replica{how}")
    if board.by in GAPS and any(_class(row.record, board.by) == 1 for row in board.rows):
        notes.append(
            "not ranked: train error not clearly below 3/4 of chance, so there is no gap to speak of"
        )
    if board.by == "validation_error":
        completed = sum(row.record["status"] == "completed" for row in board.rows)
        notes.append(
            f"selected on validation, test reported; the best of {completed} flatters itself by about "
            f"{intervals.expected_best(max(1, completed)):.1f} standard deviations of the noise"
        )
    elif board.by == "test_error":
        notes.append(
            "nothing was held out for validation: these are test errors, and choosing by them flatters the winner"
        )
    if top is not None and len(board.rows) > top:
        notes.append(f"{len(board.rows) - top} more; --top {len(board.rows)} shows them")
    return notes


def cell(record: Record, key: str, interval: bool = True) -> str:
    measure = record["measures"].get(key)
    if measure is None:
        value = record.get(key) if key in BESIDES else None
        return "–" if value is None else f"{value:,.4g}"
    if measure["low"] is None or measure["high"] is None or not interval:
        return f"{measure['mean']:.3f}"
    return f"{measure['mean']:.3f} ± {(measure['high'] - measure['low']) / 2:.3f}"


def title_of(column: str) -> str:
    return column.replace("bias2", "bias²").replace("_", " ")


def _entry(row: Row) -> dict[str, Any]:
    record = row.record
    return {
        "rank": row.rank,
        "tie_group": row.tie_group,
        "trial": record["trial"],
        "run_id": record.get("run_id"),
        "status": record["status"],
        "verdict": row.verdict,
        "params": record["params"],
        "replicas": record.get("replicas"),
        "parameters": record.get("parameters"),
        "measures": record["measures"],
    }


def _json(board: Board) -> str:
    return json.dumps(board.entries(), indent=1)


def flat(board: Board) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: place, parameters, each measure with its ends."""
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
    rows = []
    for row in board.rows:
        entry = _entry(row)
        values = [entry[key] for key in columns[:6]] + [entry["params"].get(key) for key in params]
        values += [entry["replicas"], entry["parameters"]]
        for name in names:
            measure = entry["measures"].get(name) or {}
            values += [measure.get(end) for end in ("mean", "low", "high")]
        rows.append(values)
    return columns, rows


def _csv(board: Board) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns, rows = flat(board)
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def markdown(board: Board) -> str:
    columns = [(board.by, title_of(board.by))] if board.by not in dict(SHOWN) else []
    columns += SHOWN
    lines = [
        "| rank | configuration | " + " | ".join(short for _, short in columns) + " | verdict |"
    ]
    lines.append("|---:|---|" + "---:|" * len(columns) + "---|")
    previous = None
    for row in board.rows:
        place = "=" if row.tie_group is not None and row.tie_group == previous else str(row.rank)
        previous = row.tie_group
        cells = " | ".join(cell(row.record, key) for key, _ in columns)
        name = label(row.record["params"]).replace("|", "\\|")
        lines.append(f"| {place} | {name} | {cells} | {status_of(row, board.by)} |")
    return "\n".join(lines)


def write_tables(boards: Sequence[Board], folder: Path) -> list[Path]:
    """Each board as a table that MLflow shows: leaderboard_<column>.json."""
    paths = []
    for board in boards:
        columns, rows = flat(board)
        path = folder / f"leaderboard_{board.by}.json"
        state.write_text(path, json.dumps({"columns": columns, "data": rows}))
        paths.append(path)
    return paths


def best_metrics(boards: Sequence[Board]) -> dict[str, float]:
    """The leading value of each board, as metrics of the parent run."""
    return {
        f"best_{board.by}": board.rows[0].value
        for board in boards
        if board.rows and board.rows[0].value is not None
    }
