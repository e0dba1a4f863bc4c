"""Datasets on a device: copied there once in each process, and shared by the trials that it trains one after another."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from engram.data.dataset import Dataset
from engram.models.training import Examples

_KEPT: dict[tuple[str, str], tuple[Examples, Examples]] = {}


def on(dataset: Dataset, device: torch.device) -> tuple[Examples, Examples]:
    """(pool, test) as they are, on the device; on a CPU the dataset's own memory."""
    key = dataset.digest, str(device)
    if key not in _KEPT:
        pool = Examples(tensor(dataset.inputs), tensor(dataset.targets))
        test = Examples(tensor(dataset.test_inputs), tensor(dataset.test_targets))
        if device.type == "cpu":
            return pool, test
        _KEPT[key] = pool.to(device), test.to(device)
    return _KEPT[key]


def forget() -> None:
    """Let go of what is on devices: there is too little memory."""
    _KEPT.clear()


def tensor(array: np.ndarray) -> Tensor:
    """A tensor on the array's memory: arrays shared between processes are read-only, and are only read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = torch.from_numpy(array)
    return found[:, None] if found.is_floating_point() and found.dim() == 1 else found
