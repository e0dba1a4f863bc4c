"""The driver dies, or is asked to stop, at any moment: what is finished stays, the rest goes on."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.reliability import faults

pytestmark = pytest.mark.faults

EPOCHS = set(range(2, 21, 2))
AGENTS_END_S = 120
KILLS = int(os.environ.get("ENGRAM_TEST_KILLS", "4"))  # 20 in `make test-faults`


@pytest.mark.timeout(3600)
def test_sigkill_at_random_moments(grid, tmp_path):
    """As often as ENGRAM_TEST_KILLS says, every third time again within seconds of coming back."""
    study, home = faults.write(tmp_path), tmp_path / "runs"
    chance = random.Random(os.environ.get("ENGRAM_TEST_SEED", "4"))
    killed = 0
    while killed < KILLS:
        run = faults.Run(study, home)
        if killed % 3 == 2:
            time.sleep(chance.uniform(0.5, 3.0))
        else:
            starts, commits = (
                faults.log(home).count(words) for words in (" starts,", "is committed")
            )
            run.until_logged("trial .* starts", starts + 1)
            if commits < 18:  # the rest is for the kills that are still to come
                run.until_logged("is committed", commits + chance.choice([0, 0, 1, 1, 2]))
            time.sleep(chance.uniform(0.0, 1.5))
        assert run.process.poll() is None, f"the study ended before {KILLS} kills:\n{run.text}"
        run.kill()
        run.wait()
        killed += 1
    faults.finish(study, home)
    assert len(faults.board(home)) == 24
    faults.assert_same_board(faults.board(home), grid.board)
    faults.assert_recorded_once(faults.store(home), 24, EPOCHS)
    faults.assert_never_trained_after_commit(home)
    # Ray's agents that were starting when their driver was killed look for it for a minute.
    until = time.monotonic() + AGENTS_END_S
    while faults.processes(home) and time.monotonic() < until:
        time.sleep(1)
    assert not faults.processes(home), "killed drivers left nothing running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(grid, tmp_path, number):
    study, home = faults.write(tmp_path), tmp_path / "runs"
    run = faults.Run(study, home)
    run.until_logged("is committed", 2)
    saved = "studies/grid/checkpoints/trial-*/0*.ckpt"
    run.until(lambda: bool(list(home.glob(saved))))  # one is amid its training, and not between two
    run.kill(number)
    assert run.wait() == 130
    assert f"run {study}" in run.text
    assert "Traceback" not in run.text
    runs = faults.trial_runs(faults.store(home))
    assert {r.info.status for r in runs} <= {"FINISHED", "KILLED"}
    assert list(home.glob(saved)), "running trials were saved"
    faults.finish(study, home)
    assert "goes on from a checkpoint" in faults.log(home)
    faults.assert_same_board(faults.board(home), grid.board)
    faults.assert_recorded_once(faults.store(home), 24, EPOCHS)
    faults.assert_never_trained_after_commit(home)


TPE = """\
name: tpe
data: {train_size: 200}
model: {width: 16}
training: {epochs: 9, batch_size: 20}
replicas: {count: 2}
sweep: {dropout: {uniform: [0.0, 0.6]}, lr: {loguniform: [1.0e-4, 1.0e-1]}}
search: {sampler: tpe, trials: 8}
scheduler: {name: asha, grace: 1}
checkpoint: {every_s: 0.1}
"""


def test_a_killed_tpe_study_asks_for_exactly_as_many_trials_as_planned(tmp_path):
    study, home = faults.write(tmp_path, TPE), tmp_path / "runs"
    for commits in (2, 5):
        run = faults.Run(study, home)
        run.until_logged("is committed", commits)
        run.kill()
        run.wait()
    faults.finish(study, home)
    assert len(faults.board(home, "tpe")) == 8
    runs = faults.trial_runs(faults.store(home), "tpe")
    assert sorted(int(r.data.tags["engram.trial"]) for r in runs) == list(range(8))
    assert {r.info.status for r in runs} == {"FINISHED"}
    faults.assert_never_trained_after_commit(home)
