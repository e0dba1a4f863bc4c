"""What a person's objects keep besides parameters and buffers: as a nest of tensors and plain values, and back.

Numbers, text, tensors, arrays, generators of random numbers, lists, queues, dicts, sets, objects of one's own and
modules that are not registered. What is of none of these kinds, such as functions and files, is left as it is; whether
a network then goes on from a checkpoint as it would have is tried before it trains (models/attempt.py).
"""

from __future__ import annotations

import copy
import random
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, str, type(None))
CONSTANT = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
OF_TORCH = frozenset(vars(nn.Module())) | {"calls"}  # what modules have, and our Dropout's count
LEFT = object()  # of no kind that is kept
DEEPEST = 8  # objects within objects


def of_module(module: nn.Module) -> dict[str, Any]:
    """{"module name:attribute": encoded} of a module and all that are registered in it."""
    held = _registered(module)
    found = {}
    for prefix, child in module.named_modules():
        for name, value in _own(child):
            encoded = encode(value, held)
            if encoded is not LEFT:
                found[f"{prefix}:{name}"] = encoded
    return found


def _own(module: nn.Module) -> list[tuple[str, Any]]:
    """A module's attributes besides those that every module has; of torch's own modules the public ones."""
    private = type(module).__module__.startswith("torch.")
    return [
        (name, value)
        for name, value in vars(module).items()
        if name not in OF_TORCH and not (private and name.startswith("_"))
    ]


def to_module(module: nn.Module, kept: dict[str, Any]) -> None:
    """Put back what `of_module` gave; lists, dicts and objects that are there are filled, not replaced."""
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    for full, encoded in kept.items():
        prefix, _, name = full.rpartition(":")
        owner = module.get_submodule(prefix)
        vars(owner)[name] = decode(encoded, vars(owner).get(name), device)


def _registered(module: nn.Module) -> frozenset[int]:
    """Identities of what is kept elsewhere: parameters, buffers, modules."""
    return frozenset(
        id(one) for one in (*module.parameters(), *module.buffers(), *module.modules())
    )


def encode(value: Any, held: frozenset[int] = frozenset(), depth: int = 0) -> Any:
    """A value as a nest of dicts of tensors, arrays and plain values; LEFT where it is of no kind that is kept.

    held: identities of what is kept elsewhere, which stays where it is."""
    if isinstance(value, PLAIN):
        return value
    if id(value) in held:
        return {"kind": "held"}
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            return LEFT  # it has a history: the last pass's, computed anew in the next one
        if value.layout == torch.sparse_coo:
            return _nest("sparse", _coordinates(value), held, depth)
        return _copy(value) if value.layout == torch.strided else LEFT
    if isinstance(value, np.ndarray):
        return LEFT if value.dtype.hasobject else value.copy()
    if isinstance(value, np.generic):
        return {"kind": "scalar", "value": np.asarray(value)}
    if isinstance(value, CONSTANT) or depth > DEEPEST:
        return LEFT
    for kind, (of, parts, _) in KINDS.items():
        if isinstance(value, of):
            return _nest(kind, parts(value), held, depth)
    if hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in (
        "torch",
        "builtins",
    ):
        return _nest("object", list(vars(value).items()), held, depth)
    return LEFT


def decode(encoded: Any, there: Any, device: torch.device) -> Any:
    """The value again, in place of `there`, which it fills where it is of the same kind."""
    if isinstance(encoded, Tensor):
        return encoded.to(device, copy=True)
    if not isinstance(encoded, dict):
        return encoded
    kind = encoded["kind"]
    if kind == "held":
        return None if there is LEFT else there
    if kind == "scalar":
        return encoded["value"][()]
    before, pairs = _places(kind, there), []
    for place, one in encoded["items"].items():
        key = decode(one["key"], None, device)
        old = before.get(key if kind in ("object", "dict") else int(place), LEFT)
        value = old if one["value"] == {"kind": "left"} else decode(one["value"], old, device)
        if value is not LEFT:
            pairs.append((key, value))
    if kind == "object":
        vars(there).update(pairs)
        return there
    return KINDS[kind][2](there, pairs)


def _nest(kind: str, pairs: list[tuple[Any, Any]], held: frozenset[int], depth: int) -> Any:
    items = {}
    for index, (key, value) in enumerate(pairs):
        name, inner = encode(key, held, depth + 1), encode(value, held, depth + 1)
        if name is LEFT:
            continue  # found again by nothing: it stays as it is
        items[str(index)] = {"key": name, "value": {"kind": "left"} if inner is LEFT else inner}
    return {"kind": kind, "items": items}


