"""GPUs before anything is trained: asked for and absent is refused, and `auto` is as many trials as fit."""

from __future__ import annotations

import os

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from engram.sweeps.cluster import capacity, gpus
from engram.sweeps.study import loading as studies
from tests.reliability import faults

GIB = 2**30
CARD = gpus.Answer("one", 16 * GIB)


@pytest.fixture
def nodes(monkeypatch):
    there = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 8.0, "GPU": 2.0}, "Labels": {}}]
    monkeypatch.setattr(capacity.ray, "nodes", lambda: there)


@pytest.mark.parametrize(
    ("gib", "cpu", "share"),
    [
        (0.1, 1, 0.25),  # CPUs for four on each GPU
        (0.1, 4, 1.0),
        (6.0, 1, 0.5),
        (100.0, 1, 1.0),  # an estimate is no reason not to try
        (0.1, 0.1, 0.125),  # no more than eight
    ],
)
def test_auto_is_as_many_trials_on_a_gpu_as_its_memory_and_cpus_hold(nodes, gib, cpu, share):
    study = studies.load("quickstart", [f"resources.cpu={cpu}"])
    assert study.resources.gpu == "auto"
    found = gpus.settled(study, {"a": CARD, "b": gpus.Answer("two", 80 * GIB)}, lambda: gib * GIB)
    assert found.resources.gpu == share
    assert found.place("resources.gpu") == study.place("resources.gpu")


def test_auto_is_the_cpu_where_no_gpu_can_be_used(nodes):
    study = studies.load("quickstart")
    assert gpus.settled(study, {}, lambda: 1.0).resources.gpu == 0
    bad = {"a": gpus.Answer("one", 0, "the driver is too old")}
    assert gpus.settled(study, bad, lambda: 1.0).resources.gpu == 0
    on_cpu = studies.load("quickstart", ["resources.device=cpu"])
    assert gpus.settled(on_cpu, {"a": CARD}, lambda: 1.0).resources.gpu == 0


def test_a_number_stays(nodes):
    study = studies.load("quickstart", ["resources.gpu=0.1"])
    assert gpus.settled(study, {"a": CARD}, lambda: 1.0) is study


@pytest.mark.faults
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent_is_refused_with_what_torch_says(tmp_path):
    """A node that declares a GPU, with a torch that cannot use it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False},
    )
    try:
        study = faults.write(tmp_path)
        run = faults.Run(
            study, tmp_path / "asked", "--address", cluster.address, "--set", "resources.gpu=0.5"
        )
        assert run.wait() == 2, run.text
        assert "resources.gpu = 0.5 asks for GPUs, and none can be used" in run.text
        assert "Torch not compiled with CUDA enabled" in run.text
        assert "nvidia-smi" in run.text
        assert "starts, attempt" not in faults.log(tmp_path / "asked")
        words = ["--address", cluster.address, "--set", "training.epochs=2"]
        run = faults.Run(study, tmp_path / "auto", *words)
        assert run.wait() == 0, run.text
        assert "cannot be used" in run.text
        assert {entry["status"] for entry in faults.board(tmp_path / "auto")} == {"completed"}
    finally:
        ray.shutdown()
        cluster.shutdown()
