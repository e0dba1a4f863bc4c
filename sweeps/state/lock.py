"""One process at a time works on a study: a lock that dies with its holder.

The kernel's own lock (flock) where the file system has it. Some network file systems have none, and say so
(ENOLCK, ENOTSUP): there a file that only one can create, with a heartbeat by which others see that its
holder lives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
BEAT_S = 5.0
STALE_S = 60.0  # a heartbeat as old as this is a dead one's
POLL_S = 0.2


class Busy(RuntimeError):
    """Somebody else holds the lock; the message says who, since when, and what to do."""


@contextmanager
def held(folder: Path, purpose: str) -> Iterator[int]:
    """Hold `folder/lock` while the block runs; raises Busy at once if another process has it.

    The kernel frees the lock when its holder ends, however it ends, so a lock file that is left
    behind means nothing: there are no stale locks to remove by hand. What stands in it is for people.
    Gives the descriptor: a process that inherits it keeps the lock until it ends too (not where the file
    system has no locks: there it ends with the process that took it, at the latest a minute later).
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _open(folder / "lock")
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lease = None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise Busy(_busy(_said(descriptor), folder)) from None
            lease = _lease(folder / "lock.held", purpose)
            if lease is None:
                raise Busy(_busy(_read(folder / "lock.held"), folder)) from None
        with lease or contextlib.nullcontext():
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _holder(purpose), 0)
            yield descriptor
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def waited(path: Path, at_most_s: float = math.inf) -> Iterator[None]:
    """Hold a lock file for a moment, waiting for it: for what two processes must not do at once.

    After at_most_s it goes on without: for what is only better done one at a time."""
    descriptor = _open(path)
    try:
        with _taken(descriptor, path, time.monotonic() + at_most_s) or contextlib.nullcontext():
            yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int, path: Path, deadline: float) -> _Lease | None:
    """Wait for a lock; the lease that stands for it where the file system has none."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            if (lease := _lease(path.with_name(f"{path.name}.held"), "")) is not None:
                return lease
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_S)


def holder(folder: Path) -> dict | None:
    """Who works on a study, by what stands in its lock: asking for the lock would be in their way; None: nobody.

    pid, host, since and purpose, where they are known.
    """
    for path in (folder / "lock", folder / "lock.held"):
        said = _read(path)
        if isinstance(said.get("pid"), int):
            here = said.get("host") == platform.node()
            if not here or Path(f"/proc/{said['pid']}").exists():
                return said
    return None


class _Lease:
    """A file that this process alone made, touched until it is given up."""

    def __init__(self, path: Path):
        self.path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="engram-lock", daemon=True)

    def __enter__(self) -> _Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _lease(path: Path, purpose: str) -> _Lease | None:
    """A lease on a path; None where somebody who lives has it."""
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            if not _dead(path):
                return None
            # Renamed first: of two who find it dead, one gets it, and neither takes the other's new one.
            grave = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, grave)
                grave.unlink(missing_ok=True)
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(_holder(purpose))
        return _Lease(path)
    return None


def _dead(path: Path) -> bool:
    """Whether the holder of a lease has ended: seen at once on its own host, by its heartbeat elsewhere."""
    said = _read(path)
    try:
        if said["host"] == platform.node() and not Path(f"/proc/{int(said['pid'])}").exists():
            return True
    except (KeyError, TypeError, ValueError):
        pass
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        probe.touch()  # the time of the file system, not of this machine
        return probe.stat().st_mtime - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _open(path: Path) -> int:
    # Never through a link: what stands in the file is overwritten.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def _holder(purpose: str) -> bytes:
    holder = {"pid": os.getpid(), "host": platform.node(), "since": time.time(), "purpose": purpose}
    return json.dumps(holder).encode()


def _read(path: Path) -> dict:
    try:
        return _parsed(path.read_bytes())
    except OSError:
        return {}


def _said(descriptor: int) -> dict:
    try:
        return _parsed(os.pread(descriptor, 4096, 0))
    except OSError:
        return {}


def _parsed(text: bytes) -> dict:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _busy(holder: dict, folder: Path) -> str:
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
        process = f"process {int(holder['pid'])} on {str(holder['host'])[:80]}"
        if holder["host"] == platform.node() and not Path(f"/proc/{int(holder['pid'])}").exists():
            process = f"what {process} left behind when it ended"
        who = f"{process} has held it since {since} ({str(holder['purpose'])[:200]})"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        who = "another process holds it"
    fix = "wait for it, end it, or start another execution with --name"
    return f"{folder.name} is being worked on: {who}\n    {fix}"
