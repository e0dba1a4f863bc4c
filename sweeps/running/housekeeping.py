"""What is done with executions as a whole: renamed, deleted, or chosen for deletion by rules of retention.

Each under the execution's lock, so that nothing that runs is touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram import files
from engram.problems import Place, Problem, StudyError
from engram.sweeps.results import executions
from engram.sweeps.results.inventory import Entry
from engram.sweeps.search import rewriting
from engram.sweeps.state import lock, paths
from engram.sweeps.tracking import holdings

DAY_S = 86_400.0


@dataclass(frozen=True)
class Recorded:
    """Where an execution is recorded. artifacts: of its experiment in the embedded store; None on a server."""

    uri: str
    experiment: str
    artifacts: Path | None


def recorded(name: str) -> Recorded:
    """Where the execution of this name is recorded."""
    info: Any = files.read_json(paths.study_dir(name) / "execution.json")
    info = info if isinstance(info, dict) else {}
    tracking = (info.get("definition") or {}).get("tracking") or {}
    experiment = tracking.get("experiment") or info.get("study") or name
    if tracking.get("uri"):
        return Recorded(tracking["uri"], experiment, None)
    return Recorded(paths.mlflow_uri(), experiment, paths.artifacts_dir() / experiment)


def known(command: str, name: str) -> Path:
    """The folder of an execution of the state folder; StudyError where there is none."""
    folder = paths.study_dir(name)
    if not (folder / "search.journal").exists():
        raise StudyError([executions.unknown(name, executions.local(), command)])
    return folder


def free(command: str, name: str) -> Path:
    """The folder for an execution of this name; StudyError where there is one."""
    folder = paths.study_dir(name)
    if folder.exists():
        rule, fix = "is an execution that is there already", "choose another name with --name"
        raise StudyError([Problem(Place(command), rule, fix, "name", name)])
    return folder


def rename(old: str, new: str) -> int:
    """Give an execution another name, in MLflow too; returns how many runs it has there.

    MLflow first: what is interrupted is finished by the same call.
    """
    folder, target = known("rename", old), free("rename", new)
    with lock.held(folder, f"rename {old}"):
        runs = holdings.rename(recorded(old).uri, old, new)
        rewriting.rewrite(folder / "search.journal", old, new)
        info = files.read_json(folder / "execution.json")
        if isinstance(info, dict):
            files.write(folder / "execution.json", json.dumps({**info, "name": new}))
        for stale in ("summary.json", "report.html", "report.stamp"):  # they show the old name
            (folder / stale).unlink(missing_ok=True)
        folder.rename(target)
    return runs


def delete(name: str, mlflow: bool = True) -> int:
    """Remove an execution from the state folder and, with mlflow, its runs; returns how many they were.

    MLflow first: where that cannot be reached, nothing is deleted.
    """
    folder = known("delete", name)
    with lock.held(folder, f"delete {name}"):
        place = recorded(name)
        runs = holdings.remove(place.uri, name, place.artifacts) if mlflow else 0
        # Renamed first: half a folder must not look like an execution.
        grave = folder.with_name(f".deleted-{name[:80]}")
        shutil.rmtree(grave, ignore_errors=True)
        folder.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)
    return runs


@dataclass(frozen=True)
class Rules:
    """What is kept. older_than_days, keep (the newest so many), max_bytes (of all together): None without a
    limit; kinds: only these are ever chosen (complete, unfinished, night, small, ...), all where it is empty."""

    older_than_days: float | None = None
    keep: int | None = None
    max_bytes: float | None = None
    kinds: frozenset[str] = frozenset()


def chosen(entries: Sequence[Entry], rules: Rules, nights: set[str], now: float) -> list[Entry]:
    """The executions that the rules let go, the oldest first. What runs is never among them.

    entries: the newest first. Age and number each choose by themselves; then, the oldest first, as many more as
    the size asks for. Nights are left alone unless `night` is among the kinds: `nightly.keep` sees to them.
    """
    mine = [e for e in entries if e.status != "running" and _is_of(e, rules.kinds, nights)]
    gone = {
        entry.name
        for number, entry in enumerate(mine)
        if (rules.keep is not None and number >= rules.keep)
        or (
            rules.older_than_days is not None
            and now - (entry.changed or 0.0) > rules.older_than_days * DAY_S
        )
    }
    if rules.max_bytes is not None:
        left = sum(e.size or 0 for e in entries if e.name not in gone)
        for entry in reversed(mine):
            if left <= rules.max_bytes:
                break
            if entry.name not in gone:
                gone.add(entry.name)
                left -= entry.size or 0
    return [entry for entry in reversed(mine) if entry.name in gone]


def _is_of(entry: Entry, kinds: frozenset[str], nights: set[str]) -> bool:
    is_night = entry.name in nights
    if not kinds:
        return not is_night
    small = entry.name.endswith("-small") or entry.study.endswith("-small")
    if is_night:
        return "night" in kinds
    return entry.status in kinds or (small and "small" in kinds)
