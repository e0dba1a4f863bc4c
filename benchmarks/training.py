"""Training cohorts of 1 to 1,024 replicas of each family, against the machine's limits and the bare loop.

A step here is one optimizer step of all replicas: batch 100, AdamW, MNIST-1D-shaped data, float32, one thread on a
CPU. Rates are replicas a second: networks trained for 800 steps (20 epochs of 4,000 examples), evaluations apart.
The arithmetic limit is the operations of the network over a measured matrix product; the memory limit, the
optimizer's traffic (seven passes over the parameters) over a measured copy.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional as F

from benchmarks.results import Result, say, write
from engram.models import memory
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.family import build
from engram.models.probe import seconds_per_step
from engram.models.recurrent import Recurrent

MODELS = {
    "feedforward": ModelConfig(width=100, depth=2),
    "feedforward, dropout 0.5": ModelConfig(width=100, depth=2, dropout=0.5),
    "convolutional": ModelConfig(family="convolutional", width=25, depth=3),
    "rnn": ModelConfig(family="rnn", width=16, depth=1),
    "gru": ModelConfig(family="gru", width=16, depth=1),
    "lstm": ModelConfig(family="lstm", width=16, depth=1),
}
# How often a weight is used for one example, on average: positions of the convolutions, steps in time.
USES = {"feedforward": 1, "convolutional": 7, "rnn": 5, "gru": 10, "lstm": 12}
REPLICAS = (1, 8, 64, 256, 1024)
MOST_ONE_BY_ONE = 64  # beyond, a replica costs what it costs here
BATCH, STEPS = 100, 800
SHAPE, CLASSES = (40,), 10
OPTIMIZER_PASSES = 7  # reads weights, gradients and two moments; writes weights and moments


def main(device: str = "cpu", seconds: float = 3.0, replicas: tuple[int, ...] = REPLICAS) -> None:
    """seconds: how long each way is measured, at least; its fastest steps are told."""
    where = torch.device(device)
    torch.set_num_threads(1)
    memory.keep_freed()
    flops, bandwidth = matrix_product(where), copy_bandwidth(where)
    say(
        f"training: {device}: {flops / 1e9:.1f} GFLOP/s in a matrix product, {bandwidth / 1e9:.1f} GB/s copied"
    )
    results = [
        Result(
            {"network": "machine", "device": device, "way": "matrix product"},
            "GFLOP/s",
            (flops / 1e9,),
        ),
        Result(
            {"network": "machine", "device": device, "way": "memory copy"},
            "GB/s",
            (bandwidth / 1e9,),
        ),
    ]
    for name, model in MODELS.items():
        parameters = sum(p.numel() for p in build(model, SHAPE, CLASSES).parameters())
        operations = 6.0 * parameters * USES[model.family] * BATCH
        traffic = 4.0 * parameters * OPTIMIZER_PASSES
        for count in replicas:
            for way, measure in _ways(model, count, where):
                took = list(_repeated(measure, seconds))
                rates = tuple(count / (STEPS * s) for s in took)
                results.append(
                    Result(
                        {
                            "network": name,
                            "device": device,
                            "R": count,
                            "way": way,
                            "share_of_arithmetic": _share(operations * count / min(took), flops),
                            "share_of_memory": _share(traffic * count / min(took), bandwidth),
                        },
                        "replicas/s",
                        rates,
                    )
                )
                say(f"training: {name}, R = {count}, {way}: {results[-1].median:.3g} replicas/s")
    write("training" if device == "cpu" else f"training-{device}", results)


def _repeated(measure: Callable[[], float], seconds: float) -> Iterator[float]:
    """Measured twice at least: short steps on a busy machine want more."""
    began = time.perf_counter()
    for repeat in itertools.count():
        if repeat >= 2 and time.perf_counter() - began >= seconds:
            return
        yield measure()


def _share(used: float, limit: float) -> float:
    return float(f"{used / limit:.3g}")


def _ways(
    model: ModelConfig, count: int, device: torch.device
) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each way of training, and seconds of one step of all replicas by it."""

    def cohort(stack: int) -> float:
        config = TrainingConfig(batch_size=BATCH)
        return seconds_per_step(
            model, config, count, BATCH, SHAPE, CLASSES, stack=stack, device=device
        )

    if count <= MOST_ONE_BY_ONE:
        yield "bare loop", lambda: bare(model, count, device)
        yield "one by one", lambda: cohort(1)
    if count > 1:
        yield "stacked", lambda: cohort(count)
    if count > 64 and device.type == "cpu":
        yield "stacks of 32", lambda: cohort(32)


def bare(model: ModelConfig, count: int, device: torch.device, steps: int = 8) -> float:
    """Seconds of one step of `count` ordinary modules, each with its own fused optimizer, one after the other."""
    inputs = torch.randn(BATCH * 10, *SHAPE, device=device)
    targets = torch.randint(CLASSES, (BATCH * 10,), device=device)
    networks = [build(model, SHAPE, CLASSES).to(device) for _ in range(min(count, 8))]
    for network in networks:
        if isinstance(network, Recurrent):
            network.fused = True
    optimizers = [torch.optim.AdamW(n.parameters(), lr=1e-2, fused=True) for n in networks]
    fastest = float("inf")
    for _ in range(steps):
        started = time.perf_counter()
        for network, optimizer in zip(networks, optimizers, strict=True):
            batch = torch.randint(BATCH * 10, (BATCH,), device=device)
            optimizer.zero_grad()
            F.cross_entropy(network(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        _wait(device)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest * count / len(networks)


# -- what the machine can do ------------------------------------------------------------------------


def matrix_product(device: torch.device, size: int = 1024) -> float:
    """Floating point operations a second of a float32 matrix product, the best of a few."""
    a, b = (torch.randn(size, size, device=device) for _ in "ab")
    return 2.0 * size**3 / _fastest(lambda: a @ b, device)


def copy_bandwidth(device: torch.device, floats: int = 32 * 2**20) -> float:
    """Bytes a second read and written by a copy that no cache holds."""
    a, b = torch.ones(floats, device=device), torch.empty(floats, device=device)
    return 2.0 * 4 * floats / _fastest(lambda: b.copy_(a), device)


def _fastest(body: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    fastest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        body()
        _wait(device)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
