"""Networks of several inputs: rows of numbers are taken apart, and the network is called with the inputs by their names.

What stands where in a row is the shape's to tell (data.members.Members), which this knows by its form alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engram.models.families import ModelError, Shape


class Member(Protocol):
    """One input. shape: of an example's; whole: of whole numbers, the largest and one more; None: float32."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def whole(self) -> int | None: ...
    @property
    def size(self) -> int: ...


def members_of(shape: Shape) -> tuple[Member, ...] | None:
    """What stands where in a row of this shape; None where an example is one array."""
    found: tuple[Member, ...] | None = getattr(shape, "members", None)
    return found


def shapes(shape: Shape) -> Shape | dict[str, Shape]:
    """The shape as a person's class is told it: of several inputs the shape of each."""
    members = members_of(shape)
    return tuple(shape) if members is None else {m.name: m.shape for m in members}


def vocabularies(shape: Shape) -> dict[str, int]:
    """How many whole numbers there are of each input that is whole numbers."""
    return {m.name: m.whole for m in members_of(shape) or () if m.whole is not None}


class ByName:
    """Before a network's forward: rows [B, numbers] become its inputs by name. A call that names them is left alone."""

    def __init__(self, members: tuple[Member, ...]):
        self.members = members

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) != 1 or kwargs:
            return None
        return (), tensors(args[0], self.members)


def by_name(module: nn.Module, shape: Shape) -> nn.Module:
    """The same network, called with rows. ModelError where its forward does not take the names."""
    members = members_of(shape)
    if members is None:
        return module
    takes = inspect.signature(module.forward).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        unknown = [m.name for m in members if m.name not in takes]
        needed = {
            n for n, p in takes.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        }
        if unknown or needed - {m.name for m in members}:
            raise ModelError(
                f"{type(module).__name__}.forward takes ({', '.join(takes)}), and an example has the inputs "
                f"{', '.join(m.name for m in members)}: name its arguments so"
            )
    module.register_forward_pre_hook(ByName(members), with_kwargs=True)
    return module


class OfRows(nn.Module):
    """A network of several inputs as one of rows, without a hook: what can be exported."""

    def __init__(self, network: nn.Module, members: tuple[Member, ...]):
        super().__init__()
        self.network, self.members = network, members

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.network(**tensors(rows, self.members))
        return found


def said(module: nn.Module, rows: Tensor) -> str:
    """The call of a network's forward with such rows, as its author would write it."""
    hooks = module._forward_pre_hooks.values()
    found = next((hook for hook in hooks if isinstance(hook, ByName)), None)
    if found is None:
        return f"forward(inputs {list(rows.shape)})"
    each = ", ".join(f"{m.name} {[len(rows), *m.shape]}" for m in found.members)
    return f"forward({each})"


def made_up(rows: Tensor, shape: Shape, generator: torch.Generator) -> Tensor:
    """Random rows with whole numbers where they belong."""
    start = 0
    for member in members_of(shape) or ():
        piece = rows[:, start : start + member.size]
        if member.whole is not None:
            piece.copy_(torch.randint(max(member.whole, 1), piece.shape, generator=generator))
        start += member.size
    return rows


def tensors(rows: Tensor, members: tuple[Member, ...]) -> dict[str, Tensor]:
    """Rows [B, numbers] as each input [B, ...], whole numbers as int64."""
    found, start = {}, 0
    for member in members:
        piece = rows[:, start : start + member.size].reshape(-1, *member.shape)
        found[member.name] = piece if member.whole is None else piece.long()
        start += member.size
    return found


def arrays(rows: np.ndarray, members: tuple[Member, ...] | None) -> Any:
    """The same of numpy arrays, copied; rows as they are where an example is one array."""
    if members is None:
        return rows
    found, start = {}, 0
    for member in members:
        piece = rows[:, start : start + member.size].reshape(len(rows), *member.shape)
        found[member.name] = piece.astype(np.float32 if member.whole is None else np.int64)
        start += member.size
    return found


def to_torch(inputs: Any, device: torch.device | str = "cpu") -> Any:
    """A learner's inputs as tensors: one, or several by their names."""
    if isinstance(inputs, Mapping):
        return {name: torch.from_numpy(np.array(each)).to(device) for name, each in inputs.items()}
    return torch.from_numpy(np.array(inputs)).to(device)


def called(model: Any, inputs: Any) -> Any:
    """A model's answer to inputs, by their names where they are several."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)
