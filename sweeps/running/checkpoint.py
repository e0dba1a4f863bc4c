"""Checkpoints of a cohort in training: bytes that travel, files that are whole or set aside.

A checkpoint is an envelope (magic, format, length, SHA-256) around an NPZ archive without pickle:
nothing in it is run, and nothing is read before its digest has been checked. Knows neither Ray nor
where a state comes from: a state is a nest of dicts of tensors and plain numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
MAGIC = b"ENGRAMCK"
HEADER = struct.Struct("<8sIQ32s")  # magic, format, bytes that follow, their SHA-256
FINAL = "final"
log = logging.getLogger(__name__)

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
    payload = buffer.getvalue()
    return HEADER.pack(MAGIC, FORMAT, len(payload), hashlib.sha256(payload).digest()) + payload


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

    Not with early stopping, whose end depends on all replicas, nor where examples were watched.
    """
    if early_stopping is not None:
        return 0
    state = decode(data)[0]
    return 0 if "watch" in state else len(state["trainer"]["diverged"])


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


class Store:
    """The checkpoints of a study's running trials: `folder/trial-N/STEP.ckpt`, the newest `keep` of each.

    Files are written whole or not at all. One that cannot be read is set aside (`.damaged`, one of
    each trial), and the one before it is used.
    """

    def __init__(self, folder: Path, keep: int, largest_bytes: float):
        self.folder, self.keep, self.largest_bytes = folder, keep, largest_bytes

    def save(self, trial: int, step: int, data: bytes) -> bool:
        """Keep a checkpoint; False where it is too large."""
        if len(data) > self.largest_bytes:
            return False
        _write(self._of(trial) / f"{step:012d}.ckpt", data)
        for _, path in self._kept(trial)[self.keep :]:
            path.unlink(missing_ok=True)
        return True

    def newest(self, trial: int, **wanted: Any) -> bytes | None:
        """The newest readable checkpoint that says these things about itself; None where there is none."""
        for _, path in self._kept(trial):
            with _set_aside(path):
                data = path.read_bytes()
                if _says(about(data), wanted):
                    return data
        return None

    def finish(self, trial: int, final: bytes | None) -> None:
        """The trial is over: only its final weights are kept, where they are wanted and not too large."""
        if final is not None and len(final) <= self.largest_bytes:
            _write(self._of(trial) / f"{FINAL}.ckpt", final)
        for _, path in self._kept(trial):
            path.unlink(missing_ok=True)
        for path in self._of(trial).glob("*.damaged"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._of(trial).rmdir()

    def final(self, trial: int, **wanted: Any) -> bytes | None:
        """The final weights of a finished trial, where they were kept and say these things."""
        path = self._of(trial) / f"{FINAL}.ckpt"
        if path.exists():
            with _set_aside(path):
                data = path.read_bytes()
                if _says(about(data), wanted):
                    return data
        return None

    def _of(self, trial: int) -> Path:
        return self.folder / f"trial-{trial}"

    def _kept(self, trial: int) -> list[tuple[int, Path]]:
        """(step, file) of each checkpoint on the way, the newest first."""
        files = self._of(trial).glob("*.ckpt")
        found = [(int(path.stem), path) for path in files if re.fullmatch(r"\d{12}", path.stem)]
        return sorted(found, reverse=True)


def _says(said: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(said.get(key) == value for key, value in wanted.items())


@contextlib.contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Rename a file that turns out to be damaged, and go on without it."""
    try:
        yield
    except (Unreadable, OSError) as error:
        log.warning("checkpoint %s is set aside: %s", path, error)
        with contextlib.suppress(OSError):
            os.replace(path, path.with_name(f"{path.parent.name}.damaged"))


def _write(path: Path, data: bytes) -> None:
    """Write bytes whole or not at all, and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
