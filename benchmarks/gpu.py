"""What one GPU does, in under eight minutes: replicas a second of each family, and trials that share it.

    python -m benchmarks gpu

Checked first: every family trains on the device as on the CPU, within rounding. Then replicas a second (networks
trained for 800 steps of 100 examples, as in training.py) against R: stacked, one by one, and as bare modules; and
the same work as 1, 4 and 8 processes on the one GPU, and as one process per replica. Writes results/gpu.json.
Nothing is claimed of GPUs before it has run on one. CUDA graphs are not measured: nothing here captures any.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import torch

from benchmarks.results import Result, say, write
from benchmarks.training import BATCH, CLASSES, MODELS, SHAPE, STEPS, bare
from engram.models import device as devices
from engram.models import streams
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.family import build
from engram.models.probe import seconds_per_step
from engram.models.training import Examples, Trainer

LIMIT_S = 450.0  # for everything
REPLICAS = (1, 8, 64, 256, 1024)
MOST_ONE_BY_ONE = 64
SHARED_REPLICAS = 64  # of one trial, and processes of one replica each at most
SHARED_STEPS = 400
TOGETHER = (1, 4, 8)
NEAR = 2e-3  # of a loss after 20 steps: what another order of the same float32 sums makes of it


def main(device: str = "cuda", limit_s: float = LIMIT_S) -> None:
    """device: cpu tries the benchmark itself, and is no evidence."""
    where, began = torch.device(device), time.perf_counter()
    problem = devices.cuda_problem() if where.type == "cuda" else None
    if problem is not None:
        say(f"gpu: nothing to measure: {problem}")
        return
    devices.settle()
    results: list[Result] = []
    _check(where, results)
    for name, model in MODELS.items():
        for count in REPLICAS:
            if time.perf_counter() - began > 0.7 * limit_s:
                say("gpu: the rest of the sizes is left out: the time is up")
                break
            _rates(name, model, count, where, results)
    for count in TOGETHER:
        if time.perf_counter() - began < limit_s:
            _share(count, SHARED_REPLICAS, device, results)
    if time.perf_counter() - began < limit_s:
        _share(8, 1, device, results)
    write("gpu" if where.type == "cuda" else f"gpu-{device}", results)


def _add(results: list[Result], rate: tuple[float, ...], **what: Any) -> None:
    results.append(Result(what, "replicas/s", rate))
    say(
        f"gpu: {', '.join(str(value) for value in what.values())}: {results[-1].median:.3g} replicas/s"
    )


def _check(where: torch.device, results: list[Result]) -> None:
    """Each family on the device against the CPU: the losses of four replicas after 20 steps."""
    for name, model in MODELS.items():
        ours, theirs = _losses(model, where), _losses(model, torch.device("cpu"))
        furthest = float(((ours - theirs).abs() / theirs).max())
        if furthest > NEAR:
            raise SystemExit(f"gpu: {name}: losses differ from the CPU's by {furthest:.2g} of them")
        results.append(
            Result({"network": name, "way": "check"}, "relative difference", (furthest,))
        )
        say(f"gpu: {name}: as on the CPU, within {furthest:.1g}")


def _losses(model: ModelConfig, where: torch.device) -> torch.Tensor:
    report = _trainer(model, 4, where, 20).advance()
    assert report is not None
    return report.loss["train"]


def _trainer(model: ModelConfig, replicas: int, where: torch.device, steps: int) -> Trainer:
    """A cohort on made-up examples, four batches an epoch, evaluated at its end; the same on every device."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4 * BATCH, *SHAPE, generator=generator)
    targets = torch.randint(CLASSES, (len(inputs),), generator=generator)
    modules = []
    for replica in range(replicas):
        torch.manual_seed(streams.key("gpu", replica))
        modules.append(build(model, SHAPE, CLASSES))
    config = TrainingConfig(batch_size=BATCH, steps=steps, lr=1e-3, evaluate_every=10**6)
    members = torch.arange(len(inputs)).expand(replicas, -1)
    cohort, keys = Cohort(modules, where), list(range(replicas))
    return Trainer(cohort, Examples(inputs, targets), members, {}, config, keys)


def _rates(
    name: str, model: ModelConfig, count: int, where: torch.device, results: list[Result]
) -> None:
    def seconds(stack: int) -> float:
        config = TrainingConfig(batch_size=BATCH)
        return seconds_per_step(
            model, config, count, BATCH, SHAPE, CLASSES, stack=stack, device=where
        )

    ways: dict[str, Any] = {"stacked": lambda: seconds(count)}
    if count <= MOST_ONE_BY_ONE:
        ways |= {"one by one": lambda: seconds(1), "bare loop": lambda: bare(model, count, where)}
    for way, measure in ways.items():
        rate = tuple(count / (STEPS * measure()) for _ in range(2))
        _add(results, rate, network=name, R=count, way=way)


def _share(processes: int, replicas: int, device: str, results: list[Result]) -> None:
    """So many processes on the one GPU at the same time, each with a cohort of its own."""
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(processes), context.Queue()
    words = (replicas, device, ready, answers)
    started = [context.Process(target=_one, args=words) for _ in range(processes)]
    for process in started:
        process.start()
    seconds = [answers.get(timeout=240) for _ in started]
    for process in started:
        process.join()
    rate = sum(replicas / (STEPS * each) for each in seconds)
    what = {"network": "feedforward", "R": replicas, "way": f"{processes} processes on one GPU"}
    _add(results, (rate,), **what)


def _one(replicas: int, device: str, ready: Any, answers: Any) -> None:
    """Seconds of one step on average, while the others train too."""
    where = torch.device(device)
    torch.set_num_threads(1)
    devices.settle()
    _trainer(MODELS["feedforward"], replicas, where, 20).advance()  # warm
    trainer = _trainer(MODELS["feedforward"], replicas, where, SHARED_STEPS)
    ready.wait(240)
    started = time.perf_counter()
    trainer.advance()  # its evaluation waits for the device
    answers.put((time.perf_counter() - started) / SHARED_STEPS)
