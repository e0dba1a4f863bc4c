"""Why a study stops before its end: a signal, a spent budget, a full disk, a failed trial; and what has been used.

Knows no Ray.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engram import files, program
from engram.sweeps.running.events import Listener
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import BudgetConfig

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_WORDS = ("No space left on device", "disk is full", "Disk quota exceeded", "File too large")
USAGE_FORMAT = 1
ENDED = "ended.json"  # how the last `run` of an execution ended
USAGE_EVERY_S = 10.0
log = logging.getLogger(__name__)


class Stop:
    """A request to stop, the first of them: why, in words, and the exit code it leads to.

    now: nothing can be saved any more either.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.code = program.DONE
        self.now = False

    @property
    def requested(self) -> bool:
        return self.reason is not None

    def ask(self, reason: str, code: int) -> None:
        if self.reason is None:
            self.reason, self.code = reason, code
            log.info("stopping: %s", reason)

    @contextmanager
    def when_full(self) -> Iterator[None]:
        """Turn a disk that fills up meanwhile into a stop: nothing can be promised any more."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.now = True
            self.ask(full(error), program.FAILED)


def full(error: BaseException | str) -> str:
    """What is said about a full disk."""
    return f"the disk is full ({error})"


def is_full(error: BaseException | str) -> bool:
    """Whether an error, or the text of one that came from elsewhere, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error) for words in FULL_WORDS)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal ask for a clean stop; a second one stops at once."""

    def ask(number: int, frame: Any) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        program.warn(
            "stopping: finished trials are kept, running ones are saved; Ctrl-C again quits at once"
        )
        stop.ask(f"{signal.Signals(number).name} received", program.INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Usage:
    """Wall-clock and GPU seconds that a study has taken, over all its executions.

    Counted on a clock that never goes back, and kept in `usage.json` every few seconds: what a crash
    loses of it is seconds.
    """

    def __init__(self, folder: Path):
        self.path = folder / "usage.json"
        self.seconds, self.gpu_seconds = self._read()
        self._last = self._written = time.monotonic()

    def tick(self, gpus: float) -> None:
        """Time has passed, with this many GPUs in use."""
        now = time.monotonic()
        self.seconds += now - self._last
        self.gpu_seconds += (now - self._last) * gpus
        self._last = now
        if now - self._written >= USAGE_EVERY_S:
            self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        used = {"format": USAGE_FORMAT, "seconds": self.seconds, "gpu_seconds": self.gpu_seconds}
        files.write(self.path, json.dumps(used))

    def spent(self, budget: BudgetConfig) -> str | None:
        """Which part of a budget is used up, in words; None while there is some left."""
        for name, used, limit in (
            ("hours", self.seconds / 3600, budget.hours),
            ("gpu_hours", self.gpu_seconds / 3600, budget.gpu_hours),
        ):
            if limit is not None and used >= limit:
                return f"the budget is spent: budget.{name} is {limit:g}, and {used:.4g} are used"
        return None

    def _read(self) -> tuple[float, float]:
        try:
            used = json.loads(self.path.read_text())
            found = float(used["seconds"]), float(used["gpu_seconds"])
        except FileNotFoundError:
            return 0.0, 0.0
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            log.warning("%s cannot be read: hours are counted from zero", self.path)
            return 0.0, 0.0
        good = all(math.isfinite(seconds) and seconds >= 0 for seconds in found)
        return found if good else (0.0, 0.0)


class Limits(Listener):
    """Counts what the execution uses, and asks it to stop when its budget is spent. finished(): nothing is left to do."""

    def __init__(self, study: Study, usage: Usage, stop: Stop, finished: Callable[[], bool]):
        self.study, self.usage, self.stop, self.finished = study, usage, stop, finished

    def shared(self, study: Study) -> None:
        self.study = study

    def ticked(self, running: int) -> None:
        gpu, workers = self.study.resources.gpu, self.study.resources.workers
        several = 1 if workers == "auto" else workers
        self.usage.tick(0.0 if gpu == "auto" else gpu * several * running)  # auto: nothing runs yet
        spent = self.usage.spent(self.study.budget)
        if spent and not self.finished():
            self.stop.ask(spent, program.DONE)
