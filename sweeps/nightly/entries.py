"""What became of each night: one small JSON file a night, kept for good.

An entry is written before anything is started, so that a night that died is found by the next one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.state import paths

FORMAT = 1
RUNNING, DONE, FAILED, INTERRUPTED, MISSED = "running", "done", "failed", "interrupted", "missed"
UNFINISHED = (RUNNING, INTERRUPTED)

Clock = Callable[[], dt.datetime]


@dataclass
class Entry:
    """One night of one study. slot, started, ended: ISO 8601 with offset.

    state: running, done, failed, interrupted or missed; code: the exit code it led to; trials: finished
    and planned; judgement: what moved (see judgement.Judgement.entry); why: of what is not plainly done.
    """

    study: str
    night: str
    slot: str
    state: str = RUNNING
    code: int | None = None
    started: str | None = None
    ended: str | None = None
    attempts: int = 0
    trials: tuple[int, int | None] = (0, None)
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    why: str = ""
    judgement: dict[str, Any] = field(default_factory=dict)
    measures: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # the summary, headline first
    address: str | None = None
    notified: str = ""
    recorded: bool = False
    pruned: bool = False
    owner: str = ""
    host: str = ""

    @property
    def at(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.slot)

    @property
    def compares(self) -> bool:
        """Whether later nights are compared with it."""
        return self.state == DONE and bool(self.measures)

    def write(self) -> None:
        path = _folder(self.study) / f"{self.night}.json"
        files.write(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1))


def home() -> Path:
    """Everything of the nights but their executions: entries, logs, trends, the lock."""
    return paths.home() / "nightly"


def log_path(night: str) -> Path:
    """What a night's run and its comparison said."""
    return home() / "logs" / f"{night}.log"


def trend_path(study: str) -> Path:
    return home() / "trends" / f"{study}.png"


def of_study(study: str) -> list[Entry]:
    """The nights of a study, the oldest first; files that cannot be read are left out."""
    known = {f.name for f in fields(Entry)}
    found = []
    for path in _folder(study).glob("*.json"):
        said = files.read_json(path)
        if isinstance(said, dict) and {"study", "night", "slot"} <= said.keys():
            found.append(Entry(**{k: v for k, v in said.items() if k in known}))
    return sorted(found, key=lambda entry: entry.at)


def studies() -> list[str]:
    """The studies that have had a night here."""
    return sorted(path.name for path in (home() / "history").glob("*") if path.is_dir())


def nights() -> set[str]:
    """The names of all nights of all studies."""
    return {path.stem for path in (home() / "history").glob("*/*.json")}


def since(study: str, now: dt.datetime) -> dt.datetime:
    """When the timetable was first asked for this study; slots before that are nobody's fault."""
    path = home() / "since" / f"{study}.json"
    said = files.read_json(path)
    if not isinstance(said, dict) or "since" not in said:
        files.write(path, json.dumps({"since": now.isoformat()}))
        return now
    return dt.datetime.fromisoformat(said["since"])


def _folder(study: str) -> Path:
    return home() / "history" / study