def _places(kind: str, there: Any) -> dict[Any, Any]:
    """What stands at each place or key of a container now, so that it is filled and not replaced."""
    if kind == "object":
        return dict(vars(there)) if hasattr(there, "__dict__") else {}
    of, parts, _ = KINDS[kind]
    return dict(parts(there)) if isinstance(there, of) else {}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone()


def _counted(values: Any) -> list[tuple[Any, Any]]:
    return list(enumerate(values))


def _filled(make: Callable[[list], Any]) -> Callable[[Any, list], Any]:
    """A sequence with these values: the one that is there where it can be emptied."""

    def fill(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
        values = [value for _, value in pairs]
        if isinstance(there, list | deque):
            there.clear()
            there.extend(values)
            return there
        if isinstance(there, set):
            there.clear()
            there.update(values)
            return there
        return make(values)

    return fill


def _dict(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    if not isinstance(there, dict):
        return dict(pairs)
    kept = [(key, value) for key, value in there.items() if not isinstance(key, (*PLAIN, tuple))]
    there.clear()
    there.update([*kept, *pairs])
    return there


def _generator(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    there = torch.Generator() if there in (None, LEFT) else there
    there.set_state(pairs[0][1].cpu())
    return there


def _numpys(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    there = np.random.default_rng() if there in (None, LEFT) else there
    there.bit_generator.state = pairs[0][1]
    return there


def _legacy(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    there = np.random.RandomState() if there in (None, LEFT) else there
    there.set_state(pairs[0][1])
    return there


def _pythons(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    there = random.Random() if there in (None, LEFT) else there
    there.setstate(pairs[0][1])
    return there


def _module(there: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """A module that is not registered anywhere: its tensors in place."""
    tensors = dict(_tensors(there))
    with torch.no_grad():
        for name, value in pairs:
            tensors[name].copy_(value)
    return there


def _coordinates(tensor: Tensor) -> list[tuple[Any, Any]]:
    whole = tensor.detach().coalesce()
    return [("at", whole.indices()), ("values", whole.values()), ("shape", tuple(whole.shape))]


def _sparse(there: Any, pairs: list[tuple[Any, Any]]) -> Tensor:
    at, values, shape = (value for _, value in pairs)
    return torch.sparse_coo_tensor(at, values, shape, check_invariants=True).coalesce()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


# kind -> (types, what it is made of as (key, value), how it is filled again); the first that fits
KINDS: dict[str, tuple[Any, Callable[[Any], list], Callable[[Any, list], Any]]] = {
    "tuple": (tuple, _counted, _filled(tuple)),
    "list": (list, _counted, _filled(list)),
    "deque": (deque, _counted, _filled(deque)),
    "set": (set, _counted, _filled(set)),
    "frozenset": (frozenset, _counted, _filled(frozenset)),
    "dict": (dict, lambda value: list(value.items()), _dict),
    "generator": (torch.Generator, lambda value: [("state", value.get_state())], _generator),
    "numpy": (np.random.Generator, lambda value: [("s", value.bit_generator.state)], _numpys),
    "legacy": (np.random.RandomState, lambda value: [("s", value.get_state())], _legacy),
    "random": (random.Random, lambda value: [("s", value.getstate())], _pythons),
    "module": (nn.Module, lambda value: list(_tensors(value)), _module),
    "sparse": ((), _coordinates, _sparse),  # a tensor of that layout, which has no type of its own
}


def same(one: Any, other: Any) -> bool:
    """Whether two encoded values are equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


def copied(module: nn.Module) -> nn.Module:
    """A copy of its own, without the histories of the last pass, which cannot be copied."""
    memo: dict[int, Any] = {}
    for child in module.modules():
        for tensor in _tensors_in(vars(child)):
            if tensor.grad_fn is not None:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


def _tensors_in(value: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    of, parts, _ = next(
        (row for row in KINDS.values() if isinstance(value, row[0])), (None, None, None)
    )
    if of is None and hasattr(value, "__dict__") and not isinstance(value, CONSTANT):
        inner = list(vars(value).values())
    else:
        inner = [part for _, part in parts(value)] if parts else []
    for one in inner if depth <= DEEPEST else ():
        yield from _tensors_in(one, depth + 1)


def hidden(module: nn.Module) -> list[str]:
    """Names of attributes that hold modules with parameters which are not registered, and so not trained."""
    held = _registered(module)
    found = []
    for prefix, child in module.named_modules():
        for name, value in _own(child):
            if _holds_modules(encode(value, held)):
                found.append(f"{prefix}.{name}" if prefix else name)
    return found


def _holds_modules(encoded: Any) -> bool:
    if not isinstance(encoded, dict) or "items" not in encoded:
        return False
    if encoded["kind"] == "module":
        return bool(encoded["items"])
    return any(_holds_modules(one["value"]) for one in encoded["items"].values())
