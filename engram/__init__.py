"""Engram: sweeps that show what a neural network memorizes, and why. This is the Python door.

    import engram

    study = engram.load("dropout", set={"training.epochs": 10})
    print(study.plan())             # what would run; starts nothing
    results = engram.run(study)     # runs it, or goes on where it stopped
    results.leaderboard()           # ranked, with intervals and ties
    results.trials                  # a pandas DataFrame, one row a trial

docs/python.md shows every function with its output. What is heavy is imported by the first call that needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas

    from engram.problems import StudyError
    from engram.results import Results
    from engram.session import RunError
    from engram.study import Study

_here = Path(__file__).resolve().parent
if (_here.parent / "orchestrate.py").is_file():  # a checkout: engram.models is the folder models/
    __path__.append(str(_here.parent))

__all__ = ["Results", "RunError", "Study", "StudyError", "list", "load", "open", "run"]


def load(study: str | Path | Mapping[str, Any], set: Mapping[str, Any] | None = None) -> Study:
    """The study in a file, of a shipped name, or in a dict with the keys of a study file.

    set: values put in place of those of the study, by dotted key: {"training.epochs": 10}.
    The data and a network of your own are looked at as well. Raises StudyError, which lists every problem
    at once.
    """
    from engram import study as studies

    return studies.load(study, set)


def run(
    study: Study | str | Path | Mapping[str, Any],
    name: str | None = None,
    address: str | None = None,
) -> Results:
    """Run a study to its end, or go on where it stopped; what is finished is never trained again.

    study: from `load`, or what `load` takes. name: of this execution; the study's name without it.
    address: of a Ray cluster (HOST:PORT of its head), or this machine; a Ray that you have initialised
    yourself is used as it is and left running. Progress is shown meanwhile, in Jupyter too.

    Returns the results, also where some trials failed (`results.failed` counts them). Raises RunError with
    the reason where there is nothing to return, StudyError where the study cannot be run as it is written,
    and KeyboardInterrupt where it was interrupted: run it again to go on. May be called from any thread; one
    study runs at a time in a process, and a second call waits for the first.
    """
    import warnings

    warnings.filterwarnings("ignore", message="IProgress not found")  # for bars that nobody sees
    from engram import session

    return session.run(study, name, address)


def open(name: str | None = None, tracking_uri: str | None = None) -> Results:
    """The results of an execution that was run here, or is still running; the newest without a name.

    tracking_uri: an MLflow server or store to read them from instead. StudyError where there are none.
    """
    from engram import results

    return results.of(name, tracking_uri)


def list() -> pandas.DataFrame:
    """The executions that are kept here, the newest first, one row each.

    Columns: name, study, question, status (running, complete, unfinished), trials (finished), planned (missing
    where only a budget ends the study), failed (of those finished), when (its last result, UTC),
    owner, size (bytes in the state folder).
    """
    from engram import session

    return session.executions_here()


_LATER = {
    "Results": "engram.results",
    "RunError": "engram.session",
    "Study": "engram.study",
    "StudyError": "engram.problems",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
