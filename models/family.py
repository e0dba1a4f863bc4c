"""From a `model:` section and the data's shape to one network."""

from __future__ import annotations

import fnmatch
import inspect
import typing
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from engram.models import several, start
from engram.models.config import SHAPE_KEYS, ModelConfig
from engram.models.explain import in_their_code
from engram.models.families import BY_TOKENS, TABLE, ModelError, Shape, family, is_own
from engram.models.named import named
from engram.problems import nearest

__all__ = ["ModelError", "build", "built_with", "for_tokens", "misfit", "user_class"]


class Words(Protocol):
    """What is known of inputs that are whole numbers (data.dataset.Tokens)."""

    @property
    def words(self) -> tuple[str, ...]: ...
    @property
    def every_step(self) -> bool: ...
    @property
    def padded(self) -> bool: ...


def build(
    config: ModelConfig,
    shape: Shape,
    outputs: int,
    image: bool = False,
    tokens: Words | None = None,
) -> nn.Module:
    """One freshly initialized network from torch's current random state, started and frozen as the study says.

    shape: of one example; outputs: classes, or values to predict; image: inputs are [H, W] or [C, H, W]; tokens:
    inputs are whole numbers.
    """
    config = for_several(for_tokens(config, tokens), shape)
    if is_own(config.family):
        module = _user_module(config, shape, outputs)
    else:
        row = family(config.family)
        if config.depth < row.least_depth:
            raise ModelError(
                f"model.depth = {config.depth}: {config.family} needs at least one layer"
            )
        takes_too = BY_TOKENS if row.tokens else ()
        unknown = [name for name in config.options if name not in (*row.options, *takes_too)]
        if unknown:
            takes = ", ".join(row.options) or "none"
            raise ModelError(
                f"model.options.{unknown[0]} is for a class of your own; {config.family} takes {takes}"
            )
        options = {**{key: getattr(config, key) for key in SHAPE_KEYS}, **config.options}
        try:
            module = row.build(shape, outputs, image, options)
        except ValueError as error:  # an option or a shape that it cannot have
            raise ModelError(str(error)) from None
    if config.start is not None:
        start.load(module, config.start, config.fresh)
    _freeze(module, config.freeze)
    return module


def for_tokens(config: ModelConfig, tokens: Words | None) -> ModelConfig:
    """The same network for such inputs, None: for numbers; ModelError where it cannot read them."""
    if tokens is None:
        return config
    count, options = len(tokens.words), dict(config.options)
    if is_own(config.family):
        if "vocabulary" in arguments_of(user_class(config.family)):
            options.setdefault("vocabulary", count)
        return config.model_copy(update={"options": options})
    if not family(config.family).tokens:
        able = ", ".join(name for name, row in TABLE.items() if row.tokens)
        raise ModelError(
            f"model.family = {config.family} reads numbers, and the inputs are tokens: take one of {able}"
        )
    if options.get("vocabulary", count) != count:
        raise ModelError(
            f"model.options.vocabulary = {options['vocabulary']}, and the data has {count} tokens: leave it out"
        )
    options["vocabulary"] = count
    if tokens.every_step:
        options["every_step"] = True
        if config.family == "transformer" and options.setdefault("causal", True) is not True:
            raise ModelError(
                "model.options.causal = False lets each position see the token that it is to predict: leave it out"
            )
    if tokens.padded:
        options["padded"] = True
    return config.model_copy(update={"options": options})


def for_several(config: ModelConfig, shape: Shape) -> ModelConfig:
    """The same network for several inputs an example; ModelError where it takes one."""
    members = several.members_of(shape)
    if members is None:
        return config
    if not is_own(config.family):
        names = ", ".join(member.name for member in members)
        raise ModelError(
            f"model.family = {config.family} takes one input, and an example has several ({names}): take a class of "
            "your own whose forward has these arguments, or a training function"
        )
    counts = several.vocabularies(shape)
    if counts and "vocabulary" in arguments_of(user_class(config.family)):
        return config.model_copy(update={"options": {"vocabulary": counts, **config.options}})
    return config


def user_class(path: str) -> type[nn.Module]:
    """The `nn.Module` subclass that `package.module:Class` names; ModelError when there is none."""
    found = named(path, "model.family")
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ModelError(f"model.family = {path!r} is not a subclass of torch.nn.Module")
    if any(base.__name__ == "LightningModule" for base in found.__mro__):
        raise ModelError(
            f"model.family = {path!r} is a LightningModule, and its own training step would never be called: name "
            "the torch.nn.Module inside it, and say its loss, optimizer and schedule under training"
        )
    return found


