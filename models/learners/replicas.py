"""The replicas of a learner that are done: what they answered and told, and nothing else of them, as tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.models.learners.running import Told

SETS = ("validation", "test", "measured")
State = dict[str, Tensor]


@dataclass
class Replica:
    """A replica that is done: outputs [N, C] on each of SETS, and what it told. hard: it gives classes alone."""

    outputs: dict[str, np.ndarray]
    error: float
    loss: float
    seconds: float
    parameters: float
    hard: bool
    told: list[Told] = field(default_factory=list)

    @property
    def diverged(self) -> bool:
        return not all(np.isfinite(values).all() for values in self.outputs.values())


class Learned:
    """What stands where networks have a cohort: the replicas that are done, as tensors [done, ...]."""

    way, reason, stack = "learner", None, 1

    def __init__(self, replicas: int, device: torch.device):
        self.replicas, self.device = replicas, device
        self.done: list[Replica] = []

    @property
    def parameter_count(self) -> int | None:
        """Of one replica; None where it has none to count, or they differ."""
        counts = {replica.parameters for replica in self.done}
        known = len(counts) == 1 and not math.isnan(next(iter(counts)))
        return int(counts.pop()) if known else None

    def state_dict(self) -> State:
        """All of it as tensors; told values are [done, E], with NaN where a replica told none."""
        if not self.done:
            return {}
        found = {
            f"outputs/{name}": torch.from_numpy(np.stack([r.outputs[name] for r in self.done]))
            for name in SETS
        }
        for name in ("error", "loss", "seconds", "parameters", "hard"):
            each = [float(getattr(r, name)) for r in self.done]
            found[name] = torch.tensor(each, dtype=torch.float64)
        length = max(len(r.told) for r in self.done)
        names = dict.fromkeys(name for r in self.done for told in r.told for name in told.values)
        shape = len(self.done), length
        found["told"] = torch.full(shape, math.nan, dtype=torch.float64)
        for name in names:
            found[f"told/{name}"] = torch.full(shape, math.nan, dtype=torch.float64)
        for row, replica in enumerate(self.done):
            for place, told in enumerate(replica.told):
                found["told"][row, place] = told.epoch
                for name, value in told.values.items():
                    found[f"told/{name}"][row, place] = value
        return found

    def load_state_dict(self, state: State) -> None:
        """Put back what `state_dict` gave; KeyError where it is of something else."""
        count = len(state["error"]) if state else 0
        self.done = [_replica(state, row) for row in range(count)]

    def attributes(self) -> dict[str, Any]:
        return {}

    def load_attributes(self, state: dict[str, Any]) -> None:
        """Nothing is kept besides what state_dict has."""

    def replica(self, index: int) -> Any:
        raise LookupError(
            "of a learner's replicas predictions are kept, not what was fitted: fit it again, or save it yourself where "
            "your training function returns"
        )


def _replica(state: State, row: int) -> Replica:
    names = [name.partition("/")[2] for name in state if name.startswith("told/")]
    told = []
    for place, epoch in enumerate(state["told"][row].tolist()):
        if not math.isnan(epoch):
            values = {name: float(state[f"told/{name}"][row, place]) for name in names}
            told.append(Told(int(epoch), {n: v for n, v in values.items() if not math.isnan(v)}))
    number = {name: float(state[name][row]) for name in ("error", "loss", "seconds", "parameters")}
    outputs = {name: state[f"outputs/{name}"][row].numpy() for name in SETS}
    return Replica(outputs, **number, hard=bool(state["hard"][row]), told=told)
