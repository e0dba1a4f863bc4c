"""Which places are set aside, and that a GPU that is set aside is given to nobody."""

from __future__ import annotations

import os
import time

import pytest
import ray

from engram.sweeps.cluster import capacity, reserve
from engram.sweeps.cluster.faults import Spot
from engram.sweeps.cluster.health import HOPELESS, IN_A_ROW, Health
from engram.sweeps.study import loading as studies

BAD, GOOD = Spot("bad", "one"), Spot("good", "two")
ECC = "CUDA error: uncorrectable ECC error encountered"


def test_a_device_that_only_fails_is_set_aside_once_another_works():
    health = Health()
    for trial in range(IN_A_ROW + 1):
        assert health.failed(trial, BAD, ECC, device=True) == [], "it may be everywhere"
    assert health.got_further(GOOD) == [BAD]
    assert health.aside == {BAD: ECC}
    assert health.nodes_aside == {"bad"}
    assert health.failed(9, BAD, ECC, device=True) == [], "told once"


def test_two_faults_of_trials_that_succeed_elsewhere_are_enough():
    health = Health()
    for trial in range(2):
        assert health.failed(trial, BAD, ECC, device=True) == []
    assert health.completed(0, GOOD) == []
    assert health.completed(1, GOOD) == [BAD]


def test_a_success_between_faults_clears_a_device():
    health = Health()
    health.got_further(GOOD)
    for trial in range(2 * IN_A_ROW):
        assert health.failed(trial, BAD, ECC, device=True) == []
        health.completed(trial, BAD)
    assert not health.aside


def test_errors_of_programs_count_where_the_same_trials_succeed_elsewhere():
    health = Health()
    for trial in range(IN_A_ROW):
        assert health.failed(trial, BAD, "No such file", device=False) == []
    assert health.completed(0, GOOD) == []
    assert health.completed(1, GOOD) == [BAD]


def test_trials_that_fail_everywhere_set_nothing_aside():
    health = Health()
    health.completed(100, GOOD)
    for trial in range(10):
        for spot in (BAD, GOOD):
            assert health.failed(trial, spot, "ValueError: never right", device=False) == []
    assert not health.aside


def test_the_last_place_that_works_is_never_set_aside():
    health = Health()
    health.got_further(GOOD)
    health.got_further(BAD)
    for trial in range(IN_A_ROW):
        health.failed(trial, BAD, ECC, device=True)
    for trial in range(HOPELESS - IN_A_ROW - 1):
        health.failed(trial, GOOD, ECC, device=True)
    assert set(health.aside) == {BAD}
    assert health.hopeless is None
    health.failed(99, GOOD, ECC, device=True)
    assert health.hopeless == ECC


def test_one_gpu_is_set_aside_alone_and_two_with_their_node():
    health = Health()
    health.got_further(GOOD)
    gpus = [Spot("bad", "one", (number,)) for number in ("0", "1")]
    for spot in gpus:
        assert health.nodes_aside == set()
        for trial in range(IN_A_ROW):
            found = health.failed(trial, spot, ECC, device=True)
        assert found == [spot]
    assert health.nodes_aside == {"bad"}


def test_what_is_set_aside_is_not_counted_and_avoided_while_there_is_more(monkeypatch):
    study = studies.load("quickstart", ["resources.cpu=1", "resources.gpu=0.5"])
    nodes = [
        {"Alive": True, "NodeID": name, "Resources": {"CPU": 8.0, "GPU": 2.0}, "Labels": {}}
        for name in ("bad", "good")
    ]
    monkeypatch.setattr(capacity.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(capacity, "node_groups", list)
    health = Health()
    assert capacity.trials_at_once(study, health) == 8
    health.aside[Spot("bad", "one", ("0",))] = ECC
    assert capacity.trials_at_once(study, health) == 6
    health.aside[Spot("bad", "one", ("1",))] = ECC
    assert capacity.trials_at_once(study, health) == 4
    assert capacity.avoidable(study, {"good"}, {"bad"}) == ["bad"], "rather that than nowhere"
    assert capacity.avoidable(study, {"bad"}, set()) == ["bad"]
    assert capacity.avoidable(study, {"bad", "good"}, set()) == []


@pytest.mark.timeout(600)  # on a busy machine a process of Ray's takes minutes to start
def test_a_gpu_that_is_set_aside_is_given_to_nobody(monkeypatch):
    monkeypatch.setattr(reserve, "PAUSE_S", 0.5)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    try:
        node = ray.get_runtime_context().get_node_id()
        keeper, bad = reserve.Reserve(0.5), Spot(node, "here", ("1",))
        keeper.hold(bad)
        while keeper.missing or keeper._wrong or keeper._asked:
            keeper.tick()
            time.sleep(0.1)
        others = [reserve._Holder.options(num_gpus=0.5).remote() for _ in range(2)]
        assert ray.get([other.gpus.remote() for other in others]) == [["0"], ["0"]]
        waiting = reserve._Holder.options(num_gpus=0.5).remote().gpus.remote()
        assert ray.wait([waiting], timeout=2)[0] == [], "the bad one is held"
    finally:
        ray.shutdown()
