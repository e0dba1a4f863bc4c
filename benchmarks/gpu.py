"""What one GPU does, in under eight minutes: replicas a second of each family, and trials that share it.

    python -m benchmarks gpu

First the tests that compare the GPU with the CPU (tests/gpu/test_on_a_gpu.py). Then replicas a second (networks trained
for 800 steps of 100 examples, as in training.py) against R: stacked, with recorded steps, one by one, and as bare
modules; then the same work as 1, 4 and 8 processes on the one GPU, and as one process per replica. Each part has its
seconds, and what no longer fits is left out with a word. Writes results/gpu.json, and the table of docs/performance.md.
"""

from __future__ import annotations

import multiprocessing
import queue
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import FOLDER, Result, say, write
from benchmarks.training import BATCH, CLASSES, MODELS, SHAPE, STEPS, bare
from engram.models import device as devices
from engram.models import memory
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.probe import made_up, recorded, seconds_per_step

ROOT = Path(__file__).resolve().parent.parent
SUITE = "tests/gpu/test_on_a_gpu.py"
BATCHES = 16  # in an epoch of recorded steps


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and the seconds that each part may take."""

    networks: tuple[str, ...] = tuple(MODELS)
    replicas: tuple[int, ...] = (1, 8, 64, 256, 1024)
    most_one_by_one: int = 64
    together: tuple[int, ...] = (1, 4, 8)  # processes on the one GPU, each with a cohort
    shared_replicas: int = 64  # of each of these; and the processes of one replica each
    processes: int = 8
    shared_steps: int = 400
    tests: str = ""  # of the suite, by pytest's -k
    check_s: float = 150.0
    rates_s: float = 200.0
    shared_s: float = 90.0


FULL = Sizes()
QUICK = Sizes(
    networks=("feedforward", "gru"),
    replicas=(1, 4),
    most_one_by_one=4,
    together=(2,),
    shared_replicas=2,
    processes=2,
    shared_steps=10,
    tests="adamw",
)


def main(device: str = "cuda", sizes: Sizes = FULL, folder: Path = FOLDER) -> None:
    """device: cpu tries the benchmark itself, and is no evidence."""
    where = torch.device(device)
    problem = devices.cuda_problem() if where.type == "cuda" else None
    if problem is not None:
        say(f"gpu: nothing to measure: {problem}")
        return
    devices.settle()
    results = [_check(sizes)]
    deadline = time.monotonic() + sizes.rates_s
    for name in sizes.networks:
        # Each network has its share, and what one leaves is the others'.
        left = len(sizes.networks) - sizes.networks.index(name)
        until = time.monotonic() + (deadline - time.monotonic()) / left
        results += _until(until, name, _rates(name, where, sizes))
    deadline = time.monotonic() + sizes.shared_s
    results += _until(deadline, "sharing one GPU", _shared(device, sizes, deadline))
    say(f"gpu: {write('gpu', results, folder)}")


def _until(deadline: float, name: str, measured: Iterator[Result]) -> Iterator[Result]:
    """What is measured before the deadline."""
    for found in measured:
        say(f"gpu: {', '.join(map(str, found.what.values()))}: {found.median:.3g} {found.unit}")
        yield found
        if time.monotonic() > deadline:
            say(f"gpu: {name}: the rest is left out: the time is up")
            return


def _check(sizes: Sizes) -> Result:
    """The share of the suite that passes here, of what is not skipped; NaN where all of it is."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", SUITE]
    if sizes.tests:
        words += ["-k", sizes.tests]
    try:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=sizes.check_s, check=False
        )
        said = done.stdout
    except subprocess.TimeoutExpired:
        said = ""
    last = (said.strip().splitlines() or ["it took too long"])[-1]
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error)", last)}
    say(f"gpu: as on the CPU, by {SUITE}: {last}")
    if counts.keys() - {"passed"}:
        say(said)
    share = counts.get("passed", 0) / sum(counts.values()) if counts else float("nan")
    return Result({"network": "all", "way": "check"}, "of the tests pass", (share,))


