"""Whole trials on a CUDA device that computes nothing: every family, way, optimizer and measure.

What fails here fails on a GPU: tensors on two devices, a host that waits for the device within a step, and more
operations or copies than are written down.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engram.models.families import TABLE
from tests.gpu.cases import CASES

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
# Operations that a step and an evaluation start on the device, views apart. Networks of one or two layers, so each of
# them counts: what makes these numbers grow makes every step on a GPU wait longer.
WAIT = {"adafactor"}  # torch's own looks at norms on the host, twice a parameter
OPERATIONS = {
    "feedforward in stacks of 4": (74, 56),
    "sgd without momentum, in stacks of 2": (114, 105),
    "convolutional in stacks of 4": (93, 86),
    "residual in stacks of 4": (148, 143),
    "transformer in stacks of 4": (153, 155),
    "gru in stacks of 4": (240, 251),
    "adam": (73, 65),
    "muon": (444, 56),
    "an own class, stacked": (106, 79),
    "clipping, L1 and dropout": (181, 56),
}

# Whose steps a CUDA graph may hold: the learning rate and all that changes come from the device.
RECORDED = [
    *(f"{family} in stacks of {stack}" for family in TABLE for stack in (4, 2)),
    *("sgd", "adam", "adamw", "mixup", "clipping, L1 and dropout", "images, average of weights"),
    "the same in stacks of 2, accumulated",
]

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="needs torch built for CPUs"),
]


def build(folder: Path) -> Path:
    """The device as a library; takes a few seconds."""
    from torch.utils import cpp_extension

    made, own = folder / "pretend.so", Path(torch.__file__).parent / "lib"
    includes = [word for path in cpp_extension.include_paths() for word in ("-isystem", path)]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    words = [str(COMPILER), "-std=c++20", "-O0", "-w", "-shared", "-fPIC", abi, *includes]
    words += [str(HERE / "pretend.cpp"), "-o", str(made)]
    words += [f"-L{own}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{own}"]
    subprocess.run(words, check=True, timeout=300)
    return made


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """{case: what happened}."""
    folder = tmp_path_factory.mktemp("device")
    words = ["tests.gpu.fake_device", str(build(folder)), str(folder)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *words],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("case"): line for line in lines}


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("case", CASES)
def test_it_is_trained_measured_and_resumed_without_waiting_in_a_step(happened, case):
    found = happened[case]
    if case in WAIT:
        assert "waits for the device within a step" in found["failed"]
        return
    assert "failed" not in found, found.get("where")
    assert found["status"] == "completed"
    assert set(found["step"]) == {"operations"}, "something is copied within a step"
    assert found["evaluation"]["copies out"] == 1
    assert found["epoch"]["copies in"] == 1
    assert "copies out" not in found["epoch"]


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("case", RECORDED)
def test_steps_can_be_recorded_with_nothing_left_to_the_host(happened, case):
    assert set(happened[case]["recorded"]) == {"operations"}


@pytest.mark.timeout(1600)
@pytest.mark.parametrize(("case", "most"), OPERATIONS.items())
def test_no_more_operations_than_are_written_down(happened, case, most):
    found = happened[case]
    counted = found["step"]["operations"], found["evaluation"]["operations"]
    assert counted[0] <= most[0], "of a step"
    assert counted[1] <= most[1], "of an evaluation"


@pytest.mark.timeout(1600)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("a mask on the host", "at least two devices"),
        ("a loss that is read", "waits for the device within a step"),
    ],
)
def test_what_would_fail_on_a_gpu_fails_here(happened, fault, words):
    assert words in happened[fault]["failed"]
