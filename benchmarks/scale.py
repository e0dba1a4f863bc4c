"""How training scales with the dataset: MNIST-1D streams of ten thousand to ten million examples.

Each size in a process of its own, which loads the data and trains as a trial does: two replicas, each on
its own 40 % of the pool. Measured: seconds per example of training steps and of evaluation, and the largest
memory of the process above what it has before there is data, against the bytes of the data. Then a whole study
of one such trial: the most memory of all its processes (PSS, so that what they share counts once) above the
same study's of the smallest size.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.results import Result, say, write

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
REFERENCE = 100_000
STEPS, ROUNDS = 200, 7
ROOT = Path(__file__).resolve().parent.parent


UNITS = {
    "training": "µs per example",
    "relative": f"times that at {REFERENCE:,}",
    "evaluation": "µs per example",
    "loading": "µs per example",
    "peak": "MB above the empty process",
    "memory": "times the bytes of the data",
}


STUDY = """\
name: scale
question: How much memory does it take?
data: {{name: mnist1d_stream, pool_size: {size}, train_size: {train}, validation: 0}}
training: {{batch_size: 100, steps: 200, evaluate_every: 1000000}}
replicas: {{count: 2, draw: disjoint}}
measures: {{predictions: false}}
sweep: {{model.dropout: [0.0]}}
tracking: {{model: false}}
"""


def main(sizes: tuple[int, ...] = SIZES) -> None:
    results, base = [], 0
    with TemporaryDirectory() as cache:
        for size in sizes:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.scale", str(size), cache],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
            for name, unit in UNITS.items():
                values = found[name] if isinstance(found[name], list) else [found[name]]
                results.append(Result({"examples": size, "what": name}, unit, tuple(values)))
                say(f"scale: {size:,} examples: {name} {results[-1].median:.4g} {unit}")
            peak = study_memory(size, Path(cache) / f"study-{size}")
            base = base or peak
            for name, value, unit in (
                ("study", (peak - base) / 1e6, f"MB, whole study above that of {sizes[0]:,}"),
                ("study, relative", (peak - base) / found["bytes"], UNITS["memory"]),
            ):
                results.append(Result({"examples": size, "what": name}, unit, (value,)))
                say(f"scale: {size:,} examples: {name} {value:.4g} {unit}")
    write("scale", results)


def study_memory(size: int, folder: Path) -> int:
    """The most memory in bytes that a study of this size takes, driver, Ray and workers together."""
    import psutil

    folder.mkdir()
    (folder / "scale.yaml").write_text(STUDY.format(size=size, train=int(size * 0.4)))
    most = 0
    with open(folder / "out", "w") as out:
        process = subprocess.Popen(
            [sys.executable, "orchestrate.py", "run", str(folder / "scale.yaml")],
            cwd=ROOT,
            env={**os.environ, "ENGRAM_HOME": str(folder / "runs")},
            stdout=out,
            stderr=out,
        )
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            now = 0
            for each in [driver, *driver.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    now += each.memory_full_info().pss
            most = max(most, now)
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit((folder / "out").read_text()[-2000:])
    return most


def one(size: int, cache: Path) -> dict:
    """The measurements of one size, in this process."""
    import torch

    from engram.data import catalog
    from engram.data.config import DataConfig
    from engram.sweeps.study.configuration import Configuration
    from engram.sweeps.trial import preparing

    torch.set_num_threads(1)
    train_size = int(size * 0.4)
    configuration = Configuration(
        data={"name": "mnist1d_stream", "train_size": train_size, "validation": 1000},
        training={"batch_size": 100, "steps": STEPS * (ROUNDS + 1)},
        replicas={"count": 2, "draw": "disjoint"},
    )
    before = _peak()
    started = time.perf_counter()
    config = DataConfig(name="mnist1d_stream")
    dataset = catalog.load(config, pool_size=size, seed=0, cache=cache)
    loading = time.perf_counter() - started
    trained = preparing.prepare(configuration, dataset, torch.device("cpu")).trainer
    trained.cohort.train(True)
    few = catalog.load(config, pool_size=REFERENCE, seed=0, cache=cache)
    section = configuration.data.model_copy(update={"train_size": int(REFERENCE * 0.4)})
    small = configuration.model_copy(update={"data": section})
    reference = preparing.prepare(small, few, torch.device("cpu")).trainer
    reference.cohort.train(True)
    took, beside = [], []
    for _ in range(ROUNDS + 1):  # in turns: what else the machine does meets both
        took.append(_steps(trained))
        beside.append(_steps(reference))
    started = time.perf_counter()
    trained.evaluate()
    seen = 2 * (train_size + 1000 + len(dataset.test_targets))
    evaluation = (time.perf_counter() - started) * 1e6 / seen
    held = dataset.inputs.nbytes + dataset.targets.nbytes + dataset.test_inputs.nbytes
    return {
        "training": took[1:],
        "relative": [a / b for a, b in zip(took[1:], beside[1:], strict=True)],
        "evaluation": evaluation,
        "loading": loading * 1e6 / size,
        "peak": (_peak() - before) / 1e6,
        "memory": (_peak() - before) / held,
        "bytes": held,
    }


def _steps(trainer: Any) -> float:
    """Microseconds per example of STEPS steps. In pieces: the smallest size has epochs of 40."""
    started = time.perf_counter()
    for _ in range(STEPS // 40):
        epoch, within = divmod(trainer.step, trainer.steps_per_epoch)
        trainer.train_epoch(epoch, within, min(within + 40, trainer.steps_per_epoch))
    return (time.perf_counter() - started) * 1e6 / (STEPS * 100 * 2)


def _peak() -> int:
    """The largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]), Path(sys.argv[2]))))
