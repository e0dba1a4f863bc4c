"""The weights that every replica starts from: a file of tensors, read without running anything in it.

A file is named as PATH@DIGEST, so that a configuration is tied to what the file held when the study was read.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram.models.families import ModelError
from engram.models.named import listed

DIGITS = 12
WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "module",
)  # keys that hold a state dict in a checkpoint
MOST_NAMED = 6
PREFIXES = ("module.", "_orig_mod.", "model.")


def digest(path: Path) -> str:
    """Twelve hex digits of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


@dataclass(frozen=True)
class Matched:
    """Names of what a file gives a module, of what begins fresh, and of what is in the file alone."""

    path: str
    loaded: list[str]
    fresh: list[str]
    ignored: list[str]

    @property
    def words(self) -> str:
        """One sentence for people."""
        total = len(self.loaded) + len(self.fresh)
        text = f"starts from {Path(self.path).name}: {len(self.loaded)} of {total} tensors"
        if self.fresh:
            text += f"; fresh in each replica: {listed(self.fresh, MOST_NAMED)}"
        if self.ignored:
            text += f"; in the file and not used: {listed(self.ignored, MOST_NAMED)}"
        return text


def load(module: nn.Module, start: str, fresh: tuple[str, ...] = ()) -> Matched:
    """Put a file's tensors into a module, but for what matches `fresh`, by name or pattern.

    Where nothing is said to be fresh, parameters of the last layer may be: those that the file lacks or has in another
    shape. ModelError for any other that does not fit."""
    found, kept = matched(module, start, fresh), _read(start)
    with torch.no_grad():
        for name, tensor in _own(module).items():
            if name in found.loaded:
                tensor.copy_(kept[name])
    return found


def matched(module: nn.Module, start: str, fresh: tuple[str, ...] = ()) -> Matched:
    """What `load` does, without doing it."""
    kept, own, path = _read(start), _own(module), start.rpartition("@")[0] or start
    for pattern in fresh:
        if not fnmatch.filter(own, pattern):
            raise ModelError(
                f"model.fresh: {pattern!r} matches nothing; there are {listed(list(own), 12)}"
            )
    unfit = [n for n, tensor in own.items() if n not in kept or kept[n].shape != tensor.shape]
    wanted = {name for pattern in fresh for name in fnmatch.filter(own, pattern)}
    allowed = (
        wanted if fresh else {name for name in own if name.rpartition(".")[0] == _head(module)}
    )
    # Old checkpoints lack the counter of batches, which matters only without a momentum.
    wrong = [n for n in unfit if n not in allowed and not n.endswith("num_batches_tracked")]
    if wrong:
        name = wrong[0]
        why = (
            "is not in the file"
            if name not in kept
            else f"has shape {list(own[name].shape)}, and {list(kept[name].shape)} in the file"
        )
        raise ModelError(
            f"model.start = {path}: {name} {why}. Only what model.fresh names may begin fresh"
            + ("" if fresh else f", or, without it, the last layer ({_head(module)})")
            + f": write model.fresh: [{name.rpartition('.')[0] or name}*] if that is meant. The file has "
            + listed(list(kept), 8)
        )
    begins = wanted | set(unfit)
    return Matched(
        path,
        [name for name in own if name not in begins],
        [name for name in own if name in begins],
        [name for name in kept if name not in own],
    )


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, tied ones under every name, and buffers that a state dict has."""
    there = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers()),
    }
    return {name: there[name] for name in module.state_dict() if name in there}


def _head(module: nn.Module) -> str:
    """The module that owns the last parameter."""
    return [name for name, _ in module.named_parameters()][-1].rpartition(".")[0]


@functools.lru_cache(maxsize=2)
def _read(start: str) -> dict[str, Tensor]:
    text, _, wanted = start.rpartition("@")
    named = Path(text or wanted)
    # On another machine it lies beside the code that travelled there.
    places = [named, *(Path(folder) / named.name for folder in sys.path if folder)]
    there = [place for place in places if place.is_file()]
    if not there:
        raise ModelError(f"model.start = {named}: there is no such file on this machine")
    path = next((place for place in there if not text or digest(place) == wanted), None)
    if path is None:
        raise ModelError(f"model.start = {named} holds other weights than when the study was read")
    found = _tensors(path)
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), dict):
            found = found[wrapper]
            break
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(f"model.start = {path} holds no tensors by name: save model.state_dict()")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _tensors(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise ModelError(
                f"model.start = {path} needs the package safetensors: pip install 'engram[safetensors]', or save a state "
                "dict with torch.save"
            ) from None
        try:
            return dict(load_file(path))
        except Exception as error:
            raise ModelError(f"model.start = {path} is no safetensors file: {error}") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model.start = {path} is no file of plain tensors ({said[:120]}): write torch.save(model.state_dict(), "
            "path); files that run code are not read"
        ) from None
    if not isinstance(found, dict):
        raise ModelError(
            f"model.start = {path} holds {type(found).__name__}: save model.state_dict()"
        )
    return found
