"""A study that is edited, extended, or run with other code or data between two runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from tests.reliability import faults

BASE = """\
name: grid
data: {train_size: 200}
model: {width: 16}
training: {epochs: 6, batch_size: 20}
replicas: {count: 3}
sweep: {model.dropout: [0.0, 0.5]}
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A study of two trials, then with a value more and one less, then with more replicas."""
    folder = tmp_path_factory.mktemp("changed")
    study, home = faults.write(folder, BASE), folder / "runs"
    outputs = [faults.finish(study, home)]
    boards = [faults.board(home)]
    faults.write(folder, BASE.replace("[0.0, 0.5]", "[0.0, 0.2, 0.5]"))
    outputs.append(faults.finish(study, home))
    boards.append(faults.board(home))
    faults.write(
        folder, BASE.replace("[0.0, 0.5]", "[0.0, 0.2, 0.5]").replace("count: 3", "count: 6")
    )
    outputs.append(faults.finish(study, home))
    boards.append(faults.board(home))
    return study, home, outputs, boards


def by_trial(board: list[dict]) -> dict[int, dict]:
    return {e["trial"]: e for e in board}


def test_a_value_more_trains_one_trial_more(changed):
    _, home, outputs, boards = changed
    assert "sweep of model.dropout: 0.0, 0.5 is now 0.0, 0.2, 0.5" in outputs[1].stdout
    assert "3 trials x 3 replicas, 2 finished before" in outputs[1].stdout
    before, after = by_trial(boards[0]), by_trial(boards[1])
    assert after[2]["params"] == {"model.dropout": 0.2}
    for number, entry in before.items():
        assert after[number]["measures"] == entry["measures"]
        assert after[number]["run_id"] == entry["run_id"]
    assert faults.log(home).count(" starts, attempt 1") == 2 + 1 + 3


def test_more_replicas_are_added_to_those_that_are_there(changed, tmp_path):
    """Only the new ones are trained, and the result is that of all of them trained together."""
    study, home, outputs, boards = changed
    assert "replicas.count: 3 is now 6" in outputs[2].stdout
    faults.finish(study, tmp_path / "runs")
    whole, extended = by_trial(faults.board(tmp_path / "runs")), by_trial(boards[2])
    at = {e["params"]["model.dropout"]: e for e in whole.values()}
    for entry in extended.values():
        assert entry["replicas"] == 6
        for name, measure in at[entry["params"]["model.dropout"]]["measures"].items():
            if measure is not None:
                assert entry["measures"][name]["mean"] == pytest.approx(
                    measure["mean"], abs=1e-5
                ), name
    seconds = {
        r["trial"]: r["steps"] for r in json.loads((home / "studies/grid/trials.json").read_text())
    }
    assert set(seconds.values()) == {60}
    runs = faults.trial_runs(faults.store(home))
    assert sorted(r.data.tags["engram.trial"] for r in runs) == ["0", "1", "2"]
    assert {r.data.params["replicas.count"] for r in runs} == {"6"}


def test_a_change_that_would_mix_results_is_refused_by_name(changed, tmp_path):
    study, home, _, boards = changed
    done = faults.finish(study, home, "--set", "training.epochs=7", code=1)
    assert "training.epochs was 6 and is 7" in done.stderr
    assert "--name" in done.stderr
    assert faults.board(home) == boards[2]
    faults.finish(
        study,
        home,
        "--set",
        "training.epochs=7",
        "--set",
        "sweep.model.dropout=[0.0]",
        "--name",
        "seven",
    )
    assert len(faults.board(home, "seven")) == 1


def test_a_budget_ends_a_study_cleanly_and_more_of_it_goes_on(tmp_path):
    study, home = (
        faults.write(tmp_path, faults.GRID + "budget: {hours: 0.0005}\n"),
        tmp_path / "runs",
    )
    done = faults.finish(study, home)
    assert "budget.hours is 0.0005" in done.stdout
    assert "to go on" in done.stdout
    assert {r.info.status for r in faults.trial_runs(faults.store(home))} <= {"FINISHED", "KILLED"}
    spent = json.loads((home / "studies/grid/usage.json").read_text())["seconds"]
    assert spent >= 1.8
    again = faults.finish(study, home)
    assert "budget.hours" in again.stdout, "hours that are spent stay spent"
    faults.finish(
        study,
        home,
        "--set",
        "budget.hours=null",
        "--set",
        "sweep.training.lr=[0.01]",
        "--set",
        "sweep.model.dropout=[0.0]",
    )
    assert json.loads((home / "studies/grid/usage.json").read_text())["seconds"] > spent


def npz(path: Path, seed: int) -> None:
    chance = np.random.default_rng(seed)
    inputs = chance.normal(size=(300, 8)).astype(np.float32)
    np.savez(path, x=inputs, y=(inputs.sum(1) > 0).astype(np.int64))


def test_data_and_code_that_changed_are_noticed(tmp_path):
    npz(tmp_path / "mine.npz", 1)
    text = BASE.replace(
        "data: {train_size: 200}", f"data: {{name: 'npz:{tmp_path / 'mine.npz'}', train_size: 100}}"
    )
    study, home = faults.write(tmp_path, text), tmp_path / "runs"
    faults.finish(study, home)
    path = home / "studies/grid/provenance.json"
    origin = json.loads(path.read_text())
    path.write_text(json.dumps(origin | {"git.commit": "0" * 40}))
    done = faults.finish(study, home)
    assert "git.commit: 000000000000 is now" in done.stdout
    found = MlflowClient(faults.store(home)).search_runs(["1"], "tags.`engram.kind` = 'study'")
    (parent,) = found
    assert "git.commit" in parent.data.tags["engram.changed"]
    assert len((home / "studies/grid/executions.jsonl").read_text().splitlines()) == 2
    npz(tmp_path / "mine.npz", 2)
    refused = faults.finish(study, home, code=1)
    assert "the data changed since the last run" in refused.stderr
    assert "--name" in refused.stderr


def test_state_of_another_version_is_refused_with_what_to_do(tmp_path):
    study, home = faults.write(tmp_path, BASE), tmp_path / "runs"
    folder = home / "studies" / "grid"
    folder.mkdir(parents=True)
    (folder / "version.json").write_text('{"format": 99}')
    done = faults.finish(study, home, code=1)
    assert "format 99" in done.stderr
    assert "use the version that wrote it" in done.stderr
