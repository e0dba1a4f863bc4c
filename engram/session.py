"""Runs studies from Python, and lists what was run. A process runs one study at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from engram import program, results
from engram import study as studies
from engram.results import Results
from engram.sweeps.results import inventory
from engram.sweeps.running import execution
from engram.sweeps.study import configuration

# Ray, signal handlers and logs are the whole process's.
_ONE_AT_A_TIME = threading.Lock()
_LOGGERS = ("engram", "ray", "ray.tune.analysis", "py.warnings")
_COLUMNS = (
    "name",
    "study",
    "question",
    "status",
    "trials",
    "planned",
    "failed",
    "when",
    "owner",
    "size",
)
_FIELDS = {"when": "changed"}


class RunError(RuntimeError):
    """A run that ended without a result, and why. name: of the execution; code: what the command line exits with."""

    def __init__(self, name: str, code: int, reason: str) -> None:
        super().__init__(f"{name}: {reason}" if reason else name)
        self.name, self.code, self.reason = name, code, reason

    def __reduce__(self) -> tuple[type[RunError], tuple[str, int, str]]:
        return type(self), (self.name, self.code, self.reason)


def run(
    study: configuration.Study | str | Path | Mapping[str, Any],
    name: str | None,
    address: str | None,
) -> Results:
    """See `engram.run`."""
    asked = study if isinstance(study, configuration.Study) else studies.load(study)
    name = name or asked.request.name or asked.name
    with _ONE_AT_A_TIME, _logging_as_before():
        ended = execution.carry_out(asked, name=name, address=address)
    if ended.code == program.INTERRUPTED:
        raise KeyboardInterrupt(f"{name}: {ended.reason}; the same engram.run goes on from there")
    if ended.code not in (program.DONE, program.SOME_FAILED):
        raise RunError(name, ended.code, ended.reason)
    return results.of(name)


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """A run sends what is logged to a file of its own; afterwards it goes where the person had it go."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    raising = logging.raiseExceptions
    try:
        yield
    finally:
        for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)
        logging.raiseExceptions = raising


def executions_here() -> pd.DataFrame:
    """See `engram.list`."""
    rows = [[getattr(entry, _FIELDS.get(c, c)) for c in _COLUMNS] for entry in inventory.here()]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    for name in ("trials", "planned", "failed"):
        frame[name] = frame[name].astype("Int64")
    frame["when"] = pd.to_datetime(frame["when"], unit="s", utc=True).dt.floor("s")
    return frame
