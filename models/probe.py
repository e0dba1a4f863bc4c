"""How long a training step takes here: a few real steps of the real cohort on made-up examples."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from engram.models import ways
from engram.models.cohort import default_stack
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import Way
from engram.models.family import build
from engram.models.training import Examples, Trainer

STEPS, WARM_UP_STEPS = 6, 2
LONGEST_S = 3.0  # slow networks are measured by fewer steps


def seconds_per_step(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    train_size: int,
    shape: tuple[int, ...],
    outputs: int | None,
    *,
    image: bool = False,
    stack: int | None = None,
    how: Way = ways.STACKED,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one optimizer step of a whole cohort, without evaluations, on one thread.

    outputs: classes, or None for one value to predict; how: the way that the networks run; clock: time.thread_time counts, on a CPU, what the
    step itself took and not what other programs took meanwhile. Measured on at most LONGEST_S of steps, so
    good to a few tens of per cent on a busy machine.
    """
    device = device or torch.device("cpu")
    batch = min(training.batch_size, train_size)
    inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(batch, dtype=torch.int64) if outputs else torch.zeros(batch, 1)
    modules = [build(model, shape, outputs or 1, image) for _ in range(replicas)]
    stack = stack or default_stack(model.family, device, replicas, image)
    cohort = ways.cohort(modules, device, stack, how)
    members = torch.arange(batch).expand(replicas, batch)
    config = training.model_copy(
        update={"epochs": STEPS, "steps": None, "batch_size": batch, "early_stopping": None}
    )
    trainer = Trainer(cohort, Examples(inputs, targets), members, {}, config, list(range(replicas)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(trainer, clock)
    finally:
        torch.set_num_threads(threads)


def _timed(trainer: Trainer, clock: Callable[[], float]) -> float:
    """The fastest of a few steps: what other programs take is not the study's."""
    fastest, began = float("inf"), time.perf_counter()
    trainer.cohort.train(True)
    for step in range(WARM_UP_STEPS + STEPS):
        started = clock()
        trainer.train_epoch(step, 0, 1)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        took, late = clock() - started, time.perf_counter() - began > LONGEST_S
        if step >= WARM_UP_STEPS or late:
            fastest = min(fastest, took)
        if late:
            break
    return fastest
