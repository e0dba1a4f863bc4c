"""The networks of a trial as a cohort, in the way that is fast and proven, or plain.

The families of the house take stacked parameters, which tests compare with plain training; a person's class is
rehearsed first.
"""

from __future__ import annotations

import torch
from torch import nn

from engram.models import start, streams
from engram.models.attempt import Case, attempt
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig
from engram.models.dropout import adopt
from engram.models.evaluation import Networks
from engram.models.families import Way, family, is_own
from engram.models.plain import PlainCohort
from engram.models.rehearsal import known, rehearse

__all__ = ["STACKED", "Case", "Way", "cohort", "of_house", "tried", "way"]
STACKED = Way("stacked")


def of_house(model: ModelConfig) -> Way:
    """How a family of the house runs: stacked, unless its options say otherwise."""
    reason = family(model.family).alone(model.options)
    return STACKED if reason is None else Way("plain", reason)


def way(case: Case) -> Way:
    """How networks of this kind run. ModelError, explained, where they cannot be trained at all."""
    with streams.forked():
        return known(case.kind, lambda: _started(case, _found(case)))


def _found(case: Case) -> Way:
    return rehearse(case) if is_own(case.model.family) else of_house(case.model)


def _started(case: Case, found: Way) -> Way:
    """The same, with a note of what every replica starts from."""
    if case.model.start is None:
        return found
    note = start.matched(case.make(0), case.model.start, case.model.fresh).words
    return Way(found.way, found.reason, (note, *found.notes))


def tried(case: Case) -> None:
    """Build and train one replica for a few steps; ModelError, explained, where that fails."""
    with streams.forked():
        attempt(case)


def cohort(modules: list[nn.Module], device: torch.device, stack: int | None, how: Way) -> Networks:
    """The networks as one cohort; `stack` replicas in a pass where they are stacked."""
    if how.way == "plain":
        made: Networks = PlainCohort(modules, device, how.reason)
    else:
        if how.way == "vmapped":
            modules = [adopt(module) for module in modules]
        made = Cohort(modules, device, stack)
    made.notes = how.notes
    return made
