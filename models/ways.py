"""The networks of a trial as a cohort, in the way that is fast and proven, or plain.

The families of the house take stacked parameters, which tests compare with plain training; a person's class is
rehearsed first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from engram.models import streams
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.dropout import adopt
from engram.models.families import Shape, Way, family, is_own
from engram.models.family import build
from engram.models.plain import PlainCohort
from engram.models.rehearsal import attempt, known, rehearse
from engram.models.training import Augment, Examples

STACKED = Way("stacked")
# Of training, what the way or its success may depend on.
ASKED_OF = (
    "optimizer options loss label_smoothing class_weights schedule accumulate batch_size ema precision"
).split()


def of_house(model: ModelConfig) -> Way:
    """How a family of the house runs: stacked, unless its options say otherwise."""
    reason = family(model.family).alone(model.options)
    return STACKED if reason is None else Way("plain", reason)


def way(
    model: ModelConfig,
    training: TrainingConfig,
    shape: Shape,
    outputs: int,
    image: bool,
    examples: Examples,
    train_size: int,
    device: torch.device,
    augment: Augment | None = None,
) -> Way:
    """How networks of this kind run. ModelError, explained, where they cannot be trained at all.

    examples: some of the study's own; train_size: of a replica, for the last batch of an epoch."""
    if not is_own(model.family):
        return of_house(model)
    asked = tuple(str(getattr(training, name)) for name in ASKED_OF)
    last = train_size % training.step_size % training.batch_size
    kind = (
        model.model_dump_json(),
        asked,
        shape,
        outputs,
        image,
        last,
        device.type,
        augment is None,
    )
    make = maker(model, shape, outputs, image)
    return known(
        kind, lambda: rehearse(make, examples, outputs, training, train_size, device, augment)
    )


def tried(
    model: ModelConfig,
    training: TrainingConfig,
    shape: Shape,
    outputs: int,
    image: bool,
    examples: Examples,
    train_size: int,
    augment: Augment | None = None,
) -> None:
    """Build and train one replica for a few steps on a CPU; ModelError, explained, where that fails."""
    make = maker(model, shape, outputs, image)
    attempt(make, examples, outputs, training, train_size, torch.device("cpu"), augment)


def maker(
    model: ModelConfig, shape: Shape, outputs: int, image: bool
) -> Callable[[int], nn.Module]:
    """Fresh networks by number: the same number gives the same network."""

    def make(replica: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.key("rehearsal", replica))
            return build(model, shape, outputs, image)

    return make


def cohort(
    modules: list[nn.Module], device: torch.device, stack: int | None, how: Way
) -> Cohort | PlainCohort:
    """The networks as one cohort; `stack` replicas in a pass where they are stacked."""
    if how.way == "plain":
        return PlainCohort(modules, device, how.reason)
    if how.way == "vmapped":
        modules = [adopt(module) for module in modules]
    return Cohort(modules, device, stack)
