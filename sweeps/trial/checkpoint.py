"""Checkpoints of a cohort in training, as bytes that travel.

A checkpoint is an envelope (magic, format, length, SHA-256) around an NPZ archive without pickle:
nothing in it is run, and nothing is read before its digest has been checked. Knows neither Ray nor
where a state comes from: a state is a nest of dicts of tensors and plain numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

FORMAT = 1
MAGIC = b"ENGRAMCK"
HEADER = struct.Struct("<8sIQ32s")  # magic, format, bytes that follow, their SHA-256

State = dict[str, Any]


class Unreadable(ValueError):
    """Bytes that are no checkpoint of this version."""


def encode(state: State, about: dict[str, Any]) -> bytes:
    """A state and a few plain values about it (what it belongs to) as bytes."""
    arrays: dict[str, np.ndarray] = {}
    plain: dict[str, Any] = {"about": about}
    layout = _pack(state, arrays)
    buffer = io.BytesIO()
    meta = json.dumps({**plain, "state": layout}).encode()
    np.savez(buffer, allow_pickle=False, meta=np.frombuffer(meta, np.uint8), **arrays)
    payload = buffer.getbuffer()
    head = HEADER.pack(MAGIC, FORMAT, len(payload), hashlib.sha256(payload).digest())
    return b"".join((head, payload))  # the one copy


def decode(data: bytes) -> tuple[State, dict[str, Any]]:
    """The state, with torch tensors, and what was said about it; Unreadable where anything is wrong."""
    with _opened(data) as (archive, meta):
        return _unpack(meta["state"], archive), meta["about"]


def about(data: bytes) -> dict[str, Any]:
    """What was said about a state, without reading it (and without torch); Unreadable like decode."""
    with _opened(data) as (_, meta):
        return dict(meta["about"])


def joinable(data: bytes, early_stopping: int | None) -> int:
    """How many replicas final weights hold that others can be trained beside with the same result; 0: none.

    Not with early stopping, whose end depends on all replicas, nor where examples were watched, nor where a learner
    was looked at on examples that depend on the replicas.
    """
    if early_stopping is not None:
        return 0
    state = decode(data)[0]
    whole = "watch" not in state and state.get("joinable", True)
    return len(state["trainer"]["diverged"]) if whole else 0


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The archive in the envelope, once its digest has been checked, and its description."""
    if len(data) < HEADER.size:
        raise Unreadable("it is cut short")
    magic, version, length, digest = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Unreadable("it is no checkpoint")
    if version != FORMAT:
        raise Unreadable(f"its format is {version}, and this version reads {FORMAT}")
    payload = data[HEADER.size :]
    if len(payload) != length or hashlib.sha256(payload).digest() != digest:
        raise Unreadable("it is not what was written")
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            yield archive, json.loads(archive["meta"].tobytes())
    except Exception as error:  # a whole file of another shape
        raise Unreadable(f"{type(error).__name__}: {error}") from error


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The layout of a state as JSON; arrays collects what is not JSON, by numbered names."""
    if isinstance(value, dict):
        return {"dict": {key: _pack(item, arrays) for key, item in value.items()}}
    if isinstance(value, bool | int | float | str | None):
        return {"value": value}
    name = f"a{len(arrays)}"
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    tensor = value.detach().cpu()
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind == "bfloat16":  # numpy has no such type: its bits travel
        import torch

        tensor = tensor.view(torch.int16)
    arrays[name] = tensor.numpy()
    return {"tensor": name, "dtype": kind}


def _unpack(layout: dict[str, Any], archive: Any) -> Any:
    if "dict" in layout:
        return {key: _unpack(item, archive) for key, item in layout["dict"].items()}
    if "value" in layout:
        return layout["value"]
    if "array" in layout:
        return archive[layout["array"]]
    import torch

    tensor = torch.from_numpy(archive[layout["tensor"]])
    return tensor.view(torch.bfloat16) if layout["dtype"] == "bfloat16" else tensor
