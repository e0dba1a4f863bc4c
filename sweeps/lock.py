"""One process at a time works on a study: an advisory lock that dies with its holder."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Busy(RuntimeError):
    """Somebody else holds the lock; the message says who, since when, and what to do."""


@contextmanager
def held(folder: Path, purpose: str) -> Iterator[None]:
    """Hold `folder/lock` while the block runs; raises Busy at once if another process has it.

    The kernel frees the lock when its holder ends, however it ends, so a lock file that is left
    behind means nothing: there are no stale locks to remove by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(_who(file, folder)) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": platform.node(), "since": time.time(), "purpose": purpose}, file)
        file.flush()
        yield
        file.truncate(0)


def _who(file, folder: Path) -> str:
    file.seek(0)
    try:
        holder = json.load(file)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        who = f"process {holder['pid']} on {holder['host']} has held it since {since} ({holder['purpose']})"
    except (ValueError, KeyError, TypeError, OverflowError):
        who = "another process holds it"
    return f"{folder.name} is being worked on: {who}\n    wait for it, end it, or start another execution with --name"
