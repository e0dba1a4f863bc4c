"""The weights that every replica starts from: a file of tensors, read without running anything in it.

A file is named as PATH@DIGEST, so that a configuration is tied to what the file held when the study was read.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram.models.families import ModelError

DIGITS = 12
WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "module",
)  # keys that hold a state dict in a checkpoint
PREFIXES = ("module.", "_orig_mod.", "model.")


def digest(path: Path) -> str:
    """Twelve hex digits of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def load(module: nn.Module, start: str) -> list[str]:
    """Put a file's tensors into a module; returns the names of what began fresh.

    A tensor of another shape is left fresh where it is the last layer's (a new head), and refused elsewhere;
    a parameter that the file does not have begins fresh only if it is of such a layer."""
    kept = _read(start)
    own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
    unfit = [
        name for name, tensor in own.items() if name not in kept or kept[name].shape != tensor.shape
    ]
    head = _head(module)
    wrong = [n for n in unfit if n.rpartition(".")[0] != head and isinstance(own[n], nn.Parameter)]
    if wrong:
        name = wrong[0]
        why = (
            "is not in the file"
            if name not in kept
            else (f"has shape {list(own[name].shape)}, and {list(kept[name].shape)} in the file")
        )
        raise ModelError(
            f"model.start = {start.rpartition('@')[0] or start}: {name} {why}; only the last layer ({head}) may begin fresh. "
            f"The file has {', '.join(list(kept)[:8])}{', ...' if len(kept) > 8 else ''}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in unfit:
                tensor.copy_(kept[name])
    return unfit


def _head(module: nn.Module) -> str:
    """The module that owns the last parameter."""
    return [name for name, _ in module.named_parameters()][-1].rpartition(".")[0]


@functools.lru_cache(maxsize=2)
def _read(start: str) -> dict[str, Tensor]:
    text, _, wanted = start.rpartition("@")
    path = Path(text or wanted)
    if not path.is_file():
        raise ModelError(f"model.start = {path}: there is no such file on this machine")
    if text and digest(path) != wanted:
        raise ModelError(f"model.start = {path} holds other weights than when the study was read")
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
                f"model.start = {path} needs the package safetensors: pip install safetensors"
            ) from None
        return dict(load_file(path))
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
