"""Whose fault an error is: the trial's, its memory's, its process's or its device's, by every name that those have.

A CUDA error stays in its process: whatever is tried there afterwards fails with it, until the process ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import torch

Kind = Literal["trial", "memory", "process", "device"]

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
# Errors of a program, most often: they end the process, and would come again on any other device.
PROCESS = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|illegal address|misaligned address"
    r"|CUDA_ERROR_(ASSERT|ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS)",
    re.IGNORECASE,
)
DEVICE = re.compile(
    # Not what a wrong call gets, which leaves the process as it was.
    r"CUDA error(?!: (CU[A-Z]+_STATUS|invalid (configuration )?argument|too many resources))"
    r"|CUDA_ERROR_|cudaError|HIP error|hipError|MPS backend error"
    r"|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|ARCH_MISMATCH|VERSION_MISMATCH)"
    r"|CU(BLAS|SOLVER|SPARSE)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|ARCH_MISMATCH)"
    r"|(HIPBLAS|ROCBLAS)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)|NCCL (error|failure)"
    r"|uncorrectable ECC|GPU (is|has been) lost|fallen off the bus|\bXid\b"
    r"|No CUDA GPUs are available|Found no NVIDIA driver|no CUDA-capable device|CUDA (driver )?initialization"
    r"|driver.{0,30}(too old|insufficient|mismatch)|driver/library version mismatch|CUDA unknown error"
    r"|Torch not compiled with CUDA",
    re.IGNORECASE,
)


# In this order: "CUDA error: out of memory" leaves the process as it was.
PATTERNS: dict[Kind, re.Pattern[str]] = {"memory": RAN_OUT, "process": PROCESS, "device": DEVICE}


def kind(error: BaseException) -> Kind:
    """What kind of error it is, or what it came from: a person's code may have wrapped it in one of its own."""
    for one in _chain(error):
        if isinstance(one, torch.OutOfMemoryError | MemoryError):
            return "memory"
        if not isinstance(one, RuntimeError | AssertionError):
            continue
        for name, pattern in PATTERNS.items():
            if pattern.search(str(one)):
                return name
    return "trial"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from; `raise ... from None` hides them from people only."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
