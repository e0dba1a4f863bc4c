"""Starts the real command line, does it harm, and looks at what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient

from tests.command_line import ROOT, engram

GRID = """\
name: grid
data: {train_size: 200}
model: {width: 16}
training: {epochs: 20, batch_size: 20, evaluate_every: 2}
replicas: {count: 3}
sweep:
  model.dropout: [0.0, 0.2, 0.5, 0.7]
  training.lr: [0.01, 0.003, 0.001]
  training.weight_decay: [0.0, 0.1]
checkpoint: {every_s: 0.1}
"""
DEADLINE_S = 900


def write(folder: Path, text: str = GRID, name: str = "study.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


class Run:
    """`orchestrate.py run` as a process of its own, in a session of its own."""

    def __init__(self, study: Path, home: Path, *words: str, **environment: str):
        self.home = home
        self.output = home.parent / f"output-{time.monotonic_ns()}.txt"
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "orchestrate.py"), "run", str(study), *words],
                env={**os.environ, "ENGRAM_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
                cwd=study.parent,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        return self.process.wait(timeout_s)

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def until(self, condition: Callable[[], bool], timeout_s: float = DEADLINE_S) -> None:
        """Wait until something has happened; an AssertionError with the output where it never does."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"it never happened:\n{self.text}"
            assert self.process.poll() is None, f"it ended before that:\n{self.text}"
            time.sleep(0.05)

    def until_logged(self, pattern: str, times: int = 1) -> None:
        self.until(lambda: len(re.findall(pattern, log(self.home))) >= times)


def log(home: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in home.glob("studies/*/run.log"))


def finish(
    study: Path, home: Path, *words: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run to the end, undisturbed."""
    done = engram(
        "run", str(study), *words, home=home, cwd=study.parent, timeout_s=DEADLINE_S, **environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def board(home: Path, name: str = "grid") -> list[dict]:
    done = engram("leaderboard", name, "--format", "json", home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_board(found: list[dict], expected: list[dict], tolerance: float = 1e-6) -> None:
    """Same trials in the same order, each measure equal within the tolerance, of values above 1 relative: float32 adds up
    a set in other pieces where a trial that lost its worker twice goes on with fewer replicas at a time."""
    assert [(e["trial"], e["status"], e["params"]) for e in found] == [
        (e["trial"], e["status"], e["params"]) for e in expected
    ]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["measures"].keys() == theirs["measures"].keys()
        for name, measure in theirs["measures"].items():
            for part in measure or ():
                one, other = ours["measures"][name][part], measure[part]
                assert (one is None) == (other is None)
                where = ours["trial"], name, part, one, other
                assert one is None or abs(one - other) <= tolerance * max(1.0, abs(other)), where


def trial_runs(uri: str, experiment: str = "grid") -> list:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs(
        [found.experiment_id], "tags.`engram.kind` = 'trial'", max_results=1000
    )
    return list(runs)


def store(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def assert_recorded_once(uri: str, trials: int, epochs: set[int], experiment: str = "grid") -> None:
    """One FINISHED run a trial, and every metric of every trial there exactly once."""
    client = MlflowClient(uri)
    runs = trial_runs(uri, experiment)
    assert Counter(r.data.tags["engram.trial"] for r in runs) == {str(n): 1 for n in range(trials)}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert {r.data.tags["engram.status"] for r in runs} <= {"completed", "diverged", "pruned"}
    for run in runs:
        assert {"final/test_error", "interval/test_error_low"} <= run.data.metrics.keys()
        for name in run.data.metrics:
            steps = [m.step for m in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), (
                f"{name} of trial {run.data.tags['engram.trial']}: {steps}"
            )
            if name in ("curve/train_error", "curve/test_error", "curve/validation_loss"):
                assert set(steps) == epochs


def assert_never_trained_after_commit(home: Path) -> None:
    committed: set[str] = set()
    for kind, number in re.findall(
        r"trial (?:(?=\d+ is committed)(?P<c>\d+)|(?=\d+ starts)(\d+))", log(home)
    ):
        if kind:
            committed.add(kind)
        else:
            assert number not in committed, f"trial {number} was trained again"


TRIALS = ("ray::CohortTrainable", "ray::ResourceTrainable")  # idle, busy


def workers(home: Path, names: str | tuple[str, ...] = TRIALS) -> list[psutil.Process]:
    """The Ray workers of a run that train: those with our state folder in their environment."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].startswith(names):
            try:
                if process.environ().get("ENGRAM_HOME") == str(home):
                    found.append(process)
            except psutil.Error:
                continue
    return found


def processes(home: Path) -> list[psutil.Process]:
    """Everything that runs with our state folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ENGRAM_HOME") == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return found
