"""Transformers: attention over tokens, the patches of an image, or time steps."""

from __future__ import annotations

import math
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.models.dropout import Dropout
from engram.models.feedforward import ACTIVATIONS, Linear
from engram.models.positions import Each, Embedding, last_of, mean_of

WIDER = 4  # times the width inside a layer's perceptron


class LayerNorm(nn.LayerNorm):
    """Layer normalization of [..., D] that takes stacked parameters as they are: weights [R, D]."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(inputs)
        plain = functional.layer_norm(inputs, inputs.shape[-1:], eps=self.eps)
        shape = (len(inputs), *[1] * (inputs.dim() - 2), -1)
        return plain * self.weight.view(shape) + self.bias.view(shape)


class Keys(nn.Linear):
    """Keys of attention, without a bias: one would change no attention, and have nothing but rounding for a gradient."""

    def __init__(self, width: int):
        super().__init__(width, width, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        weight = self.weight if self.weight.dim() == 2 else self.weight[:, None]  # [R, 1, D, D]
        return inputs @ weight.transpose(-1, -2)


class Layer(nn.Module):
    """Attention, then a perceptron at each position, each on what was normalized and added to what came in.

    Source: Vaswani et al. 2017, arXiv:1706.03762; norms first as in Xiong et al. 2020, arXiv:2002.04745."""

    def __init__(self, width: int, heads: int, activation: str, dropout: float, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(2))
        self.asked = Each(width, 2 * width)  # queries and values
        self.keys = Keys(width)
        self.told = Each(width, width)
        self.perceptron = nn.Sequential(
            Each(width, WIDER * width), ACTIVATIONS[activation](), Each(WIDER * width, width)
        )
        self.dropouts = nn.ModuleList(
            Dropout(dropout) if dropout > 0 else nn.Identity() for _ in range(2)
        )

    def forward(self, hidden: Tensor, there: Tensor | None = None) -> Tensor:
        hidden = hidden + self.dropouts[0](self.attention(self.norms[0](hidden), there))
        return hidden + self.dropouts[1](self.perceptron(self.norms[1](hidden)))

    def attention(self, hidden: Tensor, there: Tensor | None = None) -> Tensor:
        """[..., T, D] -> [..., T, D]: each position a mean of all values that are `there`, or of those up to it where causal."""
        asked = self.asked(hidden).chunk(2, -1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)  # [..., heads, T, d]
            for part in (asked[0], self.keys(hidden), asked[1])
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # [..., heads, T, T]
        if self.causal:
            time = torch.arange(hidden.shape[-2], device=hidden.device)
            scores = scores.masked_fill(time[None, :] > time[:, None], -math.inf)
        if there is not None:  # the first position always is
            scores = scores.masked_fill(~there[..., None, None, :], -math.inf)
        return self.told((scores.softmax(-1) @ value).transpose(-3, -2).flatten(-2))


class Transformer(nn.Module):
    """`depth` layers of attention of `width` numbers a position, then a read-out of their mean.

    A vector or a [T] sequence is read one number a step, a [C, T] sequence one column a step, an image [H, W] or
    [C, H, W] in squares of `patch`. vocabulary: inputs are whole numbers below it, each with a row of its own.
    causal: a position sees those before it alone, and the last one is read out. Positions are learned.
    every_step: each position is read out. padded: positions below 0 come after an example's end, and take no part.
    inputs [B, ...shape] -> [B, outputs] or [B, T, outputs]; stacked, [R, B, ...shape] -> [R, B, ...].
    """

    takes_stacked_parameters = True  # [R, ...] as they are, without vmap

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 32,
        depth: int = 2,
        activation: str = "relu",
        dropout: float = 0.0,
        image: bool = False,
        heads: int = 2,
        patch: int = 4,
        vocabulary: int | None = None,
        causal: bool = False,
        every_step: bool = False,
        padded: bool = False,
    ):
        super().__init__()
        for name, value in (("heads", heads), ("patch", patch), ("vocabulary", vocabulary or 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"model.options.{name} = {value!r} is no whole number from 1 on")
        if width % heads:
            raise ValueError(f"model.options.heads = {heads} does not divide model.width = {width}")
        if image and vocabulary is not None:
            raise ValueError(
                f"model.options.vocabulary = {vocabulary} is for sequences of tokens, and inputs are images"
            )
        self.axes, self.image, self.patch, self.shape = len(shape), image, patch, tuple(shape)
        if image and (shape[-1] % patch or shape[-2] % patch):
            raise ValueError(
                f"model.options.patch = {patch} does not divide images of {shape[-2]} x {shape[-1]}"
            )
        self.vocabulary, self.causal = vocabulary, causal
        self.every_step, self.padded = every_step, padded
        if image:
            positions = (shape[-2] // patch) * (shape[-1] // patch)
            features = prod(shape) // positions
        else:
            features = prod(shape[:-1])
            positions = shape[-1]
        self.read: nn.Module
        if vocabulary is None:
            self.read = Each(features, width)
        else:
            self.read = Embedding(vocabulary, width)
            nn.init.normal_(self.read.weight, std=0.02)  # as large as positions, or these go unseen
        self.position = nn.Parameter(torch.randn(positions, width) * 0.02)
        self.layers = nn.Sequential(
            *[Layer(width, heads, activation, dropout, causal) for _ in range(depth)]
        )
        self.norm = LayerNorm(width)
        self.readout = (Each if every_step else Linear)(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        position: Tensor = self.position
        if position.dim() == 3:
            position = position[:, None]  # [R, 1, T, D]
        steps = self._steps(inputs)
        there = steps >= 0 if self.padded else None  # [..., B, T]
        hidden = self.read(steps if there is None else steps.clamp(min=0)) + position
        for layer in self.layers:
            hidden = layer(hidden, there)
        hidden = self.norm(hidden)
        if self.every_step:
            return self.readout(hidden)
        if there is None:
            return self.readout(hidden[..., -1, :] if self.causal else hidden.mean(-2))
        return self.readout(last_of(hidden, there) if self.causal else mean_of(hidden, there))

    def _steps(self, inputs: Tensor) -> Tensor:
        """[..., B, T, features], or whole numbers [..., B, T]."""
        if self.vocabulary is not None:
            return inputs.flatten(-self.axes).long()
        if not self.image:
            return (
                inputs.flatten(-self.axes, -2).transpose(-1, -2)
                if self.axes > 1
                else inputs[..., None]
            )
        size = self.patch
        whole = inputs if self.axes == 3 else inputs.unsqueeze(-3)
        squares = whole.unflatten(-2, (-1, size)).unflatten(-1, (-1, size))  # [.., C, h, p, w, p]
        return squares.movedim((-5, -3, -1), (-3, -2, -1)).flatten(-3).flatten(-3, -2)
