"""One trial of 64 replicas of a recurrent network, by one worker and by two: the trial from its start to its record.

The two take turns; each is a whole program with a state folder of its own, and its times come from the study's log.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from benchmarks.results import Result, say, write

ROOT = Path(__file__).resolve().parent.parent
WORKERS = (1, 2)
STUDY = """\
name: shards
question: How long does one trial take?
data: {name: mnist1d, train_size: 1000}
model: {family: lstm, width: 32, depth: 1}
training: {epochs: 10, batch_size: 50, evaluate_every: 5}
replicas: {count: 64}
"""
SPAN = re.compile(r"^(\S+ \S+) INFO \S+ trial 0 (starts|is committed)", re.M)


def main(repeats: int = 3, epochs: int = 10) -> None:
    times: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            for workers in WORKERS:
                folder = Path(scratch) / f"{workers}-{repeat}"
                folder.mkdir()
                times.setdefault(workers, []).append(_time(folder, workers, epochs))
                say(f"shards: {workers} workers: {times[workers][-1]:.1f} s")
    write("shards", [Result({"workers": w}, "s", tuple(each)) for w, each in times.items()])


def _time(folder: Path, workers: int, epochs: int) -> float:
    """Seconds from the trial's start to its record: starting the other worker, evaluations and measures included."""
    study = folder / "shards.yaml"
    study.write_text(STUDY)
    sets = [f"resources.workers={workers}", f"training.epochs={epochs}"]
    words = [word for each in sets for word in ("--set", each)]
    done = subprocess.run(
        [sys.executable, "orchestrate.py", "run", str(study), *words],
        cwd=ROOT,
        env={**os.environ, "ENGRAM_HOME": str(folder / "runs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    log = folder / "runs" / "studies" / "shards" / "run.log"
    began, ended = (
        datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f") for at, _ in SPAN.findall(log.read_text())
    )
    return (ended - began).total_seconds()
