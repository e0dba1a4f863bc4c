"""How long training takes, when it is evaluated, and the learning rate over it, as a factor of `training.lr`."""

from __future__ import annotations

import math
from collections.abc import Callable

from engram.models import pieces
from engram.models.config import TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError
from engram.models.named import named

Schedule = Callable[[int, int], float]  # (step, steps in all) -> factor
CYCLE_RISE, CYCLE_START, CYCLE_END = 0.3, 25.0, 1e4  # of torch's OneCycleLR; Smith & Topin 2018


def _one_cycle(step: int, total: int) -> float:
    """torch's OneCycleLR without its change of momentum."""
    start, end = 1 / CYCLE_START, 1 / (CYCLE_START * CYCLE_END)
    peak = CYCLE_RISE * total - 1
    if peak > 0 and step <= peak:
        return start + (1 - start) * (1 - math.cos(math.pi * step / peak)) / 2
    progress = (step - peak) / max(1.0, total - 1 - peak)
    return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2


TABLE: dict[str, Schedule] = {
    "constant": lambda step, total: 1.0,
    "cosine": lambda step, total: (1 + math.cos(math.pi * (step / max(1, total)))) / 2,
    "linear": lambda step, total: 1 - step / max(1, total),
    "step": lambda step, total: 0.1 ** ((2 * step >= total) + (4 * step >= 3 * total)),
    "exponential": lambda step, total: 0.01 ** (step / max(1, total)),
    "one_cycle": _one_cycle,
}
assert TABLE.keys() == pieces.SCHEDULES.keys()


def steps_of(config: TrainingConfig, train_size: int) -> tuple[int, int]:
    """(steps in an epoch, steps in all) for a training set of this size."""
    per_epoch = math.ceil(train_size / config.step_size)
    return per_epoch, config.steps or config.epochs * per_epoch


def evaluation_steps(config: TrainingConfig, train_size: int) -> list[int]:
    """The steps after which the cohort is evaluated; the last step is always among them."""
    per_epoch, total = steps_of(config, train_size)
    epochs = math.ceil(total / per_epoch)
    every = config.evaluate_every or max(1, round(epochs / 20))
    return [*range(every * per_epoch, total, every * per_epoch), total]


def schedule(config: TrainingConfig, total: int) -> Callable[[int], float] | None:
    """The factor at each step, warm-up included; None where the rate never changes."""
    if config.schedule == "constant" and config.warmup == 0:
        return None
    after = _own(config.schedule) if ":" in config.schedule else _known(config.schedule)
    warmup = round(config.warmup * total)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return after(step - warmup, total - warmup)

    return factor


def _known(name: str) -> Schedule:
    if name not in TABLE:
        raise ModelError(f"training.schedule = {name!r} is no known schedule: {', '.join(TABLE)}")
    return TABLE[name]


def _own(path: str) -> Schedule:
    function = named(path, "training.schedule")

    def factor(step: int, total: int) -> float:
        with in_their_code(function, f"schedule({step}, {total})"):
            found = float(function(step, total))
        if not (math.isfinite(found) and found >= 0):
            raise ModelError(
                f"training.schedule = {path} gives {found} at step {step} of {total}: a factor is 0 or more"
            )
        return found

    return factor
