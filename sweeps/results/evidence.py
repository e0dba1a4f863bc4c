"""What is recorded of one execution, wherever it lies: trials, definition, provenance, arrays.

Reads the state folder first, and MLflow where that has nothing. Changes nothing, draws nothing.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from engram.sweeps.results import boards, executions
from engram.sweeps.results.boards import Board
from engram.sweeps.results.record import Record
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Configuration, Study
from engram.sweeps.study.sections import Range

Arrays = Mapping[str, np.ndarray]
ROUNDING = 1e-9
WIDE = 8  # times the smallest: below it a logarithm shows nothing that a line does not
log = logging.getLogger(__name__)


class Share(NamedTuple):
    """How much of the differences between trials a key explains by itself, with the range over forests; told: whether
    that is shown beside the other keys (`measures.importance`)."""

    mean: float
    low: float
    high: float
    told: str


@dataclass
class Evidence:
    """One execution as recorded. `arrays(record)`: curves, predictions, memorization of a trial, or {}."""

    name: str
    records: list[Record]
    info: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    text: str = ""  # the study file
    read_arrays: Callable[[Record], Arrays | None] = lambda record: None
    earlier: Callable[[], Evidence | None] = lambda: None  # the execution of this study before it
    _kept: dict[int, Arrays] = field(default_factory=dict, repr=False)
    _shares: dict[str, dict[str, Share]] = field(default_factory=dict, repr=False)

    def arrays(self, record: Record) -> Arrays:
        number = record["trial"]
        if number not in self._kept:
            self._kept[number] = self.read_arrays(record) or {}
        return self._kept[number]

    @property
    def question(self) -> str:
        return str(self.info.get("question") or "")

    @cached_property
    def study(self) -> Study | None:
        """The study as it was run, --set applied; None where only its text is known."""
        try:
            return Study.model_validate(self.info["definition"])
        except (KeyError, ValidationError):
            return None

    @property
    def objective(self) -> str:
        """What the search selected by, the first of several; empty where it is not known."""
        search = (self.info.get("definition") or {}).get("search") or {}
        return next(iter(search.get("objective") or {}), "")

    @cached_property
    def boards(self) -> list[Board]:
        return boards.boards_of(self.records, self.objective)

    @property
    def board(self) -> Board | None:
        """The ranking that selects."""
        return self.boards[0] if self.boards else None

    @cached_property
    def completed(self) -> list[Record]:
        return [r for r in self.records if r["status"] == "completed" and r["measures"]]

    @property
    def best(self) -> Record | None:
        """The first of the ranking that selects, where any trial completed."""
        if not self.board or not self.board.rows or self.board.rows[0].tie_group is None:
            return None
        return self.board.rows[0].record

    @cached_property
    def axes(self) -> list[str]:
        """Swept keys that took more than one value, in the study's order."""
        keys = dict.fromkeys(key for record in self.records for key in record["params"])
        return [key for key in keys if len({repr(r["params"].get(key)) for r in self.records}) > 1]

    def values(self, key: str, records: Sequence[Record] | None = None) -> list[Any]:
        """The values a key took, numbers in order."""
        found = {
            repr(v): v for r in (records or self.records) if (v := r["params"].get(key)) is not None
        }
        numbers = [v for v in found.values() if is_number(v)]
        return sorted(numbers) if len(numbers) == len(found) else list(found.values())

    def scale(self, key: str) -> str:
        """How an axis of a key is drawn: `log` or `linear` for numbers, as it is drawn or listed; else `names`.

        What is drawn from a distribution has that one's scale; listed numbers have the one on which they lie
        more evenly, and a zero before numbers that lie evenly in logarithms makes them names."""
        axis = self.study.sweep.get(key) if self.study else None
        if isinstance(axis, Range):
            return "log" if axis.log else "linear"
        values = self.values(key)
        if not all(map(is_number, values)) or self.unset(key):
            return "names"
        above = [float(v) for v in values if v > 0]
        if len(above) < 3:
            return "linear" if len(values) < 3 or min(values) <= 0 else _evener(above)
        kind = _evener(above)
        return "names" if kind == "log" and len(above) < len(values) else kind

    def shares(self, measure: str, records: Sequence[Record]) -> dict[str, Share]:
        """What each axis explains of a measure's differences between these trials, remembered: it takes a forest."""
        if measure not in self._shares:
            from engram.measures import importance
            from engram.sweeps.search import shares

            settings = {key: [r["params"].get(key) for r in records] for key in self.axes}
            values = [r["measures"][measure]["mean"] for r in records]
            if np.ptp(values) <= ROUNDING * max(map(abs, values)):  # nothing to explain
                return dict.fromkeys(self.axes, Share(0.0, 0.0, 0.0, "not told"))
            found, told = shares.shares(settings, values), importance.effects(settings, values)
            self._shares[measure] = {
                key: Share(found[key].mean, found[key].low, found[key].high, told[key].word)
                for key in self.axes
            }
        return self._shares[measure]

    def unset(self, key: str) -> bool:
        """Whether a trial leaves the key out, or at null."""
        return any(r["params"].get(key) is None for r in self.records)

    @property
    def regression(self) -> bool:
        return any(record.get("task") == "regression" for record in self.records)

    def configuration(self, record: Record) -> Configuration | None:
        return None if self.study is None else self.study.configure(record["params"])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _evener(values: Sequence[float]) -> str:
    """The scale on which increasing numbers above 0 are spaced the more evenly."""
    if len(values) < 3 or values[-1] < WIDE * values[0]:
        return "linear"
    steps = [np.diff(np.asarray(values)), np.diff(np.log(values))]
    spread = [float(step.std() / step.mean()) for step in steps]
    return "log" if spread[1] < spread[0] else "linear"


