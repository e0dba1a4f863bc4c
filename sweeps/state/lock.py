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
def held(folder: Path, purpose: str) -> Iterator[int]:
    """Hold `folder/lock` while the block runs; raises Busy at once if another process has it.

    The kernel frees the lock when its holder ends, however it ends, so a lock file that is left
    behind means nothing: there are no stale locks to remove by hand. What stands in it is for people.
    Gives the descriptor: a process that inherits it keeps the lock until it ends too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Never through a link: what stands in the file is overwritten.
    descriptor = os.open(
        folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(_who(descriptor, folder)) from None
        holder = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": time.time(),
            "purpose": purpose,
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _who(descriptor: int, folder: Path) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        process = f"process {int(holder['pid'])} on {str(holder['host'])[:80]}"
        if holder["host"] == platform.node() and not Path(f"/proc/{int(holder['pid'])}").exists():
            process = f"what {process} left behind when it ended"
        who = f"{process} has held it since {since} ({str(holder['purpose'])[:200]})"
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        who = "another process holds it"
    fix = "wait for it, end it, or start another execution with --name"
    return f"{folder.name} is being worked on: {who}\n    {fix}"
