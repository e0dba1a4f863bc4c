"""Convolutional networks over sequences and images."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.models.dropout import Dropout
from engram.models.feedforward import ACTIVATIONS, Linear, StackedLinear

PADDING = 1


class _Convolution(nn.modules.conv._ConvNd):
    """A convolution that takes stacked parameters as they are: inputs [R, B, C, ...], one matrix product a replica.

    torch's own are for one network; R of them as groups of one take a CPU twice as long as the product.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 2 + len(self.kernel_size):
            return super().forward(inputs)
        # [R, B, positions.., K C]
        patches = Patches.apply(inputs, self.kernel_size, self.stride[0])
        weight = self.weight.flatten(3).transpose(2, 3).flatten(2)  # [R, out, K C]
        # [R, B positions.., out]
        outputs = StackedLinear.apply(patches.flatten(1, -2), weight, self.bias)
        return outputs.view(*patches.shape[:-1], -1).movedim(-1, 2)


class Convolution1d(_Convolution, nn.Conv1d):
    """Over [R, B, C, T], or [B, C, T] where it is not stacked."""


class Convolution2d(_Convolution, nn.Conv2d):
    """Over [R, B, C, H, W], or [B, C, H, W] where it is not stacked."""


class Patches(torch.autograd.Function):
    """What a convolution's kernel sees at each position, as rows of numbers.

    inputs [R, B, C, sides..], zeros around them -> [R, B, positions.., K C], K the numbers of a kernel in one channel.
    Autograd's own way back through `Tensor.unfold` takes 1.4 times as long for a whole step.
    """

    @staticmethod
    def forward(context, inputs: Tensor, kernel: tuple[int, ...], stride: int) -> Tensor:
        zeros = (0, 0) + (PADDING, PADDING) * len(kernel)
        windows = functional.pad(inputs.movedim(2, -1), zeros)  # [R, B, sides.., C]
        context.kernel, context.stride, context.sides = kernel, stride, windows.shape[2:-1]
        for axis, size in enumerate(kernel, 2):
            windows = windows.unfold(axis, size, stride)
        axis = 2 + len(kernel)  # [R, B, positions.., C, kernel..]: channels last, they lie together
        return windows.movedim(axis, -1).flatten(axis)

    @staticmethod
    def backward(context, gradient: Tensor):
        kernel, axis = context.kernel, 2 + len(context.kernel)
        gradient = gradient.unflatten(-1, (*kernel, -1)).movedim(-1, axis)
        for side, size in reversed(list(enumerate(context.sides, 2))):
            gradient = _folded(gradient, side, size, context.stride)
        for side, size in enumerate(context.sides, 2):
            gradient = gradient.narrow(side, PADDING, size - 2 * PADDING)
        return gradient.movedim(-1, 2), None, None


def _folded(windows: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """What `unfold(axis, kernel, stride)` read, each number as often as it was read: [.., positions, .., kernel]."""
    positions, kernel = windows.shape[axis], windows.shape[-1]
    shape = list(windows.shape[:-1])
    shape[axis] = size
    whole = windows.new_zeros(shape)
    by_position, seen = whole.movedim(axis, 0), windows.movedim(axis, 0)
    for offset in range(kernel):
        by_position[offset : offset + stride * (positions - 1) + 1 : stride] += seen[..., offset]
    return whole


class Convolutional(nn.Module):
    """`depth` convolutions of `width` channels (kernel 5, then 3; stride 2 while the input allows), then a read-out.

    Over [T] or [C, T] inputs they are one-dimensional, over [H, W] or [C, H, W] two-dimensional.
    With width 25 and depth 3 on 40 samples this is the CNN of Greydanus & Kobak 2024 (MNIST-1D).
    inputs [B, ...shape] -> [B, outputs]; stacked, [R, B, ...shape] -> [R, B, outputs].
    """

    takes_stacked_parameters = True  # [R, ...] as they are, without vmap

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
        self.axes = len(shape)
        self.channels = shape[0] if len(shape) == dimensions + 1 else 1
        self.size = tuple(shape[-dimensions:])
        convolution = Convolution2d if image else Convolution1d
        layers: list[nn.Module] = []
        channels, size = self.channels, self.size
        for layer in range(depth):
            kernel = 5 if layer == 0 and min(size) >= 5 else 3
            stride = 2 if min(size) >= 3 else 1
            layers += [
                convolution(channels, width, kernel, stride, padding=PADDING),
                ACTIVATIONS[activation](),
            ]
            if dropout > 0:
                layers.append(Dropout(dropout))
            channels, size = width, tuple((s + 2 - kernel) // stride + 1 for s in size)
        self.layers = nn.Sequential(*layers)
        self.readout = Linear(channels * prod(size), outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.flatten(-self.axes).unflatten(-1, (self.channels, *self.size))
        hidden = self.layers(inputs)
        return self.readout(hidden.flatten(-1 - len(self.size)))
