"""Fully connected networks."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.models.dropout import Dropout

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[B, in] -> [B, out]; with stacked parameters, [R, B, in] -> [R, B, out], each replica through its own."""
    if weight.dim() == 2:
        return functional.linear(inputs, weight, bias)
    return torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))


class StackedLinear(torch.autograd.Function):
    """`linear` with stacked parameters, whose gradients come as the parameters lie in memory.

    Autograd's come transposed and are copied into place: a tenth of a small network's step.
    """

    @staticmethod
    def forward(context, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(inputs, weight)
        return linear(inputs, weight, bias)

    @staticmethod
    def backward(context, gradient: Tensor):
        inputs, weight = context.saved_tensors
        precision = gradient.dtype  # in training of mixed precision, that of the outputs
        needs_inputs, *_ = context.needs_input_grad
        return (
            torch.bmm(gradient, weight.to(precision)) if needs_inputs else None,
            torch.bmm(gradient.transpose(1, 2), inputs.to(precision)),
            gradient.sum(1),
        )


class Linear(nn.Linear):
    """A linear layer that takes stacked parameters as they are."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 3:
            return StackedLinear.apply(inputs, self.weight, self.bias)
        return linear(inputs, self.weight, self.bias)


class Feedforward(nn.Module):
    """`depth` hidden layers of `width` units, each linear - activation - dropout, then a linear read-out.

    depth 0 is a linear model. inputs [B, ...] -> [B, outputs]; stacked, [R, B, ...] -> [R, B, outputs].
    """

    takes_stacked_parameters = True  # [R, ...] as they are, without vmap

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
