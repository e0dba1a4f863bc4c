"""Executions as they were recorded: found in the state folder, or in an MLflow store where there is no ledger."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.results.record import Record
from engram.sweeps.state import paths


@dataclass(frozen=True)
class Execution:
    """A named execution of a study as it was recorded: its committed trials and its question."""

    name: str
    records: list[Record]
    info: dict[str, Any]


def find(name: str | None, uri: str | None = None) -> Execution:
    """An execution's records, while it runs or years later; name None: the newest. StudyError where there is none.

    uri: of an MLflow server or store to read instead of the state folder.
    """
    from engram.sweeps.search.committed import read_records

    known = local() if uri is None else []
    chosen = name or (known[0] if known else None)
    if chosen in known:
        folder = paths.study_dir(chosen)
        return Execution(chosen, read_records(folder / "search.journal", chosen), _info(folder))
    from engram.sweeps.tracking import store

    try:
        found = store.find_study(uri or paths.mlflow_uri(), name)
    except Exception as error:
        if uri is None:
            raise
        raise StudyError([unreadable(store.without_password(uri), error)]) from None
    if found is None:
        raise StudyError([unknown(name, known)])
    client, run = found
    records = store.read_json(client, run.info.run_id, "trials.json") or []
    info = store.read_json(client, run.info.run_id, "execution.json") or {
        "question": run.data.tags.get("engram.question", "")
    }
    return Execution(run.data.tags["engram.name"], records, info)


def local() -> list[str]:
    """Executions with a ledger in the state folder, the newest first."""
    folders = (paths.home() / "studies").glob("*/search.journal")
    return [
        path.parent.name for path in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True)
    ]


def _info(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "execution.json").read_text())
    except (OSError, ValueError):
        return {}


def unreadable(uri: str, error: Exception) -> Problem:
    """A store that cannot be read, and why."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    fix = "check the address, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where it asks for them"
    return Problem(Place("MLflow"), f"cannot be read: {reason}", fix, "--tracking-uri", uri)


def unknown(name: str | None, known: list[str], command: str = "") -> Problem:
    """There is no execution of this name, or none at all; known: those that there are."""
    if name is None:
        return Problem(
            Place(command or str(paths.home())),
            "no study has been run here yet",
            f"start with: {program.name()} run quickstart",
        )
    close = difflib.get_close_matches(name, known, 1)
    fix = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known) or 'none yet'}"
    return Problem(
        Place(command or str(paths.home())), "is no execution in this store", fix, "name", name
    )
