"""How many replicas to run in one pass, and whether as recorded steps: measured once on each machine, and remembered.

Knows networks and a file; neither Ray nor trials. The choice changes how fast a cohort trains, not what comes
of it (tests/models/test_cohort.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from engram import files
from engram.models import memory, trouble
from engram.models.cohort import default_stack
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import Way
from engram.models.family import Words
from engram.models.probe import made_up, recorded, seconds_per_step
from engram.models.training import Trainer
from engram.models.ways import STACKED
from engram.sweeps.state import lock

FILE = "stacking.json"
CANDIDATES = (1, 8, 32, 128)  # and all of them
MOST_MEASURED = 64  # replicas: those of a larger cohort cost the same each
ROUNDS = 2
RECORDED_ON = ("cuda",)  # kinds of devices that have graphs
BATCHES = 16  # in an epoch that is recorded
# The rule by family stands unless something is faster by this factor: what is measured on a busy machine is noisy.
CLEARLY = 1.3


@dataclass(frozen=True)
class Cohort:
    """What is to be trained. shape: of one example; outputs: classes, or values to predict."""

    model: ModelConfig
    training: TrainingConfig
    replicas: int
    shape: tuple[int, ...]
    outputs: int
    image: bool
    device: torch.device
    how: Way = STACKED
    tokens: Words | None = None

    @property
    def rule(self) -> int:
        return default_stack(self.model.family, self.device, self.replicas, self.image)

    @property
    def measured(self) -> int:
        return min(self.replicas, MOST_MEASURED)

    @property
    def name(self) -> str:
        """What the answer depends on, sizes to a power of two."""
        cuda = self.device.type == "cuda"
        machine = torch.cuda.get_device_name(self.device) if cuda else self.device.type
        sizes = {
            "width": self.model.width,
            "inputs": math.prod(self.shape),
            "batch": self.training.batch_size,
            "replicas": self.measured,
        }
        dropout = "dropout" if self.model.dropout else "no dropout"
        depth = f"depth {self.model.depth}"
        options = [f"{name} {value}" for name, value in sorted(self.model.options.items())]
        network = [self.model.family, depth, dropout, *options]
        if self.tokens is not None:
            network += ["tokens" if self.tokens.every_step else "a text"]
            sizes["vocabulary"] = len(self.tokens.words)
        rounded = [f"{name} {2 ** round(math.log2(size))}" for name, size in sizes.items()]
        return ", ".join([*network, *rounded, machine, torch.__version__])


def width(cohort: Cohort, cache: Path, most: int | None = None) -> int:
    """Replicas per pass that trains a cohort fastest on its device, of those that fit into its memory.

    cache: folder of what the processes of a machine remember; most: what memory has room for, where a trial
    has found that out. A person's network that stacks is measured too: what vmap has no fast rule for, such as
    torch's transformer layers, may be faster one by one.
    """
    if cohort.replicas == 1 or cohort.how.way == "plain":
        return 1
    chosen = _known(cache, cohort.name, lambda: _measured(cohort, most or cohort.measured))
    return min(chosen, cohort.replicas) if chosen else cohort.replicas


def captured(cohort: Cohort, stack: int, cache: Path) -> bool:
    """Whether steps of such a cohort, in stacks of so many replicas, are recorded and replayed (models/captured.py).

    Only on a GPU, where that was measured to be clearly faster and the weights agree."""
    if cohort.device.type not in RECORDED_ON or cohort.how.way != "stacked":
        return False
    training = cohort.training
    name = f"{cohort.name}, in stacks of {stack}, {training.optimizer}, {training.precision}"
    return bool(_known(cache, f"{name}: recorded", lambda: int(_pays(cohort, stack))))


def _known(cache: Path, name: str, measure: Callable[[], int]) -> int:
    """What was measured under a name, once on this machine."""
    cache.mkdir(parents=True, exist_ok=True)
    # One measures at a time: two would disturb each other, and both want the same answer.
    with lock.waited(cache / f"{FILE}.lock"):
        found = files.read_json(cache / FILE)
        known = found if isinstance(found, dict) else {}
        chosen = known.get(name)
        if not isinstance(chosen, int) or chosen < 0:
            chosen = measure()
            files.write(cache / FILE, json.dumps({**known, name: chosen}, indent=1))
    return chosen


def _pays(cohort: Cohort, stack: int) -> bool:
    """Whether recorded steps are clearly faster than steps one by one, and end in the same weights."""

    def make(capture: bool) -> Trainer:
        return made_up(
            cohort.model,
            cohort.training,
            cohort.measured,
            cohort.shape,
            cohort.outputs,
            image=cohort.image,
            stack=stack,
            device=cohort.device,
            batches=BATCHES,
            capture=capture,
            tokens=cohort.tokens,
        )

    try:
        found = recorded(make, time.perf_counter)
    except Exception as error:
        if trouble.kind(error) != "memory":
            raise
        found = None
    memory.give_back()
    return found is not None and found.agree and found.one_by_one_s >= CLEARLY * found.recorded_s


def _measured(cohort: Cohort, most: int) -> int:
    """The fastest stack, 0 for all replicas; none wider than `most`, or than half of what ran out of memory."""
    count, widest = cohort.measured, min(most, cohort.measured)
    seconds: dict[int, float] = {}
    while (took := _seconds(cohort, widest)) is None:
        if widest == 1:
            return 1  # the trial itself will tell what it lacks
        widest //= 2
    seconds[widest] = took
    narrower = [stack for stack in CANDIDATES if stack < widest]
    for stack in narrower * ROUNDS + [widest] * (ROUNDS - 1):
        if (took := _seconds(cohort, stack)) is not None:
            seconds[stack] = min(seconds.get(stack, math.inf), took)
    best, rule = min(seconds, key=lambda stack: seconds[stack]), min(cohort.rule, count)
    if seconds.get(rule, math.inf) <= CLEARLY * seconds[best]:
        best = rule
    return 0 if best == count else best


def _seconds(cohort: Cohort, stack: int) -> float | None:
    """Seconds of a step in stacks of so many replicas; None where there is too little memory for them."""
    try:
        return seconds_per_step(
            cohort.model,
            cohort.training,
            cohort.measured,
            cohort.training.batch_size,
            cohort.shape,
            cohort.outputs,
            image=cohort.image,
            stack=stack,
            how=cohort.how,
            device=cohort.device,
            clock=time.thread_time if cohort.device.type == "cpu" else time.perf_counter,
            tokens=cohort.tokens,
        )
    except Exception as error:
        if trouble.kind(error) != "memory":
            raise
    # Out of the handler, whose error holds the cohort that did not fit.
    memory.give_back()
    return None
