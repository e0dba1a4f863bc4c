"""Inputs as a person brings them, checked and read as float32 or as tokens: one array an example, or several by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram.data import numbered, several
from engram.data.config import DataConfig
from engram.data.dataset import Kind, Tokens
from engram.data.pictures import Encoded, channels_first, shape_text, unscaled
from engram.data.raw import Raw, bad, finite
from engram.data.several import Member


@dataclass(frozen=True)
class Inputs:
    """Inputs of the pool and of the test set, what they are, and what was decided.

    tokens: of texts alone, what they stand for; members: what stands where in a row of several inputs."""

    pool: np.ndarray
    test: np.ndarray
    kind: Kind
    notes: list[str]
    tokens: Tokens | None = None
    members: tuple[Member, ...] | None = None


def read(raw: Raw, pool: np.ndarray, test: np.ndarray, config: DataConfig) -> Inputs:
    """Those rows of the inputs, and of the test set's own where there is one."""
    if isinstance(raw.inputs, Mapping):
        return _several(raw, pool, test, config)
    if not isinstance(raw.inputs, numbered.Texts):
        numbered.refuse_without_text(config)
    return _one(raw, pool, test, config)


def _one(
    raw: Raw, pool: np.ndarray, test: np.ndarray, config: DataConfig, name: str = "x"
) -> Inputs:
    own_test, texts = raw.test_inputs is not None, isinstance(raw.inputs, numbered.Texts)
    test_name, tokens = name.replace("x", "x_test", 1), None
    notes: list[str] = []
    if own_test:
        _same_form(raw.inputs, raw.test_inputs, name, config)
    if texts:
        inputs, test_inputs, tokens, notes = numbered.of_texts(raw, pool, test, config)
    elif own_test:
        inputs = numbers(raw, raw.inputs, name, config, pool)
        test_inputs = numbers(raw, raw.test_inputs, test_name, config, test)
    else:  # at once: pictures decide together whether they are grey
        both = numbers(raw, raw.inputs, name, config, np.concatenate([pool, test]))
        inputs, test_inputs = both[: len(pool)], both[len(pool) :].copy()
    notes += [note for part in (raw.inputs, raw.test_inputs) for note in getattr(part, "notes", ())]
    if inputs.shape[1:] != test_inputs.shape[1:]:
        rule = f"{test_name} has examples of shape {test_inputs.shape[1:]}, {name} of {inputs.shape[1:]}"
        raise bad(config, rule, "give both the same shape")
    kind = raw.kind or ("tokens" if texts else "vector" if inputs.ndim == 2 else "image")
    if kind == "image" and not isinstance(raw.inputs, Encoded):
        turned = channels_first(inputs, config)
        if turned is not inputs:
            notes.append(f"channels last: read as {shape_text(turned)}, channels first")
        inputs, test_inputs = turned, channels_first(test_inputs, config)
        notes += unscaled(inputs)
    return Inputs(inputs, test_inputs, kind, notes, tokens)


def _several(raw: Raw, pool: np.ndarray, test: np.ndarray, config: DataConfig) -> Inputs:
    """Each input as if it were the only one, but whole numbers stay whole; and all of them side by side."""
    if raw.kind is not None:
        rule = f"kind is {raw.kind!r}, and there are several inputs"
        raise bad(config, rule, "leave it out: each is what its array is")
    if not has_text(raw.inputs):
        numbered.refuse_without_text(config)
    parts, words, notes = {}, {}, []
    for name, inputs in raw.inputs.items():
        own = None if raw.test_inputs is None else raw.test_inputs[name]
        called = f"x[{name!r}]"
        if own is not None:
            _same_form(inputs, own, called, config)
        if _whole(inputs) or len(inputs.shape) == 1:
            tested = inputs if own is None else own
            parts[name] = (
                _plain(raw, inputs, called, pool, config),
                _plain(raw, tested, called, test, config),
            )
            if parts[name][0].shape[1:] != parts[name][1].shape[1:]:
                rule = f"x_test[{name!r}] has examples of another shape than {called}"
                raise bad(config, rule, "give both the same shape")
            continue
        found = _one(replace(raw, inputs=inputs, test_inputs=own), pool, test, config, called)
        parts[name] = found.pool, found.test
        notes += [f"{name}: {note}" for note in found.notes]
        if found.tokens is not None:
            words[name] = len(found.tokens.words)
    rows, test_rows, members = several.joined(parts, words, config)
    count = f"{len(members)} inputs" if len(members) > 1 else "1 input"
    said = f"{count} by name: {', '.join(map(str, members))}"
    return Inputs(rows, test_rows, "several", [said, *notes], members=members)


