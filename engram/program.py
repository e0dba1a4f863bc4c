"""The program itself: its name as a person typed it, its exit codes, how it speaks, and how to start it once more."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# The contract of every command.
DONE = 0
FAILED = 1
BAD_INPUT = 2  # or wrong usage
SOME_FAILED = 3  # finished, but some trials failed
REGRESSION = 4  # of a night
INTERRUPTED = 130  # and resumable

PACKAGE = Path(__file__).resolve().parent
SCRIPT = PACKAGE.parent / "orchestrate.py"  # of a checkout
NARROWEST = 60  # columns of text that a terminal is taken to have
_FIELD = re.compile(
    r" *(?:\S+(?: \S+)* {2,})?"
)  # what stands before a text, as in "  trials     6"


def is_checkout() -> bool:
    """Whether this is a checkout of the repository, rather than an installed package."""
    return SCRIPT.is_file()


def name() -> str:
    """What a person types before a command: `engram`, or in a checkout `python orchestrate.py`, as they did now.

    A script or a notebook that uses a checkout is told where that is.
    """
    called = Path(sys.argv[0])
    if called.name == SCRIPT.name:
        return "python orchestrate.py"
    own = called.suffix == ".py" and called.name != "__main__.py"
    if is_checkout() and (own or called.name in ("", "-c")):
        return f"python {shlex.quote(str(SCRIPT))}"
    return "engram"


def words() -> list[str]:
    """The words that start this very program in another process, in whatever folder."""
    if is_checkout():
        return [sys.executable, str(SCRIPT)]
    return [sys.executable, "-P", "-m", "engram"]  # -P: no folder's own engram.py is meant


def others_first(path: list[str]) -> list[str]:
    """A path without a checkout's root, which holds `models`, `data` and `tests`: they may be a person's own names.

    `engram` has been found and needs it no more. It stays where the root itself is what a person works in.
    """
    root = SCRIPT.parent
    if not is_checkout() or Path.cwd() == root:
        return path
    return [entry for entry in path if not entry or Path(entry).resolve() != root]


def python(statement: str) -> list[str]:
    """The words that run a statement in another process, with this one's path and this very `engram`."""
    path, package = json.dumps(sys.path), json.dumps(str(PACKAGE / "__init__.py"))
    return [sys.executable, "-P", "-c", _ANOTHER.format(path=path, package=package) + statement]


_ANOTHER = """\
import importlib.util, sys
sys.path[:] = {path}
found = importlib.util.spec_from_file_location("engram", {package})
sys.modules["engram"] = module = importlib.util.module_from_spec(found)
found.loader.exec_module(module)
"""


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while, in this process and in those that it starts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def warn(line: str) -> None:
    """A warning for people, on standard error."""
    say(line, sys.stderr)


def say(text: str, file: TextIO | None = None) -> None:
    """Text for people, at once: on a terminal no word of it is broken, whatever else reads it gets whole lines."""
    file = file or sys.stdout
    width = width_of(file)
    print(fitted(text, width) if width else text, file=file, flush=True)


def width_of(file: TextIO) -> int | None:
    """Columns of text that a terminal has; None for whatever else is written to."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if file.isatty() else None


def fitted(text: str, width: int, hang: int = 2) -> str:
    """Lines of so many characters, broken between words; what goes on stands below its own text.

    Commands to copy stay whole, and so do a number and its interval or its per cent."""
    made = []
    for line in text.split("\n"):
        if len(line) <= width or line.lstrip().startswith(f"{name()} "):
            made.append(line)
            continue
        found = _FIELD.match(line)
        field, indent = found.end() if found else 0, len(line) - len(line.lstrip())
        told = textwrap.wrap(
            line.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%"),
            width,
            subsequent_indent=" " * (field if indent < field <= width // 2 else indent + hang),
            break_long_words=False,
            break_on_hyphens=False,
        )
        made += [part.replace("\u00a0", " ") for part in told]
    return "\n".join(made)
