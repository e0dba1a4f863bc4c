"""How long a training step takes here: a few real steps of the real cohort on made-up examples."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engram.models import memory, several, ways
from engram.models.cohort import default_stack
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import Way, is_own
from engram.models.family import Words, build
from engram.models.training import Examples, Trainer

STEPS, WARM_UP_STEPS = 6, 2
EPOCHS, WARM_UP_EPOCHS = 8, 2
NEAR = 1e-3  # of the largest weight: what kernels that add up in another order make of a few steps
LONGEST_S = 3.0  # slow networks are measured by fewer steps


def seconds_per_step(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    train_size: int,
    shape: tuple[int, ...],
    outputs: int,
    *,
    values: bool = False,
    image: bool = False,
    stack: int | None = None,
    how: Way = ways.STACKED,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
    tokens: Words | None = None,
) -> float:
    """Seconds of one optimizer step of a whole cohort, without evaluations, on one thread.

    outputs: classes, or values to predict; tokens: inputs are whole numbers; how: the way that the networks run; clock: time.thread_time counts, on a CPU, what the
    step itself took and not what other programs took meanwhile. Measured on at most LONGEST_S of steps, so
    good to a few tens of per cent on a busy machine.
    """
    device = device or torch.device("cpu")
    batch = min(training.batch_size, train_size)
    training = training.model_copy(update={"batch_size": batch})
    trainer = made_up(
        model,
        training,
        replicas,
        shape,
        outputs,
        values=values,
        image=image,
        stack=stack,
        how=how,
        device=device,
        tokens=tokens,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(trainer, clock)
    finally:
        torch.set_num_threads(threads)


def made_up(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    shape: tuple[int, ...],
    outputs: int,
    *,
    values: bool = False,
    image: bool = False,
    stack: int | None = None,
    how: Way = ways.STACKED,
    device: torch.device,
    batches: int = 1,
    capture: bool = False,
    tokens: Words | None = None,
) -> Trainer:
    """A cohort on made-up examples, so many batches an epoch: the same one each time."""
    size = batches * training.step_size
    generator = torch.Generator().manual_seed(0)
    inputs = several.made_up(torch.randn(size, *shape, generator=generator), shape, generator)
    words = None if is_own(model.family) else model.options.get("vocabulary")
    if tokens is not None:
        words = len(tokens.words)
    if isinstance(words, int):
        inputs = torch.randint(words, inputs.shape, generator=generator)
        inputs = inputs if tokens is not None else inputs.float()
    targets = torch.zeros(size, outputs) if values else torch.arange(size) % outputs
    if tokens is not None and tokens.every_step:
        targets = inputs % outputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = [build(model, shape, outputs, image, tokens) for _ in range(replicas)]
    stack = stack or default_stack(model.family, device, replicas, image)
    cohort = ways.cohort(modules, device, stack, how)
    members = torch.arange(size).expand(replicas, size)
    config = training.model_copy(
        update={"epochs": EPOCHS, "steps": None, "early_stopping": None, "class_weights": None}
    )
    data = Examples(inputs, targets)
    keys = list(range(replicas))
    return Trainer(cohort, data, members, {}, config, keys, capture=capture)


@dataclass(frozen=True)
class Compared:
    """Recorded steps (captured.py) beside steps one by one: seconds of a step, and whether the weights agree."""

    agree: bool
    one_by_one_s: float
    recorded_s: float


def recorded(make: Callable[[bool], Trainer], clock: Callable[[], float]) -> Compared | None:
    """Train two cohorts, one of them with recorded steps; None where nothing can be recorded.

    make(capture): a cohort of some batches an epoch, the same one each time; it is let go before the next."""
    seconds, weights = [], []
    for capture in (False, True):
        trainer = make(capture)
        if capture and trainer.not_captured is not None:
            return None
        seconds.append(_of_epochs(trainer, clock))
        if capture and trainer.graph is None:  # it was tried, and refused
            return None
        weights.append([p.detach().cpu() for p in trainer.cohort.parameters.values()])
        del trainer
        memory.give_back()
    near = (_near(one, other) for one, other in zip(*weights, strict=True))
    return Compared(all(near), *seconds)


def _near(one: Tensor, other: Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=0.0, atol=NEAR * float(one.abs().max())))


def _of_epochs(trainer: Trainer, clock: Callable[[], float]) -> float:
    """The fastest epoch's seconds of one step, the first ones left out."""
    fastest, steps = float("inf"), trainer.steps_per_epoch
    trainer.cohort.train(True)
    for epoch in range(EPOCHS):
        started = clock()
        trainer.train_epoch(epoch, 0, steps)
        _wait(trainer.device)
        if epoch >= WARM_UP_EPOCHS:
            fastest = min(fastest, (clock() - started) / steps)
    return fastest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(trainer: Trainer, clock: Callable[[], float]) -> float:
    """The fastest of a few steps: what other programs take is not the study's."""
    fastest, began = float("inf"), time.perf_counter()
    trainer.cohort.train(True)
    for step in range(WARM_UP_STEPS + STEPS):
        started = clock()
        trainer.train_epoch(step, 0, 1)
        _wait(trainer.device)
        took, late = clock() - started, time.perf_counter() - began > LONGEST_S
        if step >= WARM_UP_STEPS or late:
            fastest = min(fastest, took)
        if late:
            break
    return fastest
