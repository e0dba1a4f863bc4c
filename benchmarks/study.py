"""A study of 8 configurations x 8 replicas, by Engram and by what people would use instead, side by side.

Every way trains the same networks (MNIST-1D, batch 100, 20 epochs of 4,000 examples) for as many steps,
evaluates after every epoch, and is timed from the start of its program to the end of it. Only Engram's time
contains measures with intervals, leaderboards, a report and the best model; the time at which its leaderboards
stand is told beside it, because the others have nothing after that. Ways take turns; the stock recipe is
measured on a quarter of the study, its time per trial scaled, because it takes minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import plain
from benchmarks.results import Result, say, write

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("feedforward", "convolutional", "lstm")
MODEL = {
    "feedforward": "family: feedforward, width: 100, depth: 2",
    "convolutional": "family: convolutional, width: 25, depth: 3",
    "lstm": "family: lstm, width: 16, depth: 1",
}
TRIALS = len(plain.CONFIGURATIONS) * plain.REPLICAS
REPEATS = {"feedforward": 2, "convolutional": 2, "lstm": 1}  # which takes minutes for every way
SCALED = ("stock", "shared")  # measured once, on a quarter
WAYS = ("engram", "bare", "optuna", *SCALED)
POOL, TEST = 7000, 1000
STUDY = """\
name: study
question: How long does it take?
data: {{name: "npz:{data}", train_size: 4000, validation: 1000}}
model: {{{model}}}
training: {{epochs: 20, batch_size: 100}}
replicas: {{count: 8}}
sweep: {{training.lr: [0.001, 0.003, 0.01, 0.03], model.dropout: [0.0, 0.5]}}
"""


def main(families: tuple[str, ...] = FAMILIES, ways: tuple[str, ...] = WAYS) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = _data(Path(scratch))
        for family in families:
            times: dict[str, list[float]] = {}
            tracking: list[float] = []
            for repeat in range(REPEATS[family]):
                for way in ways:
                    if way in SCALED and repeat:
                        continue
                    folder = Path(scratch) / f"{family}-{way}-{repeat}"
                    folder.mkdir()
                    took, stood = _time(way, family, data, folder)
                    times.setdefault(way, []).append(took)
                    if stood is not None:
                        times.setdefault("leaderboards", []).append(stood)
                    say(f"study: {family}, {way}: {took:.1f} s")
                    if way == "engram":
                        tracking.append(100 * _tracking_s(folder) / took)
            results = [
                Result({"network": family, "way": way}, "s", tuple(t)) for way, t in times.items()
            ]
            what = {"network": family, "way": "engram: MLflow's CPU time"}
            results.append(Result(what, "% of the study", tuple(tracking)))
            write(f"study-{family}", results)


def _data(folder: Path) -> Path:
    from engram.data import catalog
    from engram.data.config import DataConfig

    found = catalog.load(DataConfig(name="mnist1d_stream"), pool_size=POOL, seed=0, cache=None)
    path = folder / "mnist1d.npz"
    np.savez(
        path,
        x=found.inputs,
        y=found.targets,
        x_test=found.test_inputs[:TEST],
        y_test=found.test_targets[:TEST],
    )
    return path


def _time(way: str, family: str, data: Path, folder: Path) -> tuple[float, float | None]:
    """Seconds of the whole program, start to end, and until Engram showed its first leaderboard."""
    words = ["-m", "benchmarks.ways", way, family, str(data), str(folder)]
    trials = TRIALS // 4 if way in SCALED else TRIALS
    if way == "engram":
        study = folder / "study.yaml"
        study.write_text(STUDY.format(data=data, model=MODEL[family]))
        words = ["orchestrate.py", "run", str(study)]
    else:
        words.append(str(trials))
    environment = {
        **os.environ,
        "ENGRAM_HOME": str(folder / "runs"),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    start, stood, said = time.perf_counter(), None, ""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if stood is None and line.startswith("ranked by"):
            stood = time.perf_counter() - start
    code, took = process.wait(), time.perf_counter() - start
    if code:
        raise SystemExit(f"{way} failed:\n{said[-4000:]}")
    return took * TRIALS / trials, stood


def _tracking_s(folder: Path) -> float:
    """CPU seconds that a study's MLflow thread took, from its log."""
    text = (folder / "runs" / "studies" / "study" / "run.log").read_text()
    return float(re.findall(r"MLflow took ([0-9.]+) s of CPU", text)[-1])