def _same_form(inputs: Any, test: Any, name: str, config: DataConfig) -> None:
    """Refuse texts beside numbers."""
    if isinstance(inputs, numbered.Texts) != isinstance(test, numbered.Texts):
        rule = f"{name} and {name.replace('x', 'x_test', 1)} are not both texts"
        raise bad(config, rule, "give both the same form")


def _whole(inputs: Any) -> bool:
    """Whether it is whole numbers that stay whole: bytes of pictures are brightness."""
    dtype = getattr(inputs, "dtype", None)
    if dtype is None or dtype.kind not in "iu":
        return False
    return not (dtype == np.uint8 and len(inputs.shape) > 2)


def _plain(raw: Raw, inputs: Any, name: str, rows: np.ndarray, config: DataConfig) -> np.ndarray:
    """Whole numbers, or one number an example, as they are."""
    if _whole(inputs):
        return np.asarray(inputs[rows]).astype(np.int64)
    return numbers(raw, inputs, name, config, rows)


def numbers(
    raw: Raw, inputs: Any, name: str, config: DataConfig, rows: np.ndarray | None = None
) -> np.ndarray:
    """Those rows as float32, finite: [n, ...]."""
    array = np.asarray(inputs if rows is None else inputs[rows])
    if array.dtype.kind not in "biuf":
        raise bad(config, f"{name} is of type {array.dtype}, not numbers", "give real numbers")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32, copy=False)
    if not raw.fill and not np.isfinite(single).all():
        finite(raw, single, name, config, rows)
    if array.dtype == np.uint8 and array.ndim > 2:
        single /= np.float32(255)  # bytes are brightness: 0..255 -> [0, 1]
    return single


def shaped(inputs: Any, name: str, config: DataConfig) -> Any:
    """An array, or what reads like one, of examples with two to four axes; or several of them by name."""
    if not isinstance(inputs, Mapping):
        return _shaped(inputs, name, config)
    found = {
        each: _shaped(inputs[each], f"{name}[{each!r}]", config, least=1)
        for each in several.names(inputs, name, config)
    }
    lengths = {each: array.shape[0] for each, array in found.items()}
    first = next(iter(lengths))
    for each, length in lengths.items():
        if length != lengths[first]:
            rule = f"{name}[{first!r}] has {lengths[first]} rows and {name}[{each!r}] {length}"
            raise bad(config, rule, "give each example all of its inputs")
    return found


def _shaped(inputs: Any, name: str, config: DataConfig, least: int = 2) -> Any:
    array = inputs
    if not hasattr(inputs, "shape") or (
        hasattr(inputs, "__array__") and not isinstance(inputs, np.ndarray)
    ):
        array = np.asarray(inputs)  # lists, data frames, tensors
    if isinstance(array, np.ndarray) and (found := numbered.texts(array, name)) is not None:
        return found
    if not least <= len(array.shape) <= 4 or 0 in array.shape:
        raise bad(
            config,
            f"{name} has shape {tuple(array.shape)}",
            "give [n, features], [n, T], [n, H, W] or [n, C, H, W] with n of at least 1",
        )
    return array


def rows_of(inputs: Any) -> int:
    """How many examples there are."""
    one = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    return int(one.shape[0])


def has_text(inputs: Any) -> bool:
    """Whether they are texts, or some of several are."""
    each = inputs.values() if isinstance(inputs, Mapping) else (inputs,)
    return any(isinstance(one, numbered.Texts) for one in each)
