"""A night's training: `run` as a process of its own, held to its budget, its output in one file.

A process of its own, so that one that the system kills for want of memory is a night that failed and is
reported. It inherits the lock of the nights: where this process is killed, the lock stays held until
the study has ended too.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from engram import files, program
from engram.sweeps.cluster import address as cluster_address
from engram.sweeps.nightly import entries, notify
from engram.sweeps.running.stopping import ENDED, Usage
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.request import Request

INTERRUPTED = 130
ATTEMPT = "--- "  # before the time of each attempt in a night's log
GRACE_S, KILL_S = 180.0, 120.0  # after its budget: until it is asked to stop, until it is ended
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What is left for a night: seconds and GPU-seconds, None without a limit; why: whose limit it is."""

    seconds: float | None = None
    gpu_seconds: float | None = None
    why: str = ""

    def within(self, seconds: float | None, why: str) -> Limits:
        """These limits, or fewer seconds for another reason."""
        if seconds is None or (self.seconds is not None and self.seconds <= seconds):
            return self
        return Limits(max(0.0, seconds), self.gpu_seconds, why)

    def less(self, seconds: float, gpu_seconds: float) -> Limits:
        """What is left after a night that took this much."""

        def left(limit: float | None, used: float) -> float | None:
            return None if limit is None else max(0.0, limit - used)

        return Limits(left(self.seconds, seconds), left(self.gpu_seconds, gpu_seconds), self.why)

    @property
    def spent(self) -> bool:
        return 0.0 in (self.seconds, self.gpu_seconds)


# Trains a study under the name of a night, within limits, holding the lock; returns run's exit code.
Train = Callable[[Study, str, Limits, int], int]


def on(address: str | None) -> Train:
    """Trains on the cluster at this address, or on this machine."""
    return partial(train, address=address)


def train(study: Study, night: str, limits: Limits, lock: int, address: str | None = None) -> int:
    """Run the study as a process and wait for it. lock: the descriptor that it inherits."""
    overrides = tuple(options(study, night, limits))
    request = Request(str(study.path), overrides, name=night)
    words = [*program.words(), "run", *request.words()]
    words += ["--address", address] if address else []
    path = entries.log_path(night)
    path.parent.mkdir(parents=True, exist_ok=True)
    (paths.study_dir(night) / ENDED).unlink(missing_ok=True)  # of an attempt before
    try:
        cluster_address.settled(address)
    except cluster_address.Unreachable as error:
        said = {"code": program.FAILED, "reason": str(error), "machine": True}
        files.write(paths.study_dir(night) / ENDED, json.dumps(said))
        return program.FAILED
    # Addresses are of no use to training, and workers would inherit them.
    environment = {k: v for k, v in os.environ.items() if k not in notify.VARIABLES}
    with open(path, "ab") as output:
        output.write(f"{ATTEMPT}{dt.datetime.now(dt.UTC).isoformat(timespec='seconds')}\n".encode())
        output.flush()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )
        with _passing_on(process):
            return _wait(process, limits.seconds)


def options(study: Study, night: str, limits: Limits) -> list[str]:
    """The study's --set options and what is left as its budget; hours count those used before a crash."""
    seconds, gpu_seconds = used(night)
    budget: dict[str, float | None] = {}
    for key, spent, left in (
        ("hours", seconds, limits.seconds),
        ("gpu_hours", gpu_seconds, limits.gpu_seconds),
    ):
        own = getattr(study.budget, key)
        if left is not None:
            # Never 0, which is no budget: a night that has nothing left is not started.
            hours = max(spent + left, 1.0) / 3600
            budget[key] = hours if own is None else min(own, hours)
    return [*study.overrides, *(f"budget.{key}={value:.6g}" for key, value in budget.items())]


def used(night: str) -> tuple[float, float]:
    """Seconds and GPU-seconds that a night's execution has taken so far."""
    usage = Usage(paths.study_dir(night))
    return usage.seconds, usage.gpu_seconds


def machine_trouble(night: str, code: int) -> str:
    """Why a run failed that another attempt may bring to its end: nothing about the study; empty for other ends."""
    said = files.read_json(paths.study_dir(night) / ENDED)
    if not isinstance(said, dict) or said.get("code") != code or not said.get("machine"):
        return ""
    return str(said.get("reason", "")).splitlines()[0]


def tail(night: str, lines: int = 12) -> str:
    """The end of what the last attempt of a night's run said."""
    with suppress(OSError):
        said = entries.log_path(night).read_text(errors="replace").rpartition(ATTEMPT)[2]
        return "\n".join(said.splitlines()[1:][-lines:])
    return ""


def _wait(process: subprocess.Popen, seconds: float | None) -> int:
    """Its exit code; asked to stop, then ended, where it does not heed its budget by itself."""
    pauses = [None if seconds is None else seconds + GRACE_S, KILL_S, None]
    for number, pause in zip((signal.SIGINT, signal.SIGKILL, None), pauses, strict=True):
        try:
            return process.wait(pause)
        except subprocess.TimeoutExpired:
            assert number is not None
            log.warning("it goes on after its budget: %s", number.name)
            process.send_signal(number)
    raise AssertionError("the last wait has no limit")


@contextmanager
def _passing_on(process: subprocess.Popen) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal are the run's: it saves what it has, and so ends the night."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, frame: Any) -> None:
        process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
