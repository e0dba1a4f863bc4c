"""What a person sees of results on a terminal: the answer, one board that fits, and what its marks mean.

A board drops and shortens columns until it fits; a word is never broken. Numbers are those of `tables`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from engram import program
from engram.measures import catalog
from engram.problems import Place, Problem, StudyError, nearest
from engram.sweeps.results import findings, tables, words
from engram.sweeps.results.boards import (
    Board,
    Row,
    available,
    default_column,
    front,
    rank,
)
from engram.sweeps.results.columns import beside, shown
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.executions import Execution
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import label

OF_A_PIPE = 100  # columns of text where nothing has a width
MOST_ROWS = tables.MOST_ROWS
MOST_FINDINGS = 3  # sentences below the board; the report has all
VERDICT = "verdict"
SHORTEST, SHORT = 14, 24  # characters of a configuration
# In this order columns go where there is no room: bias² first, the column that ranks never.
KEPT = (VERDICT, "generalization_gap", "variance", "bias2")


def print_boards(
    execution: Execution, by: str | None, top: int | None, form: str, every: bool = False
) -> None:
    """Print leaderboards: the answer and a table, or one as JSON, CSV or Markdown; every: all tables.

    StudyError for an unknown column."""
    known = available(execution.records)
    if by is not None and by not in known:
        raise StudyError([_unknown_column(by, known)])
    objectives = execution.info.get("definition", {}).get("search", {}).get("objective", {})
    selecting = next(iter(objectives), "")
    if form == "table":
        evidence = Evidence(execution.name, execution.records, execution.info)
        found = [rank(execution.records, by)] if by else evidence.boards
        console = Console()
        if by is None:
            show_answer(evidence, console)
        show(found if every else found[:1], console, top or MOST_ROWS, execution.name)
        if len(objectives) > 1 and by is None:
            show_front(execution.records, objectives, console)
        if len(found) > 1 and not every:
            others = ", ".join(board.by for board in found[1:])
            _say(console, f"more boards: --all, or --by {others}", "")
        return
    board = rank(execution.records, by or default_column(execution.records, selecting))
    rows = board.rows[:top]
    write = {"json": tables.to_json, "csv": tables.to_csv, "markdown": tables.markdown}[form]
    print(write(Board(board.by, rows, board.needed)))


def _unknown_column(by: str, known: list[str]) -> Problem:
    close = nearest(by, known)
    fix = f"did you mean '{close}'? " if close else ""
    if catalog.find(by) is not None:
        rule = "was not measured in this study"
    else:
        rule = "is no measure of this study"
    return Problem(Place("leaderboard"), rule, f"{fix}there are: {', '.join(known)}", "--by", by)


def width_of(console: Console) -> int:
    """Columns of text there are; a pipe has none of its own, unless COLUMNS says so."""
    if not console.is_terminal and "COLUMNS" not in console._environ:
        return max(console.width, OF_A_PIPE)
    return max(console.width, program.NARROWEST)


def show_answer(evidence: Evidence, console: Console) -> None:
    """The question and its answer, before anything else."""
    told = findings.answers(evidence)
    if not told:
        return
    console.print()
    if evidence.question:
        _say(console, evidence.question, "bold", indent="")
    for line in told:
        _say(console, line, "")
    _say(console, findings.answer_note(evidence), "bright_black")


def show(boards: Sequence[Board], console: Console, top: int | None = 10, name: str = "") -> None:
    """The boards as tables for people, and what the trials say together."""
    for board in boards:
        _show_board(board, console, top, name)
    records = [row.record for row in boards[0].rows] if boards else []
    found = findings.together(records, MOST_FINDINGS)
    if found:
        console.print("\nwhat the trials say together", style="bold")
    for line in found:
        _say(console, line, "")


def _show_board(board: Board, console: Console, top: int | None, name: str) -> None:
    width = width_of(console)
    console.print()
    title = f"{name + ' · ' if name else ''}ranked by {tables.ranked_by(board)}"
    for line in textwrap.wrap(title, width):
        console.print(line, style="bold", highlight=False, markup=False)
    layout = _layout(board, board.rows[:top], width)
    console.width = width  # rich never prints wider than that
    console.print(layout.table(board), no_wrap=True, overflow="ignore", crop=False)
    notes = tables.footnotes(board, top)
    if layout.cut:
        notes.append("…K is trial K, its settings shortened; --format csv has all")
    if layout.dropped:
        notes.append(
            f"without {', '.join(layout.dropped)}, for which there is no room; --format csv has all"
        )
    rows = board.rows[:top]
    names = [row.record["params"] for row in rows]
    notes += words.legend(
        [tables.status_of(row, board.by).partition(" (")[0] for row in rows],
        layout.columns,
        any(key == "data.train_size" for params in names for key in params),
    )
    for note in notes:
        _say(console, note, "bright_black")


def _say(console: Console, text: str, style: str, indent: str = "  ") -> None:
    """A sentence, wrapped between words."""
    for line in program.fitted(indent + text, width_of(console), len(indent)).split("\n"):
        console.print(line, highlight=False, markup=False, style=style, soft_wrap=True)


# -- a board that fits --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Which columns stand on a board, which of them with intervals, and how the configurations are written."""

    columns: list[str]
    exact: list[str]
    headings: dict[str, str]
    rows: list[tuple[str, ...]]
    cut: bool
    dropped: list[str]

    @property
    def width(self) -> int:
        heads = ["#", "configuration", *(self.headings[key] for key in self.columns)]
        widths = [max(map(len, column)) for column in zip(heads, *self.rows, strict=True)]
        return sum(widths) + 2 * (len(widths) - 1)

    def table(self, board: Board) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("#", justify="right", no_wrap=True)
        table.add_column("configuration", no_wrap=True)
        for key in self.columns:
            side: Any = "left" if key == VERDICT else "right"
            style = "bold" if key == board.by else ""
            table.add_column(self.headings[key], justify=side, no_wrap=True, style=style)
        for row in self.rows:
            table.add_row(*row)
        return table


