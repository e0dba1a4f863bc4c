"""Nights under a clock of our own: real studies, real training, real MLflow, one Ray for all of them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import psutil

from engram.sweeps.nightly import entries
from engram.sweeps.nightly.entries import Entry
from engram.sweeps.nightly.session import Session, hold
from engram.sweeps.nightly.training import Limits, options
from engram.sweeps.running import execution
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import Study
from tests.command_line import ROOT

BERLIN = ZoneInfo("Europe/Berlin")
STUDY = """\
name: watched
question: Does it still generalize as it did?
data: {{name: "npz:{data}", train_size: 300}}
model: {{width: 24}}
training: {{epochs: 12, batch_size: 30, evaluate_every: 6}}
replicas: {{count: 4}}
sweep: {{model.dropout: [0.0, 0.3]}}
measures: {{membership: false, predictions: false}}
checkpoint: {{final: false}}
resources: {{concurrent: 1}}
tracking: {{model: false}}
nightly:
  cron: "30 2 * * *"
  timezone: Europe/Berlin
  margin: 0.02
  notify: team
"""


def write_data(path: Path, wrong: float = 0.0, seed: int = 0) -> None:
    """Ten clusters in twenty dimensions, 700 to train and 2000 to test; `wrong`: share of training labels."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(10, 20))
    labels = random.integers(0, 10, 2700)
    inputs = (centres[labels] + 0.9 * random.normal(size=(2700, 20))).astype(np.float32)
    flipped = random.random(700) < wrong
    labels[:700][flipped] = (labels[:700][flipped] + random.integers(1, 10, flipped.sum())) % 10
    arrays = {"x": inputs[:700], "y": labels[:700]}
    temporary = path.with_name("new.npz")
    np.savez(temporary, **arrays, x_test=inputs[700:], y_test=labels[700:])
    os.replace(temporary, path)


def write_study(folder: Path, text: str = STUDY) -> Path:
    """The study and its data in a folder."""
    write_data(folder / "daily.npz")
    path = folder / "watched.yaml"
    path.write_text(text.format(data=folder / "daily.npz"))
    return path


@dataclass
class Clock:
    """A clock that stands where it is put."""

    now: dt.datetime

    def __call__(self) -> dt.datetime:
        return self.now

    def at(self, month: int, day: int, hour: int = 2, minute: int = 40) -> Clock:
        self.now = dt.datetime(2026, month, day, hour, minute, tzinfo=BERLIN)
        return self


def train(one: Study, night: str, limits: Limits, lock: int) -> int:
    """The real run, in this process."""
    assert one.path is not None
    return execution.run(loading.load(one.path, options(one, night, limits)), name=night)


@dataclass
class Weeks:
    """A study file, a clock, and what is said on the way."""

    path: Path
    clock: Clock
    said: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    amid: Callable[[str], None] = lambda night: None

    def tick(self, asked: bool = False) -> int:
        """What the timetable's tick does, or `nightly` where a person asks."""
        studies = [loading.load(self.path)]
        session = Session(studies, asked, clock=self.clock, train=self._train, say=self.said.append)
        return hold(session, wait=False)

    def _train(self, one: Study, night: str, limits: Limits, lock: int) -> int:
        self.trained.append(night)
        self.amid(night)
        return train(one, night, limits, lock)

    def entries(self) -> dict[str, Entry]:
        return {entry.night: entry for entry in entries.of_study("watched")}


SCRIPT = """\
import datetime, sys
from engram.sweeps.study import loading
from engram.sweeps.nightly.session import Session, hold
now = datetime.datetime.fromisoformat(sys.argv[2])
sys.exit(hold(Session([loading.load(sys.argv[1])], False, clock=lambda: now), False))
"""


class Process:
    """A tick as a process of its own, its run another, as cron starts them."""

    def __init__(self, path: Path, now: dt.datetime, home: Path):
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), now.isoformat()],
            env={
                **os.environ,
                "ENGRAM_HOME": str(home),
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
            },
            cwd=path.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def until(self, condition: Callable[[], bool], timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            assert self.process.poll() is None, "it ended before that"
            time.sleep(0.05)

    def until_committed(self, night: str) -> None:
        path = self.home / "studies" / night / "run.log"
        self.until(lambda: path.exists() and "is committed" in path.read_text(errors="replace"))

    def run(self) -> psutil.Process:
        """The run that it started."""
        found = [
            child
            for child in psutil.Process(self.process.pid).children()
            if "run" in child.cmdline()
        ]
        return found[0]
