"""One call of a person's training function, waited for from one report to the next.

The function runs in a thread of its own, and holds still in `report` until it is asked to go on: it has the
process's random numbers to itself, and a trial that is over can end it there.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from engram.models.learners.task import Stopped

END_S = 5.0  # that a stopped function may take to return


class Told(NamedTuple):
    """What a function reported after an epoch."""

    epoch: int
    values: dict[str, float]


class Run:
    """A call in progress. call(report): what is called; report(epoch, values) holds it until `go`."""

    def __init__(self, call: Callable[[Callable[[int, dict[str, float]], None]], Any]):
        self._call = call
        self._news: queue.Queue[Told | None] = queue.Queue()
        self._on = threading.Event()
        self._held = self._stopped = False
        self._last = -1
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = False
        self._thread = threading.Thread(target=self._work, daemon=True, name="training-function")
        self._thread.start()

    def _work(self) -> None:
        try:
            self.result = self._call(self._report)
        except BaseException as error:  # handed on to whoever waits
            self.error = error
        self._news.put(None)

    def _report(self, epoch: int, values: dict[str, float]) -> None:
        if threading.current_thread() is not self._thread:
            raise RuntimeError("task.report is for the thread that the training function runs in")
        if epoch <= self._last:
            raise ValueError(f"task.report: epoch {epoch} comes after epoch {self._last}")
        self._last = epoch
        self._held = True
        self._news.put(Told(epoch, values))
        self._on.wait()
        self._on.clear()
        if self._stopped:
            raise Stopped

    def go(self, wait_s: float | None) -> Told | None:
        """On to the next report, which is returned; None where the call has ended (see finished) or takes longer.

        Raises what the function raised."""
        if self._held and self._news.empty():
            self._held = False
            self._on.set()
        try:
            news = self._news.get(timeout=wait_s)
        except queue.Empty:
            return None
        if news is None:
            self.finished = True
            if self.error is not None:
                raise self.error
        return news

    def stop(self) -> None:
        """End the call at its next report; one that never reports goes on in the background until it returns."""
        self._stopped = True
        self._on.set()
        self._thread.join(END_S if self._held else 0)
