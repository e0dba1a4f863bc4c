"""GPUs before anything is trained: asked for and absent is refused, and `auto` is as many trials as fit."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from engram.sweeps.cluster import capacity, gpus, tuning
from engram.sweeps.cluster.health import Health
from engram.sweeps.study import loading as studies
from tests.reliability import faults

GIB = 2**30
CARD = gpus.Answer("one", 16 * GIB)


@pytest.fixture
def nodes(monkeypatch):
    there = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 8.0, "GPU": 2.0}, "Labels": {}}]
    monkeypatch.setattr(capacity.ray, "nodes", lambda: there)
    monkeypatch.setattr(capacity, "node_groups", list)


def settled(study, answers):
    return gpus.Sharing(study, answers, lambda configuration: 1.0).study


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
    answers = {"a": CARD, "b": gpus.Answer("two", 80 * GIB)}
    found = gpus.Sharing(study, answers, lambda configuration: gib * GIB).study
    assert found.resources.gpu == share
    assert found.place("resources.gpu") == study.place("resources.gpu")


def test_auto_is_the_cpu_where_no_gpu_can_be_used(nodes):
    study = studies.load("quickstart")
    assert settled(study, {}).resources.gpu == 0
    bad = {"a": gpus.Answer("one", 0, "the driver is too old")}
    assert settled(study, bad).resources.gpu == 0
    on_cpu = studies.load("quickstart", ["resources.device=cpu"])
    assert settled(on_cpu, {"a": CARD}).resources.gpu == 0


def test_a_number_stays(nodes):
    study = studies.load("quickstart", ["resources.gpu=0.1"])
    assert settled(study, {"a": CARD}) is study


def largest_takes_twice(configuration):
    return GIB if configuration is None else GIB / 2


@pytest.mark.parametrize(
    ("gib", "share", "said"),
    [
        (0.5, 0.25, None),  # as estimated
        (0.1, 0.25, None),  # CPUs for no more than four
        (2.0, 0.3333, "measured: 4 GiB of a GPU for the largest trial: 3 on each at a time"),
        (6.0, 1.0, "measured: 12 GiB of a GPU for the largest trial: 1 on each at a time"),
    ],
)
def test_the_first_trial_to_tell_what_it_holds_decides_anew(nodes, gib, share, said):
    study = studies.load("quickstart")
    sharing = gpus.Sharing(study, {"a": CARD}, largest_takes_twice)
    assert sharing.study.resources.gpu == 0.25
    first = study.configure(study.grid()[0])
    assert sharing.told(first, int(gib * GIB)) == said
    assert sharing.study.resources.gpu == share
    assert sharing.told(first, 15 * GIB) is None, "once"


def test_a_share_that_a_study_states_is_not_measured(nodes):
    study = studies.load("quickstart", ["resources.gpu=0.5"])
    sharing = gpus.Sharing(study, {"a": CARD}, largest_takes_twice)
    assert sharing.told(study.configure(study.grid()[0]), 15 * GIB) is None
    assert sharing.study is study


def test_trials_that_start_after_a_measurement_take_the_new_share(nodes):
    study = studies.load("quickstart")
    sharing = gpus.Sharing(study, {"a": CARD}, largest_takes_twice)
    told = []
    work = SimpleNamespace(
        at_once=False,
        reported=lambda *words, **options: None,
        shared=lambda study, said: told.append((study.resources.gpu, said)),
    )
    bridge = tuning._Bridge(sharing.study, work, Health())
    assert bridge.capacity == 8
    watcher = tuning._Watcher(sharing.study, work, bridge, sharing)
    bridge.trials["a"] = 0
    trial = SimpleNamespace(
        trial_id="a", config={"configuration": study.configure(study.grid()[0]).model_dump()}
    )
    watcher.on_trial_result(0, [], trial, {"memory": 6 * GIB, "progress": []})
    assert told[0][0] == 1.0
    assert bridge.capacity == 2
    asked = tuning._asked({"CPU": 1.0, "GPU": told[0][0]}, 1, [])
    assert asked.bundles == [{"CPU": 1.0, "GPU": 1.0}]


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
