"""What networks over sequences share: a layer at every position, a row for each token, where an example ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.models.feedforward import Linear


class Each(Linear):
    """A linear layer at every position: [B, T, in] -> [B, T, out], stacked [R, B, T, in] -> [R, B, T, out]."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return functional.linear(inputs, self.weight, self.bias)
        return super().forward(inputs.flatten(1, -2)).unflatten(1, inputs.shape[1:-1])


class Embedding(nn.Embedding):
    """Rows of a table for whole numbers [B, T]; stacked, of each replica's own table for [R, B, T]."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return functional.embedding(inputs, self.weight)
        # One table of all replicas' rows: a replica's begin at its number times the size of one.
        count, size = self.weight.shape[:2]
        first = torch.arange(count, device=inputs.device).view(-1, 1, 1) * size
        return functional.embedding(inputs + first, self.weight.flatten(0, 1))


def last_of(hidden: Tensor, there: Tensor) -> Tensor:
    """The last position of each example: hidden [..., T, D] where `there` [..., T] -> [..., D]."""
    index = (there.sum(-1) - 1).clamp(min=0)[..., None, None]  # [..., 1, 1]
    return hidden.gather(-2, index.expand(*index.shape[:-1], hidden.shape[-1])).squeeze(-2)


def mean_of(hidden: Tensor, there: Tensor) -> Tensor:
    """The mean over each example's positions: hidden [..., T, D] where `there` [..., T] -> [..., D]."""
    weights = there[..., None].to(hidden.dtype)
    return (hidden * weights).sum(-2) / weights.sum(-2).clamp(min=1)
