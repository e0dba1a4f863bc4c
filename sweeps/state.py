"""Where things are kept: one folder, ENGRAM_HOME or ./runs, to back up or delete as a whole.

Names paths, and writes files whole or not at all; nothing is created by asking.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from sweeps.definition.problems import Place, Problem, StudyError
from sweeps.definition.values import study_name

FORMAT = 1  # of a study's folder; raised when an older program could misread it


def home() -> Path:
    """The state folder, absolute. A relative one is fixed where the process first asked."""
    return _absolute(os.environ.get("ENGRAM_HOME") or "runs")


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


def mlflow_uri() -> str:
    """The embedded MLflow store."""
    return f"sqlite:///{home() / 'mlflow.db'}"


def artifacts_dir() -> Path:
    """Predictions, figures, tables and reports."""
    return home() / "artifacts"


def cache_dir() -> Path:
    """What can be made or fetched again: datasets above all."""
    return home() / "cache"


def log_file() -> Path:
    """Where an unexpected failure leaves its traceback."""
    return home() / "engram.log"


def write_text(path: Path, text: str) -> Path:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)
    return path


def read_json(path: Path) -> Any:
    """What a JSON file says; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def check_version(folder: Path) -> None:
    """Mark a study's folder as written by this version, or refuse one written by another."""
    path = folder / "version.json"
    said = read_json(path)
    if said is None:  # not there, or no longer readable: the ledger has a version of its own
        write_text(path, json.dumps({"format": FORMAT}))
        return
    found = said.get("format") if isinstance(said, dict) else None
    if found != FORMAT:
        rule = f"the state of this study has format {found}, and this version reads {FORMAT}"
        fix = "use the version that wrote it, run under another name (--name N), or move the folder away"
        raise StudyError([Problem(Place(str(path)), rule, fix)])
