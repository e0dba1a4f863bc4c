"""Keeps a timetable in the foreground: asks every half minute what is due, and runs it.

What is due is decided from entries on disk (due), so the service holds no state: ended, crashed, suspended
with its laptop or moved to another machine with its folder, it goes on where it was. Clock changes and clocks
that are set need no care either: there is no alarm to be wrong.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engram.sweeps.nightly import folders, timetable, training
from engram.sweeps.nightly.entries import Clock
from engram.sweeps.nightly.session import DONE, INTERRUPTED, Session, utc_now
from engram.sweeps.nightly.training import Train
from engram.sweeps.state import lock
from engram.sweeps.study.configuration import Study

TICK_S = 30.0
STOPPING = (signal.SIGINT, signal.SIGTERM)


def serve(
    studies: Sequence[Study],
    homes: Sequence[Path],
    say: Callable[[str], None],
    clock: Clock = utc_now,
    train: Train = training.train,
    stop: threading.Event | None = None,
    tick_s: float = TICK_S,
) -> int:
    """Run nights of these state folders as they come due until stop is set or a signal comes; 130 where one came amid a night."""
    stop = stop or threading.Event()
    with _stopped_by_signals(stop):
        _say_next(studies, say, clock)
        while not stop.is_set():
            try:
                code, ran = folders.tick(
                    homes, lambda: Session(studies, asked=False, clock=clock, train=train, say=say)
                )
            except lock.Busy:
                code, ran = DONE, False  # a night that somebody started by hand; what is due waits
            if code == INTERRUPTED:
                return INTERRUPTED
            if ran:
                _say_next(studies, say, clock)
            stop.wait(tick_s)
    return DONE


def _say_next(studies: Sequence[Study], say: Callable[[str], None], clock: Clock) -> None:
    for study in studies:
        coming = timetable.upcoming(study, clock())[0]
        say(f"{study.name}: next on {coming.at:%Y-%m-%d at %H:%M %Z}")


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """While a night trains, its run gets the signals; between nights they end the service."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
