"""The executions that one has, each in a few words: of the state folder, or of an MLflow store.

What is read of an execution is kept beside it (`summary.json`) for as long as its ledger does not change, so that
a list of a thousand of them is read in a moment.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engram import files
from engram.problems import StudyError
from engram.sweeps.results import evidence, executions
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.state import lock, paths
from engram.sweeps.study.configuration import Study, label

FORMAT = 1
SUMMARY, PARENT = "summary.json", "parent.json"  # PARENT: the execution's own run in MLflow
LONGEST_LABEL = 60


@dataclass(frozen=True)
class Entry:
    """One execution. status: running, complete, unfinished or unreadable; trials: finished, of those planned
    (None where a budget ends it); best: label, measure, mean, low, high and verdict of the first of the ranking;
    started, changed: seconds since 1970; size: bytes in the state folder, arrays and reports included."""

    name: str
    study: str
    question: str
    status: str
    trials: int | None = None
    planned: int | None = None
    failed: int | None = None
    best: dict[str, Any] | None = None
    owner: str = ""
    host: str = ""
    started: float | None = None
    changed: float | None = None
    hours: float | None = None
    size: int | None = None
    ended: str = ""  # why the last `run` stopped before its end

    def row(self) -> dict[str, Any]:
        return asdict(self)


def here() -> list[Entry]:
    """The executions of the state folder, the newest first."""
    return sorted(
        (entry_of(name) for name in executions.local()),
        key=lambda entry: entry.changed or 0.0,
        reverse=True,
    )


def entry_of(name: str) -> Entry:
    """One execution of the state folder."""
    folder = paths.study_dir(name)
    ledger = (folder / "search.journal").stat()
    running = lock.holder(folder) is not None
    stamp = [FORMAT, ledger.st_size, ledger.st_mtime_ns]
    known = files.read_json(folder / SUMMARY)
    if isinstance(known, dict) and known.get("stamp") == stamp and not running:
        try:
            return Entry(**known["entry"])
        except (KeyError, TypeError):
            pass
    found = _read(name, folder, running, ledger.st_mtime)
    if not running:
        text = json.dumps({"stamp": stamp, "entry": found.row()})
        with contextlib.suppress(OSError):  # a folder that one may only read, or a full disk
            files.write(folder / SUMMARY, text)
    return found


def status(finished: int, planned: int | None) -> str:
    """Of an execution that nobody is working on."""
    return "complete" if planned is not None and finished >= planned else "unfinished"


def planned_trials(info: dict[str, Any]) -> int | None:
    """How many trials an execution was to have; None where a budget ends it, or nothing is known."""
    try:
        return Study.model_validate(info["definition"]).planned_trials()
    except (KeyError, ValueError):
        return None


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """Each `run` of an execution: started, finished (trials by then), changed, owner and host, the oldest first."""
    found = []
    try:
        lines = (folder / "executions.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict):
            keys = ("started", "finished", "changed", "owner", "host")
            found.append({key: said.get(key) for key in keys})
    return found


def _read(name: str, folder: Path, running: bool, changed: float) -> Entry:
    info = files.read_json(folder / "execution.json")
    info = info if isinstance(info, dict) else {}
    about: dict[str, Any] = {
        "name": name,
        "study": str(info.get("study") or name),
        "question": str(info.get("question") or ""),
        "owner": str(info.get("owner") or ""),
        "host": str(info.get("host") or ""),
        "started": info.get("started"),
        "changed": changed,
        "hours": _hours(folder),
    }
    try:
        found = evidence.gather(name)
    except StudyError as error:  # damaged: it is listed all the same
        said = str(error).splitlines()[0]
        return Entry(**about, status="unreadable", size=_size(folder, []), ended=said)
    planned, records = planned_trials(info), found.records
    ended = files.read_json(folder / "ended.json")
    why = str(ended.get("reason") or "").splitlines() if isinstance(ended, dict) else []
    return Entry(
        **about,
        status="running" if running else status(len(records), planned),
        trials=len(records),
        planned=planned,
        failed=sum(record["status"] == "failed" for record in records),
        best=_best(found),
        size=_size(folder, [r["run_id"] for r in records if r.get("run_id")]),
        ended=why[0] if why else "",
    )


def _best(found: Evidence) -> dict[str, Any] | None:
    board = found.board
    if board is None or found.best is None:
        return None
    row = board.rows[0]
    measure = row.record["measures"].get(board.by) or {}
    return {
        "label": label(row.record["params"]),
        "measure": board.by,
        **{key: measure.get(key) for key in ("mean", "low", "high")},
        "verdict": row.verdict,
    }


def _hours(folder: Path) -> float | None:
    used = files.read_json(folder / "usage.json")
    seconds = used.get("seconds") if isinstance(used, dict) else None
    return None if not isinstance(seconds, int | float) else seconds / 3600


def run_folders(folder: Path, run_ids: list[str]) -> Iterator[Path]:
    """Where the embedded store keeps files of an execution's runs, its own run included."""
    parent = files.read_json(folder / PARENT)
    own = [parent["run_id"]] if isinstance(parent, dict) and "run_id" in parent else []
    for experiment in paths.artifacts_dir().glob("*"):
        for run_id in [*own, *run_ids]:
            if run_id and (experiment / str(run_id)).is_dir():
                yield experiment / str(run_id)


def _size(folder: Path, run_ids: list[str]) -> int:
    return sum(map(size_of, [folder, *run_folders(folder, run_ids)]))


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder; those that go meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except OSError:
            continue
    return total


# -- of an MLflow store -----------------------------------------------------------------------------


def of_store(uri: str) -> list[Entry]:
    """The executions that an MLflow store has, the newest first. StudyError where it cannot be read."""
    from engram.sweeps.tracking import store

    try:
        found = list(store.studies(uri))
    except Exception as error:
        raise StudyError([executions.unreadable(store.without_password(uri), error)]) from None
    return [_recorded(experiment, run) for experiment, run in found]


def _recorded(experiment: str, run: Any) -> Entry:
    tags, metrics = run.data.tags, run.data.metrics
    word = tags.get("engram.status", "")
    best = next((k for k in metrics if k.startswith("best/") and k != "best/test_error"), None)
    shown = best or ("best/test_error" if "best/test_error" in metrics else None)
    return Entry(
        name=tags.get("engram.name", run.info.run_name or ""),
        study=experiment,
        question=tags.get("engram.question", ""),
        status={"completed": "complete", "interrupted": "unfinished"}.get(word, word),
        best=None
        if shown is None
        else {
            "label": tags.get("engram.best", ""),
            "measure": shown.partition("/")[2],
            "mean": metrics[shown],
            "low": None,
            "high": None,
            "verdict": tags.get("engram.verdict"),
        },
        owner=tags.get("engram.owner") or tags.get("mlflow.user", ""),
        host=tags.get("engram.host", ""),
        started=run.info.start_time / 1000,
        changed=(run.info.end_time or time.time() * 1000) / 1000,
    )
