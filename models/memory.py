"""Memory: how it is given back, how it is shared, and what a process keeps of what it frees."""

from __future__ import annotations

import ctypes
import gc
import os
import platform

import torch
from torch import Tensor

# Of glibc's mallopt, see malloc.h, and the most that it takes for the second.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 128 * 2**20, 32 * 2**20

STATES = 5  # numbers in memory for each weight that is trained
CONTEXT = 0.5 * 2**30  # of a GPU's memory: what a process holds beside its tensors
USED = 0.9  # of a GPU's memory is planned with
MOST_TOGETHER = 8  # trials on one GPU


def give_back() -> None:
    """Free what nothing refers to any more, on the host and in the caches of devices."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def state_bytes(parameters: int) -> float:
    """Of one replica in training: weights, gradients, what an optimizer keeps of each (Adam: two), and a copy."""
    return 4.0 * STATES * parameters


def room(device: torch.device, share: float, cpu: float) -> float:
    """Bytes that a process may plan with: its share of a GPU, or of this machine by its CPUs, or half of what is free."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return USED * min(1.0, share or 1.0) * total - CONTEXT
    import psutil

    there = psutil.virtual_memory()
    return max(USED * there.total * min(1.0, cpu / (os.cpu_count() or 1)), there.available / 2)


def trials_on(total: float, bytes_of_trial: float) -> int:
    """How many trials share a GPU of so many bytes; one at least, since it may be that an estimate is too high."""
    return max(1, min(MOST_TOGETHER, int(USED * total / (bytes_of_trial + CONTEXT))))


def count_anew(device: torch.device) -> None:
    """From here on `peak` counts; what is not in use any more is given back first."""
    if device.type == "cuda":
        give_back()
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int | None:
    """Most bytes of a GPU that this process has held for its tensors; None elsewhere."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; nobody waits for it to arrive."""
    on_gpu = device.type == "cuda"
    return (tensor.pin_memory() if on_gpu else tensor).to(device, non_blocking=True)


def keep_to_share(device: torch.device, share: float) -> None:
    """Let this process take its share of a GPU's memory and no more: its neighbours have the rest.

    share: of one GPU, in (0, 1]; the context that each process holds beside its tensors comes off it.
    """
    if device.type != "cuda" or share >= 1:
        return
    total = torch.cuda.get_device_properties(device).total_memory
    fraction = max(share / 2, share - CONTEXT / total)
    # Of all of torch's questions about a GPU's memory only this one does not take a device without its number.
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(fraction, number)


def keep_freed() -> None:
    """Let this process keep up to 128 MiB of freed memory, in blocks of up to 32 MiB, for what comes next.

    glibc gives blocks back to the system at once, which then zeroes every page anew: half of the time of an
    evaluation. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
