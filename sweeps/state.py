"""Where things are kept: one folder, ENGRAM_HOME or ./runs, to back up or delete as a whole.

Only names paths; nothing is created here.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from sweeps.problems import Place, Problem, StudyError
from sweeps.values import study_name


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
