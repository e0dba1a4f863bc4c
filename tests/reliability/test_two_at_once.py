"""One process works on a study; locks that are left behind hold nobody up."""

from __future__ import annotations

import json
import os
import time

from engram.sweeps.running.stopping import Usage
from engram.sweeps.tracking.recorder import Recorder
from tests.reliability import faults


def test_the_second_of_two_runs_says_who_holds_the_study(grid, tmp_path):
    study, home = faults.write(tmp_path), tmp_path / "runs"
    first = faults.Run(study, home)
    first.until_logged("trial .* starts")
    second = faults.Run(study, home)
    assert second.wait() == 1
    assert f"process {first.process.pid}" in second.text
    assert "--name" in second.text
    first.kill()
    first.wait()
    # What is left of the lock, and of Optuna's own, belongs to nobody.
    assert json.loads((home / "studies" / "grid" / "lock").read_text())["pid"] == first.process.pid
    (home / "studies" / "grid" / "search.journal.lock").touch()
    faults.finish(study, home)
    faults.assert_same_board(faults.board(home), grid.board)


def test_a_clock_that_goes_back_changes_no_budget_and_no_order(tmp_path, monkeypatch):
    used = Usage(tmp_path)
    recorder = Recorder(
        f"sqlite:///{tmp_path / 'mlflow.db'}",
        tmp_path,
        "clock",
        "clock",
        None,
        lambda number, run: None,
    )
    recorder.study({"engram.status": "running"}, {})
    recorder.trial(0, "base", {"engram.config_hash": "abc"}, {})
    recorder.metrics(0, 1, {"train_error": 0.5})
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 86_400)
    recorder.metrics(0, 2, {"train_error": 0.4})
    recorder.end(0)
    recorder.end(-1)
    used.tick(0.0)
    assert 0 <= used.seconds < 60
    assert recorder.close(60), recorder.problem
    (run,) = faults.trial_runs(f"sqlite:///{tmp_path / 'mlflow.db'}", "clock")
    assert run.data.metrics["train_error"] == 0.4
    assert run.info.end_time >= run.info.start_time
    assert os.path.getsize(tmp_path / "outbox.jsonl") == 0
