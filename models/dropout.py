"""Dropout whose mask comes from the replica's own stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engram.models import streams


class Dropout(nn.Module):
    """Zero a fraction `rate` of the inputs while training, scale the rest by 1 / (1 - rate).

    `torch.nn.functional.dropout` cannot serve a cohort: under vmap its randomness makes replica 0
    depend on how many replicas stand beside it. Here the mask is a function of the buffer `stream`
    (set before each step) and the position. The rate is met to 1/65536. A rate of 1 gives zeros.
    A stream for each replica, int32 [R], takes inputs [R, ...]: as vmap would, at a fraction of its cost.
    Source: Srivastava et al. 2014, JMLR 15:1929.
    """

    stream: Tensor

    def __init__(self, rate: float):
        super().__init__()
        self.rate = float(rate)
        self.register_buffer("stream", torch.zeros((), dtype=torch.int32))

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return inputs
        if self.rate >= 1.0:
            return inputs * 0.0
        threshold = round(self.rate * 65536)
        count = inputs[0].numel() if self.stream.dim() else inputs.numel()
        bits = streams.uniform_bits(self.stream, count).view(inputs.shape)
        keep = (bits - (threshold - 1)).clamp(0, 1)  # bits >= threshold, which converts slowly
        return inputs * (keep.to(inputs.dtype) * (1.0 / (1.0 - self.rate)))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def adopt(module: nn.Module) -> nn.Module:
    """Replace every `nn.Dropout` of a user's module by one on the replica's own stream, in place."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            adopt(child)
    return module
