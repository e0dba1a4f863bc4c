"""Convolutional networks over sequences and images."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from models.dropout import Dropout
from models.feedforward import ACTIVATIONS


class Convolutional(nn.Module):
    """`depth` convolutions of `width` channels (kernel 5, then 3; stride 2 while the input allows), then a read-out.

    Over [T] or [C, T] inputs they are one-dimensional, over [H, W] or [C, H, W] two-dimensional.
    With width 25 and depth 3 on 40 samples this is the CNN of Greydanus & Kobak 2024 (MNIST-1D).
    inputs [B, ...shape] -> [B, outputs]
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 25,
        depth: int = 3,
        activation: str = "relu",
        dropout: float = 0.0,
        image: bool = False,
    ):
        super().__init__()
        dimensions = 2 if image else 1
        if len(shape) not in (dimensions, dimensions + 1):
            raise ValueError(
                f"a {dimensions}-d convolution needs inputs of {dimensions} or {dimensions + 1} axes, not {shape}"
            )
        self.channels = shape[0] if len(shape) == dimensions + 1 else 1
        self.size = tuple(shape[-dimensions:])
        convolution = nn.Conv2d if image else nn.Conv1d
        layers: list[nn.Module] = []
        channels, size = self.channels, self.size
        for layer in range(depth):
            kernel = 5 if layer == 0 and min(size) >= 5 else 3
            stride = 2 if min(size) >= 3 else 1
            layers += [
                convolution(channels, width, kernel, stride, padding=1),
                ACTIVATIONS[activation](),
            ]
            if dropout > 0:
                layers.append(Dropout(dropout))
            channels, size = width, tuple((s + 2 - kernel) // stride + 1 for s in size)
        self.layers = nn.Sequential(*layers)
        self.readout = nn.Linear(channels * prod(size), outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.layers(inputs.reshape(-1, self.channels, *self.size))
        return self.readout(hidden.flatten(1))
