"""Networks, a loss, a schedule, an augmentation and a measure as people write them, for devices that compute nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Normed(nn.Module):
    """What can be stacked: linear layers, a norm, dropout."""

    def __init__(self, shape, outputs, width=8, dropout=0.2):
        super().__init__()
        self.first = nn.Linear(shape[0], width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


class Counting(Normed):
    """What cannot: it counts its calls, in an attribute that stacked replicas would share."""

    def __init__(self, shape, outputs, width=8):
        super().__init__(shape, outputs, width)
        self.seen = 0
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x):
        self.seen += 1
        hidden = torch.relu(self.first(x))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(0)
        return self.last(hidden - self.mean)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none").clamp(max=4.0)


def schedule(step: int, total: int) -> float:
    return 1.0 / (1 + step)


def augment(inputs: Tensor) -> Tensor:
    return inputs + 0.01


def confidence(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the largest logit, of one replica."""
    return float(predictions.max(-1).mean())
