"""Fully connected networks."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from models.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Linear(nn.Linear):
    """inputs [..., B, in] -> [..., B, out]; with stacked parameters, each replica's inputs through its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return super().forward(inputs)
        return torch.baddbmm(self.bias[:, None], inputs, self.weight.transpose(1, 2))


class Feedforward(nn.Module):
    """`depth` hidden layers of `width` units, each linear - activation - dropout, then a linear read-out.

    depth 0 is a linear model. inputs [B, ...] -> [B, outputs]; stacked, [R, B, ...] -> [R, B, outputs].
    """

    stacks = True  # takes parameters with a leading axis of replicas as they are, without vmap

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 100,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.axes = len(shape)
        layers: list[nn.Module] = []
        size = prod(shape)
        for _ in range(depth):
            layers += [Linear(size, width), ACTIVATIONS[activation]()]
            if dropout > 0:
                layers.append(Dropout(dropout))
            size = width
        self.layers = nn.Sequential(*layers)
        self.readout = Linear(size, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.layers(inputs.flatten(-self.axes)))
