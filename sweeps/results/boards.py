"""Ranks the trials of a study by any measure, with paired intervals, tie groups and verdicts.

Works on committed records alone, wherever they come from (executions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engram.measures import pareto
from engram.measures.intervals import Needed
from engram.measures.measure import HELD_OUT
from engram.sweeps.results import columns
from engram.sweeps.results.record import Record, needed, tie_groups
from engram.sweeps.results.verdicts import Verdicts, learns

GAPS = ("generalization_gap", "generalization_gap_loss")
# After those that completed; a trial that learned nothing has no gap to be ranked by.
ORDER = {"completed": 0, "not learned": 1, "pruned": 2, "diverged": 3, "failed": 4}
BESIDES = ("parameters", "seconds", "epochs", "steps")  # columns that have no interval


@dataclass(frozen=True)
class Row:
    """One trial's place: rank from 1; tie_group from 1, None for trials that are not compared; first: rank of the
    first of its group."""

    rank: int
    tie_group: int | None
    record: Record
    value: float | None
    verdicts: Verdicts
    first: int

    @property
    def place(self) -> str:
        """`3` for the first of a group, `=3` for those that cannot be told from it."""
        return str(self.rank) if self.first == self.rank else f"={self.first}"

    @property
    def verdict(self) -> str | None:
        return self.verdicts.of(self.record)[0]

    @property
    def reason(self) -> str:
        return self.verdicts.of(self.record)[1]


@dataclass(frozen=True)
class Board:
    """A ranking by one column. needed: more replicas that would separate the first two trials, with a range; None
    where they are separated, or where nothing shows that they differ at all."""

    by: str
    rows: list[Row]
    needed: Needed | None = None

    @property
    def more_replicas(self) -> int | None:
        """The estimate alone."""
        return self.needed.estimate if self.needed else None

    def entries(self) -> list[dict[str, Any]]:
        """The rows as the contract's JSON."""
        return [entry_of(row) for row in self.rows]


def rank(records: Sequence[Record], by: str, verdicts: Verdicts | None = None) -> Board:
    """Rank records by a column, the best first. verdicts: of these records, where they are there already.

    A tie group holds all trials that cannot be told from its first one, at one error rate for the whole board
    (comparison.groups); a trial that ties with several firsts belongs to the earliest. Groups are made by looking
    at means, so a noisy trial can tie with the first although a steadier one above it does not: ranks follow the
    mean, and `place` names the first of the group. Trials that did not complete come last.
    """
    sign = -1.0 if columns.higher_is_better(by, records) else 1.0
    placed = sorted(records, key=lambda r: (class_of(r, by), _sort_value(r, by, sign), r["trial"]))
    verdicts = verdicts or Verdicts(records)
    ranked = [r for r in placed if class_of(r, by) == 0 and _value(r, by) is not None]
    groups: list[int | None] = [
        *tie_groups(ranked, by, sign),
        *[None] * (len(placed) - len(ranked)),
    ]
    first: dict[int, int] = {}
    rows = []
    for place, (group, record) in enumerate(zip(groups, placed, strict=True), 1):
        leader = place if group is None else first.setdefault(group, place)
        rows.append(Row(place, group, record, _value(record, by), verdicts, leader))
    return Board(by, rows, _needed(rows, by))


def _needed(rows: list[Row], by: str) -> Needed | None:
    """Replicas to add before the first two separate."""
    if len(rows) < 2 or rows[1].tie_group is None or rows[1].tie_group != rows[0].tie_group:
        return None
    compared = sum(row.tie_group is not None for row in rows)
    return needed(rows[1].record, rows[0].record, by, compared)


def class_of(record: Record, by: str) -> int:
    status = record["status"]
    if status == "completed" and by in GAPS and not learns(record):
        status = "not learned"
    return ORDER.get(status, len(ORDER))


def _sort_value(record: Record, by: str, sign: float) -> float:
    value = _value(record, by)
    return math.inf if value is None else sign * value


def _value(record: Record, by: str) -> float | None:
    measure = record["measures"].get(by)
    value = measure["mean"] if measure else record.get(by) if by in BESIDES else None
    return value if value is not None and math.isfinite(value) else None


def default_column(records: Sequence[Record], objective: str = "") -> str:
    """Validation error, which selects without touching the test set; test error where nothing was held out.

    objective: of the search; where it has a column of its own on validation, that one selects."""
    there = available(records)
    wanted = (f"{HELD_OUT}{objective}", "validation_error")
    return next((name for name in wanted if name in there), "test_error")


def boards_of(records: Sequence[Record], objective: str = "") -> list[Board]:
    """The boards every study ends in: what selects, generalization gap, bias², variance, and what it asked for."""
    there, verdicts = available(records), Verdicts(records)
    wanted = [default_column(records, objective), "generalization_gap", "bias2", "variance"]
    selected = columns.beside(wanted[0], records)
    wanted += [name for name in columns.asked_for(there, records) if name != selected]
    return [rank(records, by, verdicts) for by in wanted if by in there]


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


def entry_of(row: Row) -> dict[str, Any]:
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


def best_metrics(boards: Sequence[Board]) -> dict[str, float]:
    """The leading value of each board, as metrics of the parent run."""
    return {
        f"best_{board.by}": board.rows[0].value
        for board in boards
        if board.rows and board.rows[0].value is not None
    }
