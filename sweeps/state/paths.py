"""Where things are kept: one folder, ENGRAM_HOME or ./runs, to back up or delete as a whole.

Nothing is created by asking.
"""

from __future__ import annotations

import functools
import json
import os
from contextlib import AbstractContextManager
from pathlib import Path

from engram import files, program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.state.names import study_name

FORMAT = 1  # of a study's folder; raised when an older program could misread it


def home() -> Path:
    """The state folder, absolute. A relative one is fixed where the process first asked."""
    return _absolute(os.environ.get("ENGRAM_HOME") or "runs")


def at(folder: Path) -> AbstractContextManager[None]:
    """Another state folder for a while, in this process and in those that it starts."""
    return program.variable("ENGRAM_HOME", str(folder))


@functools.cache
def _absolute(folder: str) -> Path:
    # Ray changes the working directory of its workers: a path must not follow it.
    return Path(folder).expanduser().resolve()


def study_dir(name: str) -> Path:
    """The folder of one study's ledger and progress; refuses a name that would leave the home."""
    wrong = study_name(name)
    if wrong:
        raise StudyError([Problem(Place("study"), *wrong, "name", name)])
    return home() / "studies" / name


def arrays_file(folder: Path, trial: int) -> Path:
    """The arrays of a trial on their way to the store, in the folder of its study."""
    return folder / "outgoing" / f"trial-{trial}" / "arrays.npz"


def mlflow_uri() -> str:
    """The embedded MLflow store."""
    return sqlite_uri(home() / "mlflow.db")


def sqlite_uri(path: Path) -> str:
    """The address of an SQLite file, with the three characters quoted that mean something else there."""
    quoted = str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    # With its driver named: MLflow makes the folder of a plain address as it is written.
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


def artifacts_dir() -> Path:
    """Predictions, figures, tables and reports."""
    return home() / "artifacts"


def cache_dir() -> Path:
    """What can be made or fetched again: datasets above all."""
    return home() / "cache"


def log_file() -> Path:
    """Where an unexpected failure leaves its traceback."""
    return home() / "engram.log"


def check_version(folder: Path) -> None:
    """Mark a study's folder as written by this version, or refuse one written by another."""
    path = folder / "version.json"
    said = files.read_json(path)
    if said is None:  # not there, or no longer readable: the ledger has a version of its own
        files.write(path, json.dumps({"format": FORMAT}))
        return
    found = said.get("format") if isinstance(said, dict) else None
    if found != FORMAT:
        rule = f"the state of this study has format {found}, and this version reads {FORMAT}"
        fix = "use the version that wrote it, run under another name (--name N), or move the folder away"
        raise StudyError([Problem(Place(str(path)), rule, fix)])
