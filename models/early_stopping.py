"""Early stopping, of each replica by itself: the best validation loss, how long ago it was, and the weights then."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


class EarlyStopping:
    """patience: evaluations without a better loss after which a replica stops.

    best_loss, waited, best_step, stopped: [R]; best: name -> [R, ...], each replica's weights at its best."""

    def __init__(self, patience: int, replicas: int):
        self.patience = patience
        self.best_loss = torch.full((replicas,), math.inf, dtype=torch.float64)
        self.waited = torch.zeros(replicas, dtype=torch.int64)
        self.best_step = torch.zeros(replicas, dtype=torch.int64)
        self.stopped = torch.zeros(replicas, dtype=torch.bool)
        self.best: State = {}

    def update(self, loss: Tensor, step: int, weights: State) -> None:
        """Note which replicas improved; those that waited too long stop and keep their best weights."""
        better = (loss < self.best_loss) & ~self.stopped
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best_step = torch.where(better, step, self.best_step)
        self.waited = torch.where(better, 0, self.waited + 1)
        self.stopped = self.stopped | (self.waited >= self.patience)
        for name, tensor in weights.items():
            kept = self.best.get(name, tensor.detach())
            chosen = better.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1))
            self.best[name] = torch.where(chosen, tensor.detach(), kept).clone()

    def state_dict(self) -> dict[str, Any]:
        """Copies on the CPU of what is known of each replica, and of the best weights."""
        names = ("best_loss", "waited", "best_step", "stopped")
        return {
            "early_stopping": {name: getattr(self, name).cpu().clone() for name in names},
            "best": {n: t.cpu().clone() for n, t in self.best.items()},
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a state made by `state_dict`."""
        for name, value in state["early_stopping"].items():
            setattr(self, name, value)
        self.best = {n: t.to(device) for n, t in state["best"].items()}
