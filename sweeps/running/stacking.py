"""How many replicas to run in one pass: measured once on each machine, and remembered in its cache.

Knows networks and a file; neither Ray nor trials. The choice changes how fast a cohort trains, not what comes
of it (tests/models/test_cohort.py).
"""

from __future__ import annotations

import fcntl
import json
import math
import time
from pathlib import Path

import torch

from models.cohort import default_stack
from models.config import ModelConfig, TrainingConfig
from models.probe import seconds_per_step
from sweeps import state

FILE = "stacking.json"
CANDIDATES = (1, 8, 32, 128)  # and all of them
MOST_MEASURED = 64  # replicas: those of a larger cohort cost the same each
ROUNDS = 2
# The rule by family stands unless something is faster by this factor: what is measured on a busy machine is noisy.
CLEARLY = 1.3


def width(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    shape: tuple[int, ...],
    outputs: int,
    *,
    image: bool,
    device: torch.device,
    cache: Path,
) -> int:
    """Replicas per pass that trains a cohort fastest on this device.

    shape: of one example; outputs: classes, or values to predict; cache: folder of the memory, which the
    processes of a machine share. A user's own network is not measured: it may not stack at all.
    """
    rule = default_stack(model.family, device, replicas)
    if replicas == 1 or ":" in model.family:
        return rule
    name = _name(model, training, replicas, shape, device)
    cache.mkdir(parents=True, exist_ok=True)
    # One measures at a time: two would disturb each other, and both want the same answer.
    with open(cache / f"{FILE}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = state.read_json(cache / FILE)
        known = found if isinstance(found, dict) else {}
        chosen = known.get(name)
        if not isinstance(chosen, int) or chosen < 0:
            chosen = _measured(model, training, replicas, shape, outputs, image, device, rule)
            state.write_text(cache / FILE, json.dumps({**known, name: chosen}, indent=1))
    return min(chosen, replicas) if chosen else replicas


def _measured(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    shape: tuple[int, ...],
    outputs: int,
    image: bool,
    device: torch.device,
    rule: int,
) -> int:
    """The fastest stack, 0 for all replicas."""
    count = min(replicas, MOST_MEASURED)
    stacks = [stack for stack in CANDIDATES if stack < count] + [count]
    seconds = dict.fromkeys(stacks, math.inf)
    for _ in range(ROUNDS):
        for stack in stacks:
            took = seconds_per_step(
                model,
                training,
                count,
                training.batch_size,
                shape,
                outputs,
                image=image,
                stack=stack,
                device=device,
                clock=time.thread_time if device.type == "cpu" else time.perf_counter,
            )
            seconds[stack] = min(seconds[stack], took)
    best = min(seconds, key=lambda stack: seconds[stack])
    if seconds[min(rule, count)] <= CLEARLY * seconds[best]:
        best = min(rule, count)
    return 0 if best == count else best


def _name(
    model: ModelConfig,
    training: TrainingConfig,
    replicas: int,
    shape: tuple[int, ...],
    device: torch.device,
) -> str:
    """What the answer depends on, sizes to a power of two."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    sizes = {
        "width": model.width,
        "inputs": math.prod(shape),
        "batch": training.batch_size,
        "replicas": min(replicas, MOST_MEASURED),
    }
    rounded = [f"{name} {2 ** round(math.log2(size))}" for name, size in sizes.items()]
    dropout = "dropout" if model.dropout else "no dropout"
    return ", ".join(
        [model.family, f"depth {model.depth}", dropout, *rounded, machine, torch.__version__]
    )
