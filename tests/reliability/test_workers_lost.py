"""Workers die, nodes vanish: their trials go on elsewhere from the last checkpoint."""

from __future__ import annotations

import os
import random
import time

import psutil
import pytest
import ray
from mlflow.tracking import MlflowClient
from ray.cluster_utils import Cluster

from tests.command_line import engram
from tests.reliability import faults

pytestmark = pytest.mark.faults

EPOCHS = set(range(2, 21, 2))
KILLS = int(os.environ.get("ENGRAM_TEST_KILLS", "4"))  # 20 in `make test-faults`

# Long enough to be caught in the middle of a trial.
LONG = """\
name: long
data: {train_size: 400}
model: {width: 24}
training: {epochs: 200, batch_size: 20, evaluate_every: 10}
replicas: {count: 3}
sweep: {model.dropout: [0.0, 0.3]}
checkpoint: {every_s: 0.2}
"""


@pytest.mark.timeout(3600)
def test_workers_killed_at_random_moments(grid, tmp_path):
    study, home = faults.write(tmp_path), tmp_path / "runs"
    chance = random.Random(os.environ.get("ENGRAM_TEST_SEED", "4"))
    # All kills may meet the same trial: it is not to be given up for what the test does to it.
    run = faults.Run(study, home, "--set", "faults.retries=50")
    killed = 0
    while killed < KILLS:
        run.until_logged("trial .* starts", killed + 1)
        time.sleep(chance.uniform(0.0, 1.0))
        assert run.process.poll() is None, f"the study ended before {KILLS} kills:\n{run.text}"
        found = faults.workers(home)
        if found:
            victim = chance.choice(found)
            try:
                victim.kill()
                victim.wait(10)
            except psutil.Error:
                continue
            killed += 1
    assert run.wait() == 0, run.text
    faults.assert_same_board(faults.board(home), grid.board)
    faults.assert_recorded_once(faults.store(home), 24, EPOCHS)
    faults.assert_never_trained_after_commit(home)
    assert "failed" not in run.text


def test_a_node_lost_in_mid_trial(tmp_path):
    """Two nodes without a file system in common; the one that trains is taken away, without grace."""
    study = faults.write(tmp_path, LONG)
    faults.finish(study, tmp_path / "undisturbed" / "runs")
    expected = faults.board(tmp_path / "undisturbed" / "runs", "long")

    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        lost = cluster.add_node(num_cpus=2)
        home = tmp_path / "runs"
        run = faults.Run(study, home, "--address", cluster.address)
        kept = home / "studies" / "long" / "checkpoints"
        run.until(lambda: len(list(kept.glob("trial-*/0*.ckpt"))) >= 2)
        cluster.add_node(num_cpus=2)
        cluster.remove_node(lost, allow_graceful=False)
        assert run.wait() == 0, run.text
    finally:
        ray.shutdown()
        cluster.shutdown()
    log = faults.log(home)
    assert "attempt 2" in log
    assert "goes on from a checkpoint" in log
    faults.assert_same_board(faults.board(home, "long"), expected)
    faults.assert_recorded_once(faults.store(home), 2, set(range(10, 201, 10)), "long")


# Two workers train it, each two replicas.
FOUR = LONG.replace("count: 3", "count: 4")
SHARED = FOUR + "resources: {workers: 2}\n"


def test_a_worker_of_a_trial_killed_in_mid_trial(tmp_path):
    """It costs its own replicas since their last checkpoint: the others go on, and the trial is attempted once.

    Against one worker undisturbed, which trains all four."""
    undisturbed = tmp_path / "undisturbed" / "runs"
    faults.finish(faults.write(tmp_path, FOUR), undisturbed)
    study, home = faults.write(tmp_path, SHARED), tmp_path / "runs"

    run = faults.Run(study, home)
    kept = home / "studies" / "long" / "checkpoints"
    run.until(lambda: len(list(kept.glob("trial-0/0*.2-4.ckpt"))) >= 1)
    (victim,) = faults.workers(home, "ray::ShardWorker")
    victim.kill()
    victim.wait(10)
    assert run.wait() == 0, run.text
    log = faults.log(home)
    gone = "the worker of replicas 2 to 3 is gone, and goes on from its last checkpoint"
    assert log.count(gone) == 1
    assert "attempt 2" not in log
    faults.assert_same_board(faults.board(home, "long"), faults.board(undisturbed, "long"))
    faults.assert_recorded_once(faults.store(home), 2, set(range(10, 201, 10)), "long")


BAD = """\
import os

from torch import nn


class Net(nn.Module):
    def __init__(self, shape, outputs, width=16, dropout=0.0):
        super().__init__()
        if os.environ.get("BAD_NODE"):
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        self.layers = nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, inputs):
        return self.layers(inputs)
"""
ONE_OF_TWO = """\
name: badnode
data: {train_size: 400}
model: {family: "bad:Net", width: 24}
training: {epochs: 20}
replicas: {count: 3}
sweep:
  model.dropout: [0.0, 0.2, 0.5]
  training.lr: [0.001, 0.003, 0.01, 0.03]
faults: {retries: 0}
"""


def test_a_bad_node_of_two_is_set_aside_and_named(tmp_path):
    (tmp_path / "bad.py").write_text(BAD)
    study, home = faults.write(tmp_path, ONE_OF_TWO), tmp_path / "runs"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        bad = cluster.add_node(num_cpus=2, env_vars={"BAD_NODE": "1"})
        cluster.add_node(num_cpus=2)
        run = faults.Run(study, home, "--address", cluster.address)
        assert run.wait() == 0, run.text
    finally:
        ray.shutdown()
        cluster.shutdown()
    name = f"Ray's node {bad.node_id[:8]}"
    board = faults.board(home, "badnode")
    assert [entry["status"] for entry in board] == ["completed"] * 12
    assert f"{name})" in run.text
    assert "set aside for this study" in run.text
    log = faults.log(home)
    assert f"{name}) is set aside: " in log
    after = log.partition("is set aside")[2]
    assert after.count("met a fault") <= 2, "only those that were there already"
    client = MlflowClient(faults.store(home))
    experiment = client.get_experiment_by_name("badnode").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`engram.kind` = 'study'")
    assert name in parent.data.tags["engram.set_aside"]
    assert "uncorrectable ECC" in parent.data.tags["engram.set_aside"]


def test_what_failed_on_a_node_is_retried_on_another(tmp_path):
    """By `retry`, in a run of its own: without retries, an attempt on the same node would fail again."""
    (tmp_path / "bad.py").write_text(BAD.replace("CUDA error: uncorrectable ECC error", "an error"))
    study, home = faults.write(tmp_path, ONE_OF_TWO.replace(", 0.2, 0.5]", "]")), tmp_path / "runs"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        cluster.add_node(num_cpus=4, env_vars={"BAD_NODE": "1"})
        assert faults.Run(study, home, "--address", cluster.address).wait() == 1
        board = faults.board(home, "badnode")
        assert [entry["status"] for entry in board] == ["failed"] * 4
        cluster.add_node(num_cpus=4)
        words = ["retry", "badnode", "--address", cluster.address]
        done = engram(*words, home=home, cwd=tmp_path, timeout_s=600)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    board = faults.board(home, "badnode")
    assert [entry["status"] for entry in board] == ["completed"] * 4
