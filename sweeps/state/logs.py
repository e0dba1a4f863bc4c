"""Log files that do not grow without end, as text or, with ENGRAM_LOG_FORMAT=json, one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "ENGRAM_LOG_FORMAT"
LARGEST, KEPT = 10 * 2**20, 3  # bytes of a log, and how many older ones stay beside it (.1, .2, .3)
PATTERN = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def handler(path: Path, hidden: Callable[[str], str]) -> logging.Handler:
    """Appends to a log. hidden(text): the text as it may be shown."""
    from logging.handlers import RotatingFileHandler  # with sockets and queues: not for --help

    path.parent.mkdir(parents=True, exist_ok=True)
    found = RotatingFileHandler(path, maxBytes=LARGEST, backupCount=KEPT)
    found.setFormatter(_Lines(hidden, os.environ.get(VARIABLE) == "json"))
    return found


def rotate(path: Path) -> None:
    """Set a log aside that other programs append to, where it has grown large."""
    with contextlib.suppress(OSError):
        if path.stat().st_size < LARGEST:
            return
        for number in range(KEPT, 0, -1):
            before = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if before.exists():
                before.replace(path.with_name(f"{path.name}.{number}"))


def to(path: Path, hidden: Callable[[str], str], *names: str) -> None:
    """Send what these loggers say to a file and nowhere else: people see only what they can act on."""
    into = handler(path, hidden)
    logging.raiseExceptions = False  # a log that cannot be written must not print tracebacks
    for name in names:
        logging.getLogger(name).handlers = [into]
        logging.getLogger(name).propagate = False
    logging.getLogger("engram").setLevel(logging.INFO)


@contextlib.contextmanager
def libraries_quiet() -> Iterator[None]:
    """Warnings of libraries go to the log: a user can do nothing about them."""
    import warnings

    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = logging.getLogger("engram").handlers
    logging.getLogger("py.warnings").propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        logging.captureWarnings(False)
        sys.stdout.flush()


class _Lines(logging.Formatter):
    def __init__(self, hidden: Callable[[str], str], as_json: bool):
        super().__init__(PATTERN)
        self.hidden, self.as_json = hidden, as_json

    def format(self, record: logging.LogRecord) -> str:
        if not self.as_json:
            return self.hidden(super().format(record))
        said = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.hidden(record.getMessage()),
        }
        if record.exc_info:
            said["traceback"] = self.hidden(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)
