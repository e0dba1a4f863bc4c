"""Training a cohort, stacked and one by one, against the bare loop that everybody writes first.

    python -m benchmarks.training

Side by side in one run, interleaved, on one thread: R replicas of each family on MNIST-1D-shaped data, batch 100,
AdamW. Per replica and step, in microseconds. Writes benchmarks/results/training.json and prints a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from benchmarks.results import Result, table, write
from models import streams
from models.cohort import Cohort
from models.config import ModelConfig, TrainingConfig
from models.family import build
from models.recurrent import Recurrent
from models.training import Examples, Trainer

MODELS = {
    "feedforward": ModelConfig(width=100, depth=2),
    "feedforward, dropout 0.5": ModelConfig(width=100, depth=2, dropout=0.5),
    "convolutional": ModelConfig(family="convolutional", width=25, depth=3),
    "gru": ModelConfig(family="gru", width=16, depth=1),
    "lstm": ModelConfig(family="lstm", width=16, depth=1),
}
REPLICAS = (1, 8, 64)
EXAMPLES, BATCH, STEPS, REPEATS = 1000, 100, 5, 7
SHAPE, CLASSES = (40,), 10


def data() -> Examples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, *SHAPE, generator=generator)
    return Examples(inputs, torch.randint(CLASSES, (EXAMPLES,), generator=generator))


def cohort(model: ModelConfig, replicas: int, stack: int) -> Callable[[], None]:
    """STEPS optimizer steps of all replicas, `stack` to a pass."""
    examples = data()
    networks = [build(model, SHAPE, CLASSES) for _ in range(replicas)]
    members = torch.arange(EXAMPLES).expand(replicas, EXAMPLES).contiguous()
    keys = [streams.key(0, r) for r in range(replicas)]
    trainer = Trainer(
        Cohort(networks, torch.device("cpu"), stack),
        examples,
        members,
        {},
        TrainingConfig(batch_size=BATCH, epochs=1000),
        keys,
    )
    trainer.cohort.train(True)
    return lambda: trainer.train_epoch(0, 0, STEPS)


def bare(model: ModelConfig, replicas: int) -> Callable[[], None]:
    """The same steps by a plain loop over ordinary modules, each with its own stock optimizer."""
    examples = data()
    networks = [build(model, SHAPE, CLASSES) for _ in range(replicas)]
    for network in networks:
        if isinstance(network, Recurrent):
            network.fused = True
    optimizers = [torch.optim.AdamW(n.parameters(), lr=1e-2) for n in networks]

    def run() -> None:
        for network, optimizer in zip(networks, optimizers, strict=True):
            order = torch.randperm(EXAMPLES)
            for step in range(STEPS):
                batch = order[step * BATCH : (step + 1) * BATCH]
                optimizer.zero_grad()
                F.cross_entropy(network(examples.inputs[batch]), examples.targets[batch]).backward()
                optimizer.step()

    return run


def main() -> None:
    torch.set_num_threads(1)
    results = []
    for name, model in MODELS.items():
        for replicas in REPLICAS:
            ways = {"bare loop": bare(model, replicas), "one by one": cohort(model, replicas, 1)}
            if replicas > 1:
                ways["stacked"] = cohort(model, replicas, replicas)
            times: dict[str, list[float]] = {way: [] for way in ways}
            for repeat in range(REPEATS + 1):
                for way, run in ways.items():
                    started = time.perf_counter()
                    run()
                    if repeat:  # the first warms up
                        elapsed = time.perf_counter() - started
                        times[way].append(elapsed * 1e6 / (STEPS * replicas))
            results += [
                Result(
                    {"network": name, "R": replicas, "way": way},
                    "µs per replica and step",
                    tuple(t),
                )
                for way, t in times.items()
            ]
    write("training", results)
    print(table(results, rows=("network", "R"), column="way", baseline="bare loop"))


if __name__ == "__main__":
    main()
