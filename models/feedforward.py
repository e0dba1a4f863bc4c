"""Fully connected networks."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from models.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Feedforward(nn.Module):
    """`depth` hidden layers of `width` units, each linear - activation - dropout, then a linear read-out.

    depth 0 is a linear model. inputs [B, ...] -> [B, outputs]
    """

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
        layers: list[nn.Module] = []
        size = prod(shape)
        for _ in range(depth):
            layers += [nn.Linear(size, width), ACTIVATIONS[activation]()]
            if dropout > 0:
                layers.append(Dropout(dropout))
            size = width
        self.layers = nn.Sequential(*layers)
        self.readout = nn.Linear(size, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.layers(inputs.flatten(1)))
