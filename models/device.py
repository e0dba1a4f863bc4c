"""The device that a process trains on: whether it can be used, and how it calculates.

One choice for all ways of running: TF32 rounds the inputs of a product to 10 bits, and torch lets convolutions use
it and matrix products not, so that a convolution alone would differ from the same one in a stack.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import torch

DRIVER_S = 20


def settle(deterministic: bool = False) -> None:
    """Full float32 products and cuDNN's deterministic algorithms, from here on in this process.

    deterministic: torch's others too, so that an operation without one is an error; cuBLAS wants a workspace for it.
    On a CPU, products of MKL come to the same bits wherever in memory their matrices lie: it reads its mode at the
    first of them.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False  # which algorithm is fastest changes from run to run
    torch.backends.cudnn.deterministic = True


def described(device: torch.device) -> dict[str, Any]:
    """What a record says of the device that its numbers come from."""
    found: dict[str, Any] = {
        "type": device.type,
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "mkl": os.environ.get("MKL_CBWR"),
    }
    if device.type == "cuda":
        found |= {"name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def cuda_problem() -> str | None:
    """Why nothing can be calculated with CUDA here, as torch and the driver say it; None where it can."""
    try:
        ones = torch.ones(8, 8, device="cuda")
        if float((ones @ ones).sum()) != 512.0:
            return f"torch {torch.__version__} calculates wrongly with CUDA: 8 x 8 ones squared"
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        built = torch.version.cuda or "none, it is built for CPUs"
        return f"torch {torch.__version__} (CUDA: {built}) says: {first}; {driver()}"
    return None


def driver() -> str:
    """What NVIDIA's driver says of itself and its GPUs, in a line."""
    there, problem = seen_by_driver()
    return problem or f"nvidia-smi says: {'; '.join(there)}"


def seen_by_driver() -> tuple[list[str], str | None]:
    """The GPUs that NVIDIA's driver sees (name, version of the driver, memory), or why it sees none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "there is no nvidia-smi, so probably no driver"
    asked = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            [program, *asked], capture_output=True, text=True, timeout=DRIVER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi says nothing: {error}"
    lines = (done.stdout or done.stderr).strip().splitlines()
    if done.returncode or not lines:
        said = "; ".join(lines) or "nothing"
        return [], f"nvidia-smi says: {said}, and ends with {done.returncode}"
    return lines, None
