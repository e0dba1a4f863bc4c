"""The Ray that trials run on: our own on this machine, which nobody else can reach, or a cluster at an address."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # stopping has its own, for SIGTERM too
os.environ.setdefault(
    "TUNE_DISABLE_STRICT_METRIC_CHECKING", "1"
)  # a trial that failed has no metrics
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # nobody restores from Tune's snapshots
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

import psutil
import ray

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.cluster import bundle, loopback, own_session
from engram.sweeps.cluster.address import IN_A_JOB
from engram.sweeps.state import lock
from engram.sweeps.study import own_code
from engram.sweeps.study.configuration import Study

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PAUSES_S = (1, 3, 10, 20, 30, 60)  # before Ray is started once more
# A socket's path has 107 characters, of which Ray takes /ray/session_DATE_TIME_PID/sockets/plasma_store and more.
LONGEST_FOLDER, SHORT_FOLDERS = 37, ("/tmp", "/var/tmp", "/dev/shm")
LONGEST_TURN_S = 180.0  # waited for other starts on this machine
log = logging.getLogger(__name__)
logging.getLogger("ray.widgets").setLevel(logging.WARNING)  # asks for ipywidgets in notebooks


@contextmanager
def connected(
    address: str | None, study: Study, say: Callable[[str], None] = program.warn
) -> Iterator[None]:
    """A Ray of our own, on loopback, or the cluster at an address that address.settled has found.

    say: takes lines for people, where starting takes long.
    """
    if ray.is_initialized():
        with _as_it_is(address, study):
            yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only, without the jobs API
        loopback.bind()
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        address = "local"  # never a cluster that happens to run here
        if (folder_of_sockets := _short_folder(say)) is not None:
            options["_temp_dir"] = folder_of_sockets
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in HANDLED}
    options["namespace"] = f"engram-{os.getpid()}-{uuid.uuid4().hex[:8]}"  # of this driver alone
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        if address != "local" and IN_A_JOB not in os.environ:
            # The other nodes share no file system with this one: the code goes to them.
            bundle.pack(study, Path(folder) / "bundle")
            options["runtime_env"] = {"working_dir": str(Path(folder) / "bundle")}
        with _importable(Path(folder), study):  # workers inherit it from the node that starts here
            _start(address, options, say)
        _take_back(handlers)
        try:
            yield
        finally:
            # A reference to an object that goes while Ray shuts down, in whatever thread, ends the process:
            # those that only cycles hold, as Tune's do, go now.
            gc.collect()
            ray.shutdown()


def _short_folder(say: Callable[[str], None]) -> str | None:
    """Where Ray's sockets go if the temporary folder's path is too long for them; None where it is not."""
    named = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDERS[0]
    if len(named) <= LONGEST_FOLDER:
        return None
    for short in SHORT_FOLDERS:
        if os.access(short, os.W_OK | os.X_OK):
            say(f"Ray's files are in {short}: the path of TMPDIR is too long for sockets")
            return f"{short}/ray-{os.getuid()}"
    rule = (
        f"is {len(named)} characters long, and a socket's path has room for {LONGEST_FOLDER} of it"
    )
    raise StudyError(
        [Problem(Place("run"), rule, "set TMPDIR to a shorter folder", "TMPDIR", named)]
    )


def _start(address: str, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Connect, or start a Ray of our own: again where it does not come up, which on a busy machine it may not.

    Ray gives a node some fifteen seconds for its helpers, whoever waits; a new start has as long again.
    """
    pauses = PAUSES_S if address == "local" else ()
    for attempt, pause in enumerate((*pauses, None), 1):
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        try:
            with contextlib.ExitStack() as turn:
                if (
                    address == "local"
                ):  # of several that start at once, none is ready within Ray's patience
                    path = Path(tempfile.gettempdir()) / f"engram-starts-{os.getuid()}.lock"
                    with contextlib.suppress(OSError):  # somebody else's file: nobody waits
                        turn.enter_context(lock.waited(path, LONGEST_TURN_S))
                turn.enter_context(own_session.processes())
                ray.init(address=address, **options)
            return
        except Exception as error:  # whatever part of it was too slow has an error of its own
            ray.shutdown()
            _end_half_started(before)
            if pause is None:
                raise
            log.warning("Ray did not start, attempt %d: %s", attempt, error)
            busy = f"{os.getloadavg()[0]:.0f} processes want {os.cpu_count()} CPUs"
            say(f"Ray has not started: the machine is busy ({busy}); trying again in {pause:g} s")
            time.sleep(pause)


def _end_half_started(before: set[int]) -> None:
    """End what a start that failed has left running: Ray forgets it, and it slows the next one down."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.pid not in before and any("ray" in word for word in child.cmdline()):
                child.kill()


@contextmanager
def _as_it_is(address: str | None, study: Study) -> Iterator[None]:
    """A Ray that somebody has initialised in this process: used, and left running."""
    own = ray.get_runtime_context().gcs_address
    if address not in (None, "local", "auto", own):
        rule = f"is not where this process is connected already: Ray is initialised, at {own}"
        fix = "call ray.shutdown() first, or leave the address out"
        raise StudyError([Problem(Place("run"), rule, fix, "address", address)])
    from engram.sweeps.cluster import tune_workers

    _quiet_tune()
    with tempfile.TemporaryDirectory(prefix="engram-") as folder, _importable(Path(folder), study):
        with tune_workers.importing(os.environ["PYTHONPATH"]):
            yield
        gc.collect()  # what Tune leaves to its cycles, while Ray still knows it


def _take_back(handlers: dict[int, Any]) -> None:
    """Ray has put its own in place: handlers that end the process at once, and a log of its own."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)
    logging.getLogger("ray").handlers = logging.getLogger("engram").handlers
    _quiet_tune()


def _quiet_tune() -> None:
    """It misses files of its own, a line for each trial: ours are the ledger."""
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)


@contextmanager
def _importable(folder: Path, study: Study) -> Iterator[None]:
    """Let workers import a person's own code, where the study names any, and `engram` with nothing beside it."""
    ours = folder / "path"
    ours.mkdir()
    (ours / "engram").symlink_to(program.PACKAGE)
    given = os.environ.get("PYTHONPATH")
    theirs = program.others_first(given.split(os.pathsep) if given else [])
    entries = [str(ours), *own_code.folders(study), *theirs]
    path = os.pathsep.join(dict.fromkeys(filter(None, entries)))
    with program.variable("PYTHONPATH", path):
        yield