def gather(name: str | None, uri: str | None = None) -> Evidence:
    """The evidence of a named execution (None: the newest); StudyError where there is none."""
    execution = executions.find(name, uri)
    folder = paths.study_dir(execution.name)
    # Where a store is named, what lies here under the same name is another execution.
    return _evidence(execution, folder if uri is None else folder / "elsewhere", uri)


def of_folder(name: str, folder: Path, records: list[Record]) -> Evidence:
    """The evidence of an execution that is still held: its records are in memory, the rest in its folder."""
    info = json.loads((folder / "execution.json").read_text())
    return _evidence(executions.Execution(name, records, info), folder, None)


def _evidence(execution: executions.Execution, folder: Path, uri: str | None) -> Evidence:
    definition = execution.info.get("definition") or {}
    tracking = definition.get("tracking") or {}
    where = uri or tracking.get("uri") or paths.mlflow_uri()
    experiment = tracking.get("experiment") or execution.info.get("study") or execution.name
    reader = _Reader(folder, where, experiment, execution.name)
    provenance = reader.text("provenance.json")
    return Evidence(
        execution.name,
        execution.records,
        execution.info,
        json.loads(provenance) if provenance else {},
        reader.text("study.yaml") or "",
        reader.arrays,
        lambda: _before(execution) if uri is None else None,
    )


def _before(execution: executions.Execution) -> Evidence | None:
    """The newest execution of the same study that started before this one, of those that lie here."""
    started = execution.info.get("started") or 0
    study = execution.info.get("study")
    found: tuple[float, str] | None = None
    for path in (paths.home() / "studies").glob("*/execution.json"):
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        when = info.get("started") or 0
        if path.parent.name != execution.name and info.get("study") == study and when < started:
            found = max(found or (0, ""), (when, path.parent.name))
    return gather(found[1]) if found else None


class _Reader:
    """Files of an execution: from its folder, from the embedded store, from MLflow."""

    def __init__(self, folder: Path, uri: str, experiment: str, name: str):
        self.folder, self.uri, self.name = folder, uri, name
        self.embedded = paths.artifacts_dir() / experiment

    def text(self, file: str) -> str | None:
        path = self.folder / file
        if path.exists():
            return path.read_text()
        found = self._from_mlflow(file, None)
        return found.read_text() if found else None

    def arrays(self, record: Record) -> Arrays | None:
        places = [paths.arrays_file(self.folder, record["trial"])]
        if record.get("run_id"):
            places.append(self.embedded / record["run_id"] / "artifacts" / "arrays.npz")
        for place in places:
            loaded = _load(place)
            if loaded is not None:
                return loaded
        found = self._from_mlflow("arrays.npz", record["run_id"]) if record.get("run_id") else None
        return _load(found) if found else None

    @cached_property
    def _store(self) -> tuple[Any, str] | None:
        from engram.sweeps.tracking import store

        try:
            found = store.find_study(self.uri, self.name)
        except Exception as error:  # a server that is away: what lies here is all there is
            log.warning("MLflow: %s", error)
            return None
        return (found[0], found[1].info.run_id) if found else None

    def _from_mlflow(self, file: str, run_id: str | None) -> Path | None:
        if self._store is None:
            return None
        from engram.sweeps.tracking import store

        client, study_run = self._store
        folder = Path(tempfile.mkdtemp(prefix="engram-", dir=self._downloads.name))
        return store.read_file(client, run_id or study_run, file, folder)

    @cached_property
    def _downloads(self) -> tempfile.TemporaryDirectory:
        return tempfile.TemporaryDirectory(prefix="engram-")


def _load(path: Path) -> Arrays | None:
    """The arrays of a file without pickle; None where it is absent, gone meanwhile, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError):
        return None
    except Exception as error:  # zipfile.BadZipFile, zlib.error
        log.warning("%s: %s", path, error)
        return None