def misfit(cls: type[nn.Module], given: dict[str, Any]) -> tuple[str, str, str] | None:
    """(argument, rule, fix) where a class cannot be called with these arguments; None where it can.

    Besides them it is given shape and outputs. Names and annotations are looked at; nothing is called."""
    takes = arguments_of(cls)
    parameters = inspect.signature(cls).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    listed = ", ".join(takes) or "nothing besides shape and outputs"
    for name, value in given.items():
        if name not in takes:
            if open_ended:
                continue
            close = nearest(name, takes)
            hint = f"did you mean '{close}'? " if close else ""
            return name, f"is no argument of {cls.__name__}", f"{hint}it takes {listed}"
        wrong = _wrong_type(cls, name, value)
        if wrong:
            return name, f"does not fit {cls.__name__}, which wants {wrong}", ""
    missing = [n for n, p in takes.items() if p.default is p.empty and n not in given]
    if missing:
        key = missing[0] if missing[0] in SHAPE_KEYS else f"options.{missing[0]}"
        return missing[0], f"is needed by {cls.__name__} and has no default", f"set model.{key}"
    return None


def arguments_of(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """What a class takes by name, besides shape and outputs."""
    parameters = inspect.signature(cls).parameters.values()
    single = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p for p in single[2:] if p.kind is not p.POSITIONAL_ONLY}


def _wrong_type(cls: type, name: str, value: Any) -> str | None:
    """The annotation that a value does not fit, in words; None where it fits, or where there is none to check."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        hint = typing.get_type_hints(cls.__init__).get(name)  # type: ignore[misc]
        adapter = TypeAdapter(hint, config=ConfigDict(strict=True)) if hint is not None else None
    except Exception:  # a type that pydantic does not know, or a name that is not defined
        return None
    if adapter is None:
        return None
    try:
        adapter.validate_python(
            tuple(value) if isinstance(value, list) and "tuple" in str(hint).lower() else value
        )
    except ValidationError:
        return getattr(hint, "__name__", str(hint)) if inspect.isclass(hint) else str(hint)
    return None


def built_with(config: ModelConfig, shape: Shape, tokens: Words | None) -> dict[str, Any]:
    """Every argument that a person's class is built with, its own defaults included, besides shape and outputs."""
    config = for_several(for_tokens(config, tokens), shape) if is_own(config.family) else config
    if not is_own(config.family):
        return {**{key: getattr(config, key) for key in SHAPE_KEYS}, **config.options}
    signature = inspect.signature(user_class(config.family))
    bound = signature.bind((), 0, **_accepted(config, signature))
    bound.apply_defaults()
    found = dict(list(bound.arguments.items())[2:])
    return {
        key: value if isinstance(value, bool | int | float | str | None) else repr(value)
        for key, value in found.items()
    }


def _accepted(config: ModelConfig, signature: inspect.Signature) -> dict[str, Any]:
    """What the study says, without those of width, depth, activation, dropout that the class does not take.

    A study that compares a class with families may say these for the others."""
    accepted = signature.parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    return {
        key: value
        for key, value in config.given().items()
        if takes_any or key in accepted or key not in SHAPE_KEYS
    }


def _user_module(config: ModelConfig, shape: Shape, outputs: int) -> nn.Module:
    """Class(shape, outputs, ...) with what the study sets or sweeps, and nothing else."""
    cls = user_class(config.family)
    options = _accepted(config, inspect.signature(cls))
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    told = several.shapes(shape)
    with in_their_code(cls, f"the call {cls.__name__}({told}, {outputs}{said})"):
        module = several.by_name(cls(told, outputs, **options), shape)
    if any(is_lazy(p) for p in module.parameters()):
        rows = torch.zeros(2, *shape)
        with in_their_code(cls, several.said(module, rows)):
            with torch.no_grad():  # sizes of lazy layers come from a first look at inputs
                module.eval()(rows)
            module.train()
        left = [name for name, p in module.named_parameters() if is_lazy(p)]
        if left:
            raise ModelError(f"{config.family} does not use its lazy layer of {left[0]} in forward")
    if not any(True for _ in module.parameters()):
        raise ModelError(f"{config.family} has no parameters: there is nothing to train")
    return module


def _freeze(module: nn.Module, patterns: tuple[str, ...]) -> None:
    """Leave parameters untrained whose names match; ModelError for a pattern that matches none."""
    names = dict(module.named_parameters())
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            raise ModelError(
                f"model.freeze: {pattern!r} matches no parameter; they are {', '.join(list(names)[:12])}"
                + (", ..." if len(names) > 12 else "")
            )
        for name in found:
            names[name].requires_grad_(False)
    if names and not any(p.requires_grad for p in names.values()):
        raise ModelError("every parameter is frozen: there is nothing to train")
