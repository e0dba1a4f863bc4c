"""Memory: what says that it ran out, how it is given back, and what a process keeps of what it frees."""

from __future__ import annotations

import ctypes
import gc
import platform
import re

import torch

# Of glibc's mallopt, see malloc.h, and the most that it takes for the second.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 128 * 2**20, 32 * 2**20

# Every name that memory failures have, in what errors say. Libraries that allocate behind torch's back report
# their own: cuBLAS by a status, cuDNN by finding no engine whose workspace fits.
RAN_OUT = re.compile(
    r"out of memory"  # CUDA, HIP, MPS and XPU, torch's own allocators and the runtimes'
    r"|(can't|cannot|could not|failed to) allocate memory|not enough memory: you tried"  # DefaultCPUAllocator
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS|ROCBLAS|MIOPEN)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
    r"|rocblas_status_memory_error|miopenStatusAllocFailed|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
    r"|(CUBLAS|CUDNN|HIPBLAS)_STATUS_NOT_INITIALIZED"  # their handles are the first that they allocate
    r"|CUDNN_STATUS_NOT_SUPPORTED|unable to find an engine|unable to find a valid cuDNN algorithm"
    r"|bad allocation|std::bad_alloc",
    re.IGNORECASE,
)
CONTEXT = 0.5 * 2**30  # of a GPU's memory: what a process holds beside its tensors


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, of whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and RAN_OUT.search(str(error)) is not None


def give_back() -> None:
    """Free what nothing refers to any more, on the host and in the caches of devices."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def keep_to_share(device: torch.device, share: float) -> None:
    """Let this process take its share of a GPU's memory and no more: its neighbours have the rest.

    share: of one GPU, in (0, 1]; the context that each process holds beside its tensors comes off it.
    """
    if device.type != "cuda" or share >= 1:
        return
    total = torch.cuda.get_device_properties(device).total_memory
    fraction = max(share / 2, share - CONTEXT / total)
    torch.cuda.set_per_process_memory_fraction(fraction, device)


def keep_freed() -> None:
    """Let this process keep up to 128 MiB of freed memory, in blocks of up to 32 MiB, for what comes next.

    glibc gives blocks back to the system at once, which then zeroes every page anew: half of the time of an
    evaluation. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, LARGEST)
        libc.mallopt(TRIM_THRESHOLD, KEPT)
