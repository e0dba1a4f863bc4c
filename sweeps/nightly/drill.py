"""A night's drill for whoever installs Engram: faults made on purpose, with a study of two minutes, and what held.

Everything happens in a folder of its own, on the file system of the state folder, and is gone afterwards; only the
test message leaves it.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engram import program
from engram.sweeps.nightly import notify
from engram.sweeps.search.committed import read_records
from engram.sweeps.state import lock, paths
from engram.sweeps.tracking import store

STUDY = """\
name: drill
question: Does what was finished stay finished?
data: {{train_size: 200}}
model: {{width: 16}}
training: {{epochs: 20, batch_size: 20, evaluate_every: 2}}
replicas: {{count: 3}}
sweep: {{model.dropout: [0.0, 0.2, 0.5, 0.7], training.lr: [0.01, 0.003]}}
checkpoint: {{every_s: 0.2}}
resources: {{gpu: 0, concurrent: 2}}
tracking: {{uri: "{uri}", model: false, system_metrics: false}}
"""
TRIALS = 8
PATIENCE_S = 600.0
END_S = 60.0


@dataclass(frozen=True)
class Step:
    """One thing that was tried. held: None where it could not be tried."""

    held: bool | None
    what: str
    said: str


@dataclass
class _Drill:
    home: Path
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def study(self) -> Path:
        return self.home / "drill.yaml"

    @property
    def records(self) -> int:
        return len(read_records(self.home / "runs/studies/drill/search.journal", "drill"))

    def start(self, *words: str, log: str) -> subprocess.Popen:
        with open(self.home / log, "ab") as out:
            process = subprocess.Popen(
                [*program.words(), *words],
                env={**os.environ, "ENGRAM_HOME": str(self.home / "runs")},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self) -> subprocess.Popen:
        return self.start("run", str(self.study), log="run.txt")

    def until(self, condition: Callable[[], bool], of: subprocess.Popen) -> None:
        """Wait for something that a process brings about; _NotHeld where it never comes."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if of.poll() is not None:
                raise _NotHeld(f"it ended with code {of.returncode}: {self.said()}")
            if time.monotonic() > deadline:
                raise _NotHeld(f"nothing came of it in {PATIENCE_S:.0f} s: {self.said()}")
            time.sleep(0.1)

    def said(self) -> str:
        with suppress(OSError):
            return " / ".join((self.home / "run.txt").read_text(errors="replace").splitlines()[-4:])
        return ""

    def end(self) -> None:
        """End what still runs: in order first, because a server that `ui` started is in a session of its own."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, how)
            for process in self.processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(END_S)


class _NotHeld(RuntimeError):
    """What should have held did not, and how."""


def drill(tag: str = notify.EVERYBODY) -> Iterator[Step]:
    """Each step as it ends. tag: of those who get the test message."""
    paths.home().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".drill-", dir=paths.home()))
    made = _Drill(folder)
    try:
        yield from _steps(made)
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)
    yield _message(tag)


def _steps(made: _Drill) -> Iterator[Step]:
    yield _writes(made.home)
    port = _free_port()
    uri = f"http://127.0.0.1:{port}"
    made.study.write_text(STUDY.format(uri=uri))
    for what, step in (
        ("a tracking server starts", lambda: _serve(made, port)),
        ("a study whose driver is killed goes on", lambda: _killed(made)),
        ("a signal to its whole process group saves what runs", lambda: _signalled(made)),
        ("the tracking server stops while it trains", lambda: _without_server(made)),
        ("the server comes back, and gets everything once", lambda: _recorded(made, port, uri)),
        ("no process is left behind", lambda: _nothing_left(made)),
    ):
        try:
            yield Step(True, what, step())
        except _NotHeld as error:
            yield Step(False, what, str(error))
            return


def _writes(home: Path) -> Step:
    began = time.monotonic()
    with open(home / "written", "wb") as file:
        file.write(secrets.token_bytes(2**20))
        file.flush()
        os.fsync(file.fileno())
    took = time.monotonic() - began
    with lock.held(home, "a drill"):
        by_lease = (home / "lock.held").exists()
    how = "no flock here: a file with a heartbeat takes its place" if by_lease else "flock works"
    return Step(
        True, "the state folder is written", f"1 MiB to the disk in {1000 * took:.0f} ms; {how}"
    )


def _serve(made: _Drill, port: int) -> str:
    began = time.monotonic()
    database = paths.sqlite_uri(made.home / "server.db")
    words = ["--port", str(port), "--backend-store-uri", database]
    server = made.start("ui", *words, "--artifacts", str(made.home / "files"), log="server.txt")
    made.until(lambda: _answers(port), server)
    return f"after {time.monotonic() - began:.0f} s"


def _killed(made: _Drill) -> str:
    run = made.run()
    made.until(lambda: made.records >= 2, run)
    run.kill()
    run.wait()
    before = made.records
    run = made.run()
    made.until(lambda: made.records > before, run)
    return f"with {before} of {TRIALS} trials finished; none of them was trained again"


def _signalled(made: _Drill) -> str:
    run = made.processes[-1]
    if run.poll() is not None:
        return "the study was done before it could be tried"
    began = time.monotonic()
    os.killpg(run.pid, signal.SIGTERM)
    code = _wait(made, run)
    if code not in (program.INTERRUPTED, program.DONE):
        raise _NotHeld(f"exit code {code}: {made.said()}")
    return (
        f"exit code {code} after {time.monotonic() - began:.0f} s, {made.records} trials finished"
    )


def _without_server(made: _Drill) -> str:
    server = made.processes[0]
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(60)
    code = _wait(made, made.run())
    if made.records != TRIALS:
        raise _NotHeld(f"exit code {code}, {made.records} of {TRIALS} trials: {made.said()}")
    return f"{TRIALS} of {TRIALS} trials finished without it"


def _recorded(made: _Drill, port: int, uri: str) -> str:
    _serve(made, port)
    code = _wait(made, made.run())
    if code != program.DONE:
        raise _NotHeld(f"exit code {code}: {made.said()}")
    ((_, parent),) = list(store.studies(uri))
    client = store.connect(uri)
    query = "tags.`engram.kind` = 'trial'"
    runs = client.search_runs([parent.info.experiment_id], query, max_results=100)
    found = Counter(run.data.tags["engram.trial"] for run in runs)
    wrong = [run.info.run_id for run in runs if run.info.status != "FINISHED"]
    if found != Counter(str(number) for number in range(TRIALS)) or wrong:
        raise _NotHeld(f"runs of trials: {dict(found)}; not FINISHED: {wrong}")
    return f"{TRIALS} runs of {TRIALS} trials, each once and FINISHED"


def _nothing_left(made: _Drill) -> str:
    import psutil

    made.end()
    home, deadline = str(made.home / "runs"), time.monotonic() + 150
    while True:
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("ENGRAM_HOME") == home:
                    left.append(process.pid)
        if not left:
            return "all have ended"
        if time.monotonic() > deadline:
            raise _NotHeld(f"still there: {left}")
        time.sleep(0.5)


def _message(tag: str) -> Step:
    what = "a test message arrives"
    now = dt.datetime.now().astimezone()
    text = f"A drill at {now:%Y-%m-%d %H:%M}. Nothing is wrong."
    sent = notify.send(tag, "Engram: a test message", text, "info")
    if sent.words.startswith("nobody: no address"):
        return Step(None, what, sent.words)
    return Step(not sent.missing, what, sent.words)


def _wait(made: _Drill, run: subprocess.Popen) -> int:
    try:
        return run.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise _NotHeld(f"it does not end: {made.said()}") from None


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
            return True
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
