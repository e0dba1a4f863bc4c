"""Dropout whose mask comes from the replica's own stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engram.models import streams


class Dropout(nn.Module):
    """Zero a fraction `rate` of the inputs while training, scale the rest by 1 / (1 - rate).

    `torch.nn.functional.dropout` cannot serve a cohort: under vmap its randomness makes replica 0
    depend on how many replicas stand beside it. Here the mask is a function of the buffer `stream`
    (set before each step) and the position. The rate is met to 1/65536. A rate of 1 gives zeros.
    A stream for each replica, int32 [R], takes inputs [R, ...]: as vmap would, at a fraction of its cost.
    One layer that is called at several places, or at every time step, draws anew at each call of a step.
    Source: Srivastava et al. 2014, JMLR 15:1929.
    """

    stream: Tensor

    def __init__(self, rate: float):
        super().__init__()
        self.rate = float(rate)
        self.calls = 0  # since the pass began; whoever runs the network sets it back
        # Not of a state dict: those that adopt a person's layers have no other names than the person's.
        self.register_buffer("stream", torch.zeros((), dtype=torch.int32), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return inputs
        if self.rate >= 1.0:
            return inputs * 0.0
        threshold = round(self.rate * 65536)
        count = inputs[0].numel() if self.stream.dim() else inputs.numel()
        stream = streams.again(self.stream, self.calls) if self.calls else self.stream
        self.calls += 1
        bits = streams.uniform_bits(stream, count).view(inputs.shape)
        keep = (bits - (threshold - 1)).clamp(0, 1)  # bits >= threshold, which converts slowly
        return inputs * (keep.to(inputs.dtype) * (1.0 / (1.0 - self.rate)))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def adopt(module: nn.Module) -> nn.Module:
    """Replace every `nn.Dropout` of a person's module by one on the replica's own stream, in place.

    A layer that stands at several places stays one layer. Whether the network then still computes what it
    did is for the rehearsal to say (models/rehearsal.py).
    """
    return _replaced(module, nn.Dropout, lambda layer: Dropout(layer.p))


def give_back(module: nn.Module) -> nn.Module:
    """What `adopt` did, undone."""
    return _replaced(module, Dropout, lambda layer: nn.Dropout(layer.rate))


def _replaced(module: nn.Module, kind: type, make: Callable[[Any], nn.Module]) -> nn.Module:
    new: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is not None and type(child) is kind:
                parent._modules[name] = new.setdefault(child, make(child).train(child.training))
    return module
