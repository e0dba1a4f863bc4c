"""From a `model:` section and the data's shape to one network."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from torch import nn

from engram.models.config import ModelConfig
from engram.models.dropout import adopt
from engram.models.families import ModelError, family, is_own


def build(
    config: ModelConfig, shape: tuple[int, ...], outputs: int, image: bool = False
) -> nn.Module:
    """One freshly initialized network from torch's current random state.

    shape: of one example; outputs: classes, or values to predict; image: inputs are [H, W] or [C, H, W].
    """
    options: dict[str, Any] = {
        "width": config.width,
        "depth": config.depth,
        "activation": config.activation,
        "dropout": config.dropout,
    }
    if is_own(config.family):
        return adopt(_user_module(config.family, shape, outputs, options))
    row = family(config.family)
    if config.depth < row.least_depth:
        raise ModelError(f"model.depth = {config.depth}: {config.family} needs at least one layer")
    return row.build(shape, outputs, image, options)


def user_class(path: str) -> type[nn.Module]:
    """The `nn.Module` subclass that `package.module:Class` names; ModelError when there is none."""
    module_name, _, class_name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"model.family = {path!r} cannot be imported: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ModelError(f"model.family = {path!r} is not a subclass of torch.nn.Module")
    return found


def _user_module(path: str, shape: tuple[int, ...], outputs: int, options: dict) -> nn.Module:
    """Call Class(shape, outputs, ...) with those of width, depth, activation, dropout that it takes."""
    cls = user_class(path)
    accepted = inspect.signature(cls).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    try:
        return cls(
            shape, outputs, **{k: v for k, v in options.items() if takes_any or k in accepted}
        )
    except TypeError as error:
        raise ModelError(
            f"model.family = {path!r} must be callable as Class(shape, outputs, ...): {error}"
        ) from error