def _layout(board: Board, rows: Sequence[Row], width: int) -> Layout:
    """The fullest layout that fits the width, or the narrowest there is."""
    layout = None
    for layout in _layouts(board, rows):
        if layout.width <= width:
            return layout
    assert layout is not None
    return layout


def _layouts(board: Board, rows: Sequence[Row]) -> Iterator[Layout]:
    """From the fullest to the narrowest."""
    records = [row.record for row in board.rows]
    headings = {**dict(shown(board.by, records)), VERDICT: VERDICT}
    keys = list(headings)
    test = beside(board.by, records)
    longest = max([len(label(row.record["params"])) for row in rows] + [SHORTEST])
    for exact in (keys, [board.by, test], [board.by]):
        yield _made(board, rows, headings, keys, exact, longest)
    importance = [key for key in KEPT if key in keys and key != board.by]
    importance = [*dict.fromkeys([board.by, test]), *importance]
    importance += [key for key in keys if key not in importance]
    for count in range(len(importance), 0, -1):
        kept = [key for key in keys if key in importance[:count]]
        for characters in dict.fromkeys(min(longest, n) for n in (longest, 48, 36, SHORT)):
            yield _made(board, rows, headings, kept, [board.by], characters)
    yield _made(board, rows, headings, [board.by], [board.by], SHORTEST)
    yield _made(board, rows, headings, [board.by], [], SHORTEST)


def _made(
    board: Board,
    rows: Sequence[Row],
    headings: dict[str, str],
    keys: list[str],
    exact: list[str],
    characters: int,
) -> Layout:
    found, cut = [], False
    names = _names(rows, characters)
    for row, name in zip(rows, names, strict=True):
        if len(name) > characters:
            name, cut = cut_to(name, characters, row.record["trial"]), True
        cells = [
            tables.status_of(row, board.by)
            if key == VERDICT
            else tables.cell(row.record, key, key in exact)
            for key in keys
        ]
        found.append((row.place, name, *cells))
    dropped = [heading for key, heading in headings.items() if key not in keys]
    return Layout(keys, exact, headings, found, cut, dropped)


def _names(rows: Sequence[Row], characters: int) -> list[str]:
    """Configurations in so many characters: without what is the same in all rows, without the modules of classes."""
    every = [row.record["params"] for row in rows]
    names = [label(params) for params in every]
    if max(map(len, names), default=0) <= characters or len(rows) < 2:
        return names
    same = {key for key in every[0] if len({repr(params.get(key)) for params in every}) == 1}
    return [
        short_label({key: value for key, value in params.items() if key not in same} or params)
        for params in every
    ]


def short_label(params: dict[str, Any]) -> str:
    """A configuration with my_package.networks:Network as Network."""
    return label({k: v.rpartition(":")[2] if isinstance(v, str) else v for k, v in params.items()})


def cut_to(name: str, characters: int, trial: int) -> str:
    """As many whole settings as there is room for, and the trial's number, which tells it from others."""
    mark = f"…{trial}"
    kept: list[str] = []
    for part in name.split(" · "):
        if len(" · ".join([*kept, part, mark])) > characters:
            break
        kept.append(part)
    if not kept:
        return name[: max(1, characters - len(mark))] + mark
    return " · ".join([*kept, mark])


def show_front(records: Sequence[Record], objectives: dict[str, str], console: Console) -> None:
    """The Pareto front of a study with several objectives, as a table."""
    width = width_of(console)
    title = f"Pareto front of {', '.join(tables.title_of(name) for name in objectives)}"
    console.print()
    for line in textwrap.wrap(title, width):
        console.print(line, style="bold", highlight=False, markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("configuration", overflow="fold")
    for name, direction in objectives.items():
        table.add_column(f"{tables.title_of(name)} ({direction})", justify="right")
    for record in front(records, objectives):
        values = [f"{record['selection'][name]:.4g}" for name in objectives]
        table.add_row(label(record["params"]), *values)
    console.print(table, width=width)
