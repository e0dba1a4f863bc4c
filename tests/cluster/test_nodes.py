"""Nodes that join, fill up and vanish, in Ray's own cluster of several nodes on one machine."""

from __future__ import annotations

import os
import re
from types import SimpleNamespace

import pytest
import ray
from ray.cluster_utils import Cluster

from engram.sweeps.cluster import capacity as room
from engram.sweeps.cluster.autoscaler import node_groups
from engram.sweeps.study import loading as studies
from tests.reliability import faults

pytestmark = pytest.mark.timeout(1800)

LONG = faults.GRID.replace("epochs: 20", "epochs: 60").replace(
    "evaluate_every: 2", "evaluate_every: 6"
)


@pytest.fixture
def nodes():
    """A head without room for trials; nodes are added to it."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    yield started
    ray.shutdown()
    started.shutdown()


def test_a_node_that_joins_is_used_and_a_lost_one_is_no_attempt(nodes, tmp_path):
    """One node at first, with room for one trial; two more while the study runs; then one is taken away."""
    first = nodes.add_node(num_cpus=1)
    study, home = faults.write(tmp_path, LONG), tmp_path / "runs"
    words = ["--set", "faults.retries=0", "--set", "training.epochs=30"]
    run = faults.Run(study, home, "--address", nodes.address, *words)
    run.until_logged("is committed", 2)
    assert "2 trials at a time" not in faults.log(home)
    nodes.add_node(num_cpus=2)
    run.until_logged("3 trials at a time")
    run.until_logged("is committed", 5)
    nodes.remove_node(first, allow_graceful=False)
    run.until_logged("its node died")
    assert run.wait() == 0, run.text
    board = faults.board(home)
    assert {entry["status"] for entry in board} == {"completed"}
    assert len(board) == 24
    assert "attempt 2" in faults.log(home)


@pytest.mark.hosts
def test_a_trial_that_fits_on_no_node_is_refused_with_what_there_is(nodes, tmp_path):
    nodes.add_node(num_cpus=2)
    nodes.add_node(num_cpus=2)
    study = faults.write(tmp_path)
    for option, words in (
        ("resources.cpu=4", "resources.cpu = 4.0 fits on no node: a trial takes 4 CPUs"),
        ("resources.gpu=0.5", "resources.gpu = 0.5 fits on no node"),
    ):
        run = faults.Run(study, tmp_path / option, "--address", nodes.address, "--set", option)
        assert run.wait() == 2, run.text
        assert words in run.text
        assert "1 node with 0 CPUs and 0 GPUs, 2 nodes with 2 CPUs and 0 GPUs" in run.text
        assert "Traceback" not in run.text


def test_the_address_of_a_ray_client_is_refused(tmp_path):
    run = faults.Run(
        faults.write(tmp_path), tmp_path / "runs", "--address", "ray://127.0.0.1:10001"
    )
    assert run.wait() == 2
    assert "python orchestrate.py submit" in run.text


# -- counting ---------------------------------------------------------------------------------------


def node(cpu: float, gpu: float = 0.0, group: str = "") -> dict:
    labels = {room.NODE_GROUP: group} if group else {}
    return {"Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}, "Labels": labels}


@pytest.mark.parametrize(
    ("cpu", "gpu", "there", "expected"),
    [
        (1, 0, [node(2), node(2)], 4),
        (1.5, 0, [node(2), node(2), node(2)], 3),  # in all, six CPUs would be four times 1.5
        (1, 0.25, [node(8, 1), node(8, 2)], 12),
        (1, 0.4, [node(8, 1)], 2),
        (1, 0.6, [node(8, 4)], 4),  # a fraction is of one GPU
        (4, 0.25, [node(8, 1)], 2),
        (0.1, 0, [node(1)], 10),
    ],
)
def test_trials_fit_node_by_node(monkeypatch, cpu, gpu, there, expected):
    study = studies.load("quickstart", [f"resources.cpu={cpu}", f"resources.gpu={gpu}"])
    monkeypatch.setattr(room.ray, "nodes", lambda: there)
    monkeypatch.setattr(room, "node_groups", list)
    assert room.trials_at_once(study) == expected
    assert room.no_room(study) is None


def test_a_cluster_that_grows_is_asked_for_more_than_it_has(monkeypatch):
    """An autoscaler adds nodes for what waits: as many trials again as fit."""
    study = studies.load("quickstart", ["resources.gpu=0.5"])
    small = [node(4, group="head")]
    monkeypatch.setattr(room.ray, "nodes", lambda: small)
    monkeypatch.setattr(room, "node_groups", list)
    assert room.no_room(study) is None, "what it may add is not known"
    assert room.trials_at_once(study) == 2
    small.append(node(8, 1, group="gpu"))
    assert room.trials_at_once(study) == 4
    monkeypatch.setattr(room, "node_groups", lambda: [{"CPU": 8.0}])
    small.pop()
    problem = room.no_room(study)
    assert problem is not None, "it can add nodes, but none with a GPU"
    assert re.search(r"can add nodes with 8 CPUs and 0 GPUs", str(problem))
    monkeypatch.setattr(room, "node_groups", lambda: [{"CPU": 8.0, "GPU": 1.0}])
    assert room.no_room(study) is None


def test_the_autoscaler_is_asked_for_its_kinds_of_node(monkeypatch):
    from ray._private.state import state

    group = SimpleNamespace(resources={"GPU": 1}, max_count=2)
    empty = SimpleNamespace(resources={"GPU": 8}, max_count=0)
    config = SimpleNamespace(node_group_configs=[group, empty])
    monkeypatch.setattr(type(state), "get_cluster_config", lambda self: config)
    assert node_groups() == [{"GPU": 1}]
