"""Whose fault an error is: the trial's, its memory's, its process's or its device's.

A CUDA error stays in its process: whatever is tried there afterwards fails with it, until the process ends.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["trial", "memory", "process", "device"]

# Errors of a program, most often: they end the process, and would come again on any other device.
PROCESS = re.compile(
    r"device-side assert|illegal memory access|illegal instruction|illegal address|misaligned address"
    r"|CUDA_ERROR_(ASSERT|ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|MISALIGNED_ADDRESS)",
    re.IGNORECASE,
)
DEVICE = re.compile(
    r"CUDA error|CUDA_ERROR_|cudaError|HIP error|hipError|MPS backend error"
    r"|CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|ARCH_MISMATCH|VERSION_MISMATCH)"
    r"|CU(BLAS|SOLVER|SPARSE)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR|ARCH_MISMATCH)"
    r"|(HIPBLAS|ROCBLAS)_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR)|NCCL (error|failure)"
    r"|uncorrectable ECC|GPU (is|has been) lost|fallen off the bus|\bXid\b"
    r"|No CUDA GPUs are available|Found no NVIDIA driver|no CUDA-capable device|CUDA (driver )?initialization"
    r"|driver.{0,30}(too old|insufficient|mismatch)|driver/library version mismatch|CUDA unknown error"
    r"|Torch not compiled with CUDA",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Trouble:
    """An error in words alone: the error itself holds its frames, and they hold the cohort that was trained."""

    kind: Kind
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """What became of an error; text: its traceback."""
        return cls(_kind(error), "".join(traceback.format_exception(error)))


def _kind(error: BaseException) -> Kind:
    from engram.models import memory

    for one in _chain(error):
        if memory.ran_out(one):
            return "memory"
        if isinstance(one, RuntimeError | AssertionError):
            said = str(one)
            if PROCESS.search(said):
                return "process"
            if DEVICE.search(said):
                return "device"
    return "trial"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@dataclass(frozen=True)
class Spot:
    """Where a trial runs: a node, and its GPUs as Ray numbers them (none on a CPU)."""

    node: str
    host: str
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        gpus = f", GPU {' and '.join(self.gpus)}" if self.gpus else ""
        return f"{self.host}{gpus} (Ray's node {self.node[:8]})"


class Ended(RuntimeError):
    """Raised by an actor that must not train again: Tune ends its process. trouble, spot: what happened, and where."""

    def __init__(self, trouble: Trouble, spot: Spot):
        super().__init__(trouble, spot)
        self.trouble, self.spot = trouble, spot

    def __str__(self) -> str:
        return f"{self.trouble.text.strip()}\nthe process ends: on {self.spot}"
