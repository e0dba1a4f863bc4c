"""The results of an execution for Python: boards, tidy tables, pictures, comparisons, every replica.

Reads the state folder, and MLflow only where an execution lies there.
"""

from __future__ import annotations

import difflib
import html
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from engram import networks, program
from engram.networks import Membership, Predictions
from engram.sweeps.results import (
    boards,
    columns,
    evidence,
    findings,
    inventory,
    joined,
    side_by_side,
    tables,
    terminal,
)
from engram.sweeps.results.boards import Board, Row
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.state import lock, paths
from engram.sweeps.study import configuration

# Of a record, besides its parameters and measures.
ABOUT = ("replicas", "parameters", "train_examples", "epochs", "steps", "seconds")


def of(name: str | None, tracking_uri: str | None = None) -> Results:
    """See `engram.open`."""
    sys.path[:] = program.others_first(sys.path)
    found = evidence.gather(name, tracking_uri)
    return Results(found, paths.study_dir(found.name) if tracking_uri is None else None)


class Results:
    """What an execution has found so far. Trials are named by their numbers, replicas by theirs, from 0.

    A picture of the moment it was opened: open it again while it runs for what came since.
    """

    def __init__(self, found: Evidence, folder: Path | None) -> None:
        """folder: the execution's in the state folder; None where it lies elsewhere."""
        self.evidence, self.folder = found, folder
        self._networks = networks.Networks(found, folder)
        self._pictures: dict[str, Figure] | None = None

    # -- what it says ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.evidence.name

    @property
    def question(self) -> str:
        """What the study asks."""
        return self.evidence.question

    @property
    def answer(self) -> str:
        """What was found, as the report begins: a sentence for each thing that is asked, then the best configuration."""
        return findings.answer(self.evidence)

    @property
    def limits(self) -> list[str]:
        """Why to doubt it, the gravest reason first."""
        return findings.limits(self.evidence)

    @property
    def study(self) -> configuration.Study | None:
        """The study as it was run; None where an older version recorded only its text."""
        return self.evidence.study

    @property
    def status(self) -> str:
        """running, complete, or unfinished: run it again to go on."""
        if self.folder is not None and lock.holder(self.folder) is not None:
            return "running"
        planned = inventory.planned_trials(self.evidence.info)
        return inventory.status(len(self.evidence.records), planned)

    @property
    def failed(self) -> int:
        """How many trials failed; the column `error` of `trials` says why."""
        return sum(record["status"] == "failed" for record in self.evidence.records)

    @property
    def best(self) -> int | None:
        """The number of the trial that ranks first; None where none completed. Ties are on the leaderboard."""
        record = self.evidence.best
        return None if record is None else record["trial"]

    # -- tables ---------------------------------------------------------------------------------

    def leaderboard(self, by: str | None = None) -> Leaderboard:
        """The trials, ranked by a measure, the best first; without one by what selects.

        That is the validation error, or the test error where nothing was held out. ValueError for an unknown
        measure.
        """
        records = self.evidence.records
        known = boards.available(records)
        if by is not None and by not in known:
            close = difflib.get_close_matches(by, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"{by!r} is no measure of {self.name}; {hint}there are: {', '.join(known)}"
            )
        selects = self.evidence.board
        by = by or (selects.by if selects else boards.default_column(records))
        return Leaderboard(self.name, boards.rank(records, by))

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, indexed by its number: parameters, measures, and the ends of their 95 % intervals.

        Columns: status, verdict, each swept key (model.dropout), replicas, parameters, train_examples, epochs,
        steps, seconds, each measure with NAME_low and NAME_high (for retraining: other subsets and seeds, the same pool
        and test set; missing where unknown), NAME_new_data_low and NAME_new_data_high (for another pool and test set,
        where the draws tell), error (why it failed), config_hash, run_id.
        """
        names, rows = tables.flat(boards.rank(self.evidence.records, "test_error"))
        frame = pd.DataFrame(rows, columns=names)
        first = names.index("parameters") + 1
        frame = frame.astype(dict.fromkeys(names[first:], float))
        frame = frame.set_index("trial").sort_index()
        for place, key in enumerate(ABOUT, frame.columns.get_loc("replicas")):
            values = self._column(key, frame.index)
            if key in frame:
                del frame[key]
            frame.insert(place, key, values)
        for key in ("error", "config_hash"):
            frame[key] = self._column(key, frame.index)
        frame["run_id"] = frame.pop("run_id")
        return frame.drop(columns=["rank", "tie_group"])

    def _column(self, key: str, index: pd.Index) -> pd.Series:
        found = {record["trial"]: record.get(key) for record in self.evidence.records}
        return pd.Series([found[trial] for trial in index], index=index).convert_dtypes()

    @property
    def replicas(self) -> pd.DataFrame:
        """One row a trial and replica: parameters, and the replica's value of each measure.

        Columns: trial, replica, networks, each swept key, each measure that replicas have. Rows with the same
        replica of different trials are paired: same subset, same seeds. Measures of all replicas together
        (variance, bias2, membership_auc) have jackknife pseudo-values here: their mean is the measure.
        networks: how many replicas a row stands for, by their mean; more than 1 where replicas are not
        independent (several initializations of one subset, complementary pairs), and `replica` is the first.
        """
        rows: list[dict[str, Any]] = []
        for record in self.evidence.records:
            numbers, unit = self._networks.rows_of(record)
            values = {
                key: found
                for key, found in record.get("replica_values", {}).items()
                if len(found) == len(numbers)
            }
            rows += [
                {"trial": record["trial"], "replica": number, "networks": unit, **record["params"]}
                | {key: found[k] for key, found in values.items()}
                for k, number in enumerate(numbers)
            ]
        frame = pd.DataFrame(rows)
        if not rows:
            return pd.DataFrame(columns=["trial", "replica", "networks"])
        return frame.astype({"replica": "Int64"})

    # -- replicas -------------------------------------------------------------------------------

    def predictions(self, trial: int) -> Predictions:
        """What each replica of a trial says of the test set: probabilities, or values, [R, N, C], with targets and row ids."""
        return self._networks.predictions(self._record(trial))

    def member(self, trial: int) -> Membership:
        """Which examples of the pool each replica was trained on: bool [R, N], with row ids."""
        return self._networks.member(self._record(trial))

    def model(self, trial: int, replica: int) -> Any:
        """A replica of a trial as a torch module on the CPU, in eval mode, ready to be called.

        It takes inputs [B, ...] as the dataset holds them, and gives logits [B, classes] or values. LookupError
        where its final weights were not kept (checkpoint.final: false; trials that were pruned or failed).
        """
        return self._networks.model(self._record(trial), replica)

    def _record(self, trial: int) -> Record:
        for record in self.evidence.records:
            if record["trial"] == trial:
                return record
        known = [record["trial"] for record in self.evidence.records]
        raise LookupError(f"{self.name} has no finished trial {trial!r}; there are: {known}")

    # -- pictures and comparisons ---------------------------------------------------------------

    @property
    def figures(self) -> list[str]:
        """The names that `figure` knows."""
        return list(self._drawn())

    def figure(self, name: str) -> Figure:
        """A picture of the report, which Jupyter shows; LookupError with all names for an unknown one."""
        drawn = self._drawn()
        if name not in drawn:
            known = ", ".join(drawn) or "none yet"
            raise LookupError(f"{self.name} has no figure {name!r}; there are: {known}")
        return drawn[name]

    def _drawn(self) -> dict[str, Figure]:
        if self._pictures is None:
            from engram.sweeps.results.figures import draw  # matplotlib takes a while to import

            self._pictures = {
                each.name: Figure(each.name, each.title, each.caption, each.png, each.svg)
                for each in draw.draw(self.evidence)
            }
        return self._pictures

    def compare(self, other: Results | str, *more: Results | str) -> Comparison:
        """These results and other ones (or executions' names), trial by trial: changes are other minus these.

        StudyError where one has no configuration in common with these."""
        found = [each if isinstance(each, Results) else of(each) for each in (other, *more)]
        return Comparison(joined.join([self.evidence, *(each.evidence for each in found)]))

    # -- how it is shown ------------------------------------------------------------------------

    def _head(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.name}: {self.status}, {len(self.evidence.records)} trials{failed}"

    def __repr__(self) -> str:
        return f"<Results of {self._head()}. {self.answer}>"

    def _repr_html_(self) -> str:
        head, answer = html.escape(self._head()), html.escape(self.answer)
        board = self.leaderboard()._repr_html_() if self.evidence.records else ""
        return f"<p><b>{answer}</b><br>{head}</p>{board}"


@dataclass(frozen=True)
class Leaderboard:
    """Trials in order; `frame()` is a DataFrame of it, `notes` what a reader must know to trust it."""

    name: str
    board: Board

    @property
    def by(self) -> str:
        """The measure it is ranked by."""
        return self.board.by

    @property
    def more_replicas(self) -> int | None:
        """About how many more replicas would tell the first two apart; None: they are, or nothing shows a difference."""
        return self.board.more_replicas

    @property
    def notes(self) -> list[str]:
        return tables.footnotes(self.board, None)

    def frame(self) -> pd.DataFrame:
        """One row a trial in order: rank, tie_group (one number: cannot be told apart), trial, status, verdict,
        parameters, measures with NAME_low and NAME_high (retraining), NAME_new_data_low and _high (new data)."""
        names, rows = tables.flat(self.board)
        frame = pd.DataFrame(rows, columns=names)
        measures = names[names.index("parameters") + 1 :]
        return frame.astype({"tie_group": "Int64", **dict.fromkeys(measures, float)})

    def __len__(self) -> int:
        return len(self.board.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.board.rows)

    def __repr__(self) -> str:
        out = Console(file=io.StringIO(), width=terminal.OF_A_PIPE, force_jupyter=False)
        terminal.show([self.board], out, tables.MOST_ROWS, self.name)
        return out.file.getvalue().strip("\n")  # type: ignore[attr-defined]

    def _repr_html_(self) -> str:
        shown = columns.shown(self.by, [row.record for row in self.board.rows])
        heads = ["#", "configuration", *(title for _, title in shown), "verdict"]
        lines = []
        for row in self.board.rows[: tables.MOST_ROWS]:
            cells = [row.place, configuration.label(row.record["params"])]
            cells += [tables.cell(row.record, key) for key, _ in shown]
            lines.append(_tag_row("td", [*cells, tables.status_of(row, self.by)]))
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._notes_shown())
        title = html.escape(f"{self.name} · ranked by {tables.ranked_by(self.board)}")
        body = f"<thead>{_tag_row('th', heads)}</thead><tbody>{''.join(lines)}</tbody>"
        return f"<table><caption>{title}</caption>{body}</table><ul>{notes}</ul>"

    def _notes_shown(self) -> list[str]:
        left = len(self.board.rows) - tables.MOST_ROWS
        return self.notes + ([f"{left} more; .frame() has all"] if left > 0 else [])


def _tag_row(tag: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


@dataclass(frozen=True)
class Figure:
    """A picture. title: what it finds; caption: how to read it."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes

    def save(self, path: str | Path) -> Path:
        """Write it; the ending says as what, .svg or .png."""
        path = Path(path)
        kinds = {".svg": self.svg, ".png": self.png}
        if path.suffix not in kinds:
            raise ValueError(f"{path} ends in neither .svg nor .png")
        path.write_bytes(kinds[path.suffix])
        return path

    def __repr__(self) -> str:
        return f"<Figure {self.name}: {self.title}>"

    def _repr_png_(self) -> bytes:
        return self.png


@dataclass(frozen=True)
class Comparison:
    """Executions against the first, trial by trial. found: all of it, as sweeps/results/joined.py has it."""

    found: joined.Joined

    @property
    def verdict(self) -> str:
        """Whether anything moved, and what may have moved it, in a sentence for each."""
        return " ".join(side_by_side.verdicts(self.found))

    def frame(self) -> pd.DataFrame:
        """One row an execution, matched trial and measure: parameters, first, second, change with low and high, certain.

        change: second minus first; certain: beyond what so many comparisons throw up by chance.
        """
        rows = [
            {"execution": comparison.names[1]}
            | {**pair.params, "trial_first": pair.trials[0], "trial_second": pair.trials[1]}
            | {
                key: getattr(moved, key)
                for key in ("measure", "first", "second", "change", "low", "high", "certain")
            }
            for comparison in self.found.comparisons
            for pair in comparison.pairs
            for moved in pair.moved
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return side_by_side.text(self.found)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"
