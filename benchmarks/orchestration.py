"""What everything but training costs: trials that are nearly empty, and commands on a large store.

A trial here is two networks of four units and one step of training. Cost per trial is the time between results
(two actors, so two trials at once), from the study's own log.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.results import Result, say, write

ROOT = Path(__file__).resolve().parent.parent
EMPTY = """\
name: empty
question: What does a trial cost?
data: {name: mnist1d, train_size: 100, validation: 100}
model: {family: feedforward, width: 4, depth: 1}
training: {epochs: 1, batch_size: 100}
replicas: {count: 2}
sweep: {training.lr: {loguniform: [1.0e-4, 1.0e-1]}}
search: {sampler: random, trials: 100, objective: {validation_error: min}}
"""
RANDOM_TRIALS, TPE_TRIALS = 5000, 500
AT = (100, 500, 1000, 2000, 5000)
WINDOW = 100  # results around a trial that give its cost
STORE = 10_000
MEASURES = (
    "train_error validation_error test_error generalization_gap bias2 variance memorization".split()
)
COMMIT = re.compile(r"^(\S+ \S+) INFO \S+ trial (\d+) is committed", re.M)


def main(
    random_trials: int = RANDOM_TRIALS, tpe_trials: int = TPE_TRIALS, store: int = STORE
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        results = [*_commands(Path(scratch) / "store", store)]
        for sampler, trials in (("random", random_trials), ("tpe", tpe_trials)):
            results += _study(Path(scratch) / sampler, sampler, trials)
    write("orchestration", results)


# -- near-empty trials ------------------------------------------------------------------------------


def _study(folder: Path, sampler: str, trials: int) -> list[Result]:
    import psutil

    folder.mkdir()
    path = folder / "empty.yaml"
    path.write_text(EMPTY)
    sets = [f"search.sampler={sampler}", f"search.trials={trials}"]
    words = [word for each in sets for word in ("--set", each)]
    begun = time.time()
    with open(folder / "out", "w") as out:
        process = subprocess.Popen(
            [sys.executable, "orchestrate.py", "run", str(path), *words],
            cwd=ROOT,
            env=_environment(folder),
            stdout=out,
            stderr=out,
        )
        peak, driver = 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, driver.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.2)
        if process.wait():
            raise SystemExit((folder / "out").read_text()[-2000:])
    whole = time.time() - begun
    text = (folder / "runs" / "studies" / "empty" / "run.log").read_text()
    stamps = [
        datetime.strptime(t, "%Y-%m-%d %H:%M:%S,%f").timestamp() for t, _ in COMMIT.findall(text)
    ]
    gaps = np.diff(stamps)
    results = []
    for number in (n for n in AT if n <= trials):
        middle = min(max(number, WINDOW // 2), len(gaps) - WINDOW // 2)
        some = gaps[middle - WINDOW // 2 : middle + WINDOW // 2]
        # Means of ten trials each: results of two actors arrive in pairs.
        values = tuple(1000 * part.mean() for part in np.array_split(some, WINDOW // 10))
        results.append(Result(_what(sampler, f"trial {number}"), "ms", values))
    cpu = float(re.findall(r"MLflow took ([0-9.]+) s of CPU", text)[-1])
    results += [
        Result(_what(sampler, "start to first result"), "s", (stamps[0] - begun,)),
        Result(_what(sampler, "last result to the end"), "s", (begun + whole - stamps[-1],)),
        Result(_what(sampler, "driver memory, peak"), "MB", (peak / 1e6,)),
        Result(_what(sampler, "MLflow, CPU time per trial"), "ms", (1000 * cpu / trials,)),
    ]
    for result in results:
        say(f"orchestration: {result.what}: {result.median:.4g} {result.unit}")
    return results


def _what(group: str, name: str) -> dict[str, str]:
    return {"group": group, "what": name}


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "ENGRAM_HOME": str(folder / "runs")}


# -- commands ---------------------------------------------------------------------------------------


def _commands(folder: Path, trials: int, repeats: int = 5) -> Iterator[Result]:
    """Whole programs, start to end; the leaderboard and the report on a store of many trials."""
    folder.mkdir()
    with _quick_disk():
        _fill(folder, trials)
    say(f"orchestration: a store of {trials} trials is made")
    for words in (
        ["--help"],
        ["plan", "quickstart"],
        ["leaderboard", "big"],
        ["leaderboard", "big", "--format", "json"],
        ["report", "big", "--out", str(folder / "report.html")],
    ):
        times = []
        for _ in range(repeats if words[0] != "report" else 1):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "orchestrate.py", *words],
                cwd=ROOT,
                env=_environment(folder),
                check=True,
                capture_output=True,
            )
            times.append(time.perf_counter() - start)
        name = " ".join(words[: 4 if words[0] != "report" else 2])
        say(f"orchestration: {name}: {statistics.median(times):.2f} s")
        store = f"{trials} trials" if "big" in words else "commands"
        yield Result(_what(store, name), "s", tuple(times))


def _fill(folder: Path, trials: int) -> None:
    """A ledger as a study of many trials would have left it."""
    from engram.sweeps.search.search import Search
    from engram.sweeps.study import loading

    path = folder / "big.yaml"
    path.write_text(EMPTY)
    asked = loading.load(str(path), [f"search.trials={trials}", "replicas.count=8"])
    search = Search(asked, folder / "runs" / "studies" / "big" / "search.journal", "big")
    generator = np.random.default_rng(0)
    for _ in range(trials):
        proposal = search.ask()
        assert proposal is not None
        values = {name: 0.5 + 0.02 * generator.normal(size=(2, 8)).sum(0) for name in MEASURES}
        search.tell(
            proposal.number,
            {
                "trial": proposal.number,
                "params": proposal.params,
                "config_hash": proposal.configuration.hash,
                "status": "completed",
                "replicas": 8,
                "parameters": 200,
                "epochs": 1,
                "steps": 1,
                "seconds": 0.1,
                "train_examples": 100,
                "pool_examples": 3900,
                "chance_error": 0.9,
                "measures": {
                    name: {"mean": float(v.mean()), "low": float(v.min()), "high": float(v.max())}
                    for name, v in values.items()
                },
                "replica_values": {
                    name: [float(f"{x:.7g}") for x in v] for name, v in values.items()
                },
                "selection": {"validation_error": float(values["validation_error"].mean())},
                "warnings": [],
            },
        )
        search.set_run(proposal.number, f"{proposal.number:032x}")
    search.close()


@contextmanager
def _quick_disk() -> Iterator[None]:
    """Making the store is not what is measured: nothing waits for the disk."""
    with mock.patch("os.fsync", return_value=None):
        yield
