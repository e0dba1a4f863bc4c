"""Several state folders under one timetable: what is due in each, one night after the other on a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from engram.sweeps.nightly.session import INTERRUPTED, Session, locked, log_to, worst
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.state import paths


def tick(folders: Sequence[Path], session: Callable[[], Session]) -> tuple[int, bool]:
    """Run what is due now in each folder; the exit code, and whether anything was.

    All are locked before the first night, so that none starts beside one of another folder.
    lock.Busy where a night runs in any of them.
    """
    codes, ran = set(), False
    with ExitStack() as held:
        locks = []
        for folder in folders:
            with paths.at(folder):
                locks.append(held.enter_context(locked(session().studies)))
        for folder, lock in zip(folders, locks, strict=True):
            with paths.at(folder):
                here = session()
                log_to(Secrets(*here.studies))
                code = here.run(lock)
            codes.add(code)
            ran = ran or bool(here.ran)
            if code == INTERRUPTED:
                break
    return worst(codes), ran
