"""The program itself: its name as a person typed it, its exit codes, and how to start it once more."""

from __future__ import annotations

import sys
from pathlib import Path

# The contract of every command.
DONE = 0
FAILED = 1
BAD_INPUT = 2  # or wrong usage
SOME_FAILED = 3  # finished, but some trials failed
REGRESSION = 4  # of a night
INTERRUPTED = 130  # and resumable

PACKAGE = Path(__file__).resolve().parent
SCRIPT = PACKAGE.parent / "orchestrate.py"  # of a checkout


def is_checkout() -> bool:
    """Whether this is a checkout of the repository, rather than an installed package."""
    return SCRIPT.is_file()


def name() -> str:
    """What a person types before a command, as they did now: `python orchestrate.py` or `engram`."""
    return "python orchestrate.py" if Path(sys.argv[0]).name == SCRIPT.name else "engram"


def words() -> list[str]:
    """The words that start this very program in another process, in whatever folder."""
    if is_checkout():
        return [sys.executable, str(SCRIPT)]
    return [sys.executable, "-P", "-m", "engram"]  # -P: no folder's own engram.py is meant


def warn(line: str) -> None:
    """A warning for people, on standard error."""
    print(line, file=sys.stderr, flush=True)
