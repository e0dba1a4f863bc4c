"""Recurrent networks: plain (Elman), GRU and LSTM cells."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from engram.models.dropout import Dropout
from engram.models.feedforward import Linear, linear
from engram.models.positions import Each, Embedding, last_of

CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """`depth` recurrent layers of `width` units; the hidden states of all time steps feed a linear read-out.

    A vector or a [T] sequence is read one number a step, an [H, W] image one row a step. Reading out
    all steps, as the GRU of Greydanus & Kobak 2024 does, keeps early inputs within reach.
    vocabulary: inputs are whole numbers below it, each with a row of its own. every_step: each step is read out.
    padded: steps below 0 come after an example's end, and the last before them is what is read out.
    `fused` selects torch's fused kernels (fast, cannot be stacked) or an explicit loop over time
    (stackable); both use the same parameters and agree within float tolerance.
    inputs [B, ...shape] -> [B, outputs] or [B, T, outputs]; stacked, [R, B, ...shape] -> [R, B, ...].
    """

    takes_stacked_parameters = True  # [R, ...] as they are, without vmap

    def __init__(
        self,
        cell: str,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 16,
        depth: int = 1,
        activation: str = "tanh",
        dropout: float = 0.0,
        vocabulary: int | None = None,
        every_step: bool = False,
        padded: bool = False,
    ):
        super().__init__()
        self.cell = cell
        self.nonlinearity = "relu" if activation == "relu" else "tanh"
        self.vocabulary, self.every_step, self.padded = vocabulary, every_step, padded
        self.features = shape[-1] if len(shape) > 1 and vocabulary is None else 1
        self.time = prod(shape) // self.features
        self.axes = len(shape)
        options: dict[str, Any] = {"nonlinearity": self.nonlinearity} if cell == "rnn" else {}
        layer_class: Any = CELLS[cell]  # each knows its own name, which their common class asks for
        self.read = None if vocabulary is None else Embedding(vocabulary, width)
        first = self.features if vocabulary is None else width
        self.layers = nn.ModuleList(
            layer_class(first if layer == 0 else width, width, batch_first=True, **options)
            for layer in range(depth)
        )
        self.dropouts = nn.ModuleList(
            Dropout(dropout) if dropout > 0 else nn.Identity() for _ in range(depth)
        )
        self.readout: nn.Module = (
            Each(width, outputs)
            if every_step
            else Linear(width if padded else self.time * width, outputs)
        )
        self.fused = False

    def forward(self, inputs: Tensor) -> Tensor:
        there = inputs.flatten(-self.axes) >= 0 if self.padded else None  # [B, T]
        if self.read is not None:
            steps = inputs.flatten(-self.axes).long()
            hidden = self.read(steps if there is None else steps.clamp(min=0))
        else:
            hidden = inputs.flatten(-self.axes).unflatten(
                -1, (self.time, self.features)
            )  # [B, T, I]
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            hidden = layer(hidden)[0] if self.fused else self.unroll(layer, hidden)  # [B, T, H]
            hidden = dropout(hidden)
        if self.every_step:
            return self.readout(hidden)
        # No step looks ahead, so that what comes after the end changes nothing before it.
        return self.readout(hidden.flatten(-2) if there is None else last_of(hidden, there))

    def unroll(self, layer: Any, inputs: Tensor) -> Tensor:
        """The layer's hidden states [..., B, T, H], one explicit step at a time."""
        step = getattr(self, f"step_{self.cell}")
        projected = linear(inputs.flatten(-3, -2), layer.weight_ih_l0, layer.bias_ih_l0)
        projected = projected.unflatten(-2, inputs.shape[-3:-1])  # [..., B, T, gates x H]
        state = projected.new_zeros(*inputs.shape[:-2], layer.hidden_size)
        memory, states = state, []
        # Slicing projected[:, t] would make backward quadratic in time.
        for now in projected.unbind(-2):
            past = linear(state, layer.weight_hh_l0, layer.bias_hh_l0)
            state, memory = step(now, past, state, memory)
            states.append(state)
        return torch.stack(states, -2)

    def step_rnn(
        self, now: Tensor, past: Tensor, state: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        total = now + past
        return (total.relu() if self.nonlinearity == "relu" else total.tanh()), memory

    def step_gru(
        self, now: Tensor, past: Tensor, state: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        reset_now, update_now, new_now = now.chunk(3, -1)
        reset_past, update_past, new_past = past.chunk(3, -1)
        update = torch.sigmoid(update_now + update_past)
        new = torch.tanh(new_now + torch.sigmoid(reset_now + reset_past) * new_past)
        return new + update * (state - new), memory

    def step_lstm(
        self, now: Tensor, past: Tensor, state: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        enter, forget, candidate, leave = (now + past).chunk(4, -1)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(candidate)
        return torch.sigmoid(leave) * torch.tanh(memory), memory