def _rates(name: str, where: torch.device, sizes: Sizes) -> Iterator[Result]:
    """Replicas a second of a network, by each way, for more and more replicas."""
    model, config = MODELS[name], TrainingConfig(batch_size=BATCH)

    def seconds(count: int, stack: int) -> float:
        words = model, config, count, BATCH, SHAPE, CLASSES
        return seconds_per_step(*words, stack=stack, device=where)

    for count in sizes.replicas:
        ways: dict[str, Callable[[], float | None]] = {
            "stacked": lambda count=count: seconds(count, count),
            "recorded": lambda count=count: _recorded(model, config, count, where),
        }
        if count <= sizes.most_one_by_one:
            ways["one by one"] = lambda count=count: seconds(count, 1)
            ways["bare loop"] = lambda count=count: bare(model, count, where)
        for way, measure in ways.items():
            took = [measure() for _ in range(2)]
            memory.give_back()
            rates = tuple(count / (STEPS * each) for each in took if each is not None)
            if rates:
                yield Result({"network": name, "R": count, "way": way}, "replicas/s", rates)


def _recorded(
    model: ModelConfig, config: TrainingConfig, count: int, where: torch.device
) -> float | None:
    """Seconds of a step where steps are recorded; None where they cannot be, or end in other weights."""

    def make(capture: bool) -> Any:
        words = model, config, count, SHAPE, CLASSES
        return made_up(*words, stack=count, device=where, batches=BATCHES, capture=capture)

    found = recorded(make, time.perf_counter)
    if found is None or not found.agree:
        why = "cannot be recorded here" if found is None else "end in other weights"
        say(f"gpu: {model.family}, {count}: steps {why}")
        return None
    return found.recorded_s


def _shared(device: str, sizes: Sizes, deadline: float) -> Iterator[Result]:
    """So many processes on the one GPU at the same time, each with a cohort of its own."""
    for processes, replicas in [
        *((count, sizes.shared_replicas) for count in sizes.together),
        (sizes.processes, 1),
    ]:
        seconds = _side_by_side(processes, replicas, device, sizes.shared_steps, deadline)
        if seconds is None:
            say(f"gpu: {processes} processes on one GPU: left out: the time is up")
            return
        rate = sum(replicas / (STEPS * each) for each in seconds)
        way = f"{processes} process{'es' if processes > 1 else ''} on one GPU"
        what = {"network": "feedforward", "R": replicas, "way": way}
        yield Result(what, "replicas/s", (rate,))


def _side_by_side(
    processes: int, replicas: int, device: str, steps: int, deadline: float
) -> list[float] | None:
    """Seconds of a step in each of the processes; None where the deadline comes first."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(processes), context.Queue()
    words = (replicas, device, steps, ready, answers)
    started = [context.Process(target=_one, args=words) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        return [answers.get(timeout=max(0.0, deadline - time.monotonic())) for _ in started]
    except queue.Empty:
        return None
    finally:
        for process in started:
            process.join(timeout=5)
            process.kill()


def _one(replicas: int, device: str, steps: int, ready: Any, answers: Any) -> None:
    """Seconds of one step on average, while the others train too."""
    where = torch.device(device)
    torch.set_num_threads(1)
    devices.settle()
    config = TrainingConfig(batch_size=BATCH)
    trainer = made_up(
        MODELS["feedforward"], config, replicas, SHAPE, CLASSES, device=where, batches=steps
    )
    trainer.cohort.train(True)
    trainer.train_epoch(0, 0, steps)  # warm
    trainer.evaluate()
    ready.wait(240)
    started = time.perf_counter()
    trainer.train_epoch(1, 0, steps)
    trainer.evaluate()  # waits for the device
    answers.put((time.perf_counter() - started) / steps)
