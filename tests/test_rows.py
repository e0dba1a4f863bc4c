"""What goes into the embedded store as rows is what MLflow's own calls would have put there."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from engram.sweeps.tracking import recorder as recording
from engram.sweeps.tracking import rows, store
from engram.sweeps.tracking.recorder import STUDY, Recorder

BY_CHANCE = {"run_id", "run_uuid", "artifact_uri", "start_time", "end_time"}


def recorder(folder: Path, resumed: bool = False, **how: Any) -> Recorder:
    uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts" / "s").as_uri()
    return Recorder(uri, folder, "s", "s", artifacts, lambda *_: None, resumed, **how)


def trial(made: Recorder, folder: Path, number: int, name: str | None = None) -> None:
    """All that a trial sends; the second keeps its file."""
    path = folder / f"trial-{number}" / "arrays.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"arrays")
    tags = {"engram.config_hash": f"h{number}", "mlflow.user": "me", "engram.status": "running"}
    made.trial(number, name or f"trial {number}", tags, {"training.lr": 0.1 / 3, "model.width": 4})
    made.inputs(number, [{"name": "d", "digest": "0", "source": "d", "profile": "{}"}])
    for epoch in (1, 2, 2, 3):
        made.metrics(number, epoch, {"curve/test_error": 1 / epoch, "curve/train_error": 0.5})
    made.artifact(number, path, to="pictures" if number else "", keep=number == 1)
    made.metrics(number, 2, {"final/test_error": 0.25})
    made.tags(number, {"engram.status": "completed", "engram.long": "x" * 9000})
    made.end(number, "FAILED" if number == 2 else "FINISHED")


def study(folder: Path, trials: int = 3) -> None:
    folder.mkdir()
    made = recorder(folder)
    made.study({"engram.question": "Why?"}, {"search.sampler": "grid"})
    for number in range(trials):
        trial(made, folder, number)
    made.end(STUDY)
    assert made.close(60)


def found(folder: Path) -> list[dict[str, Any]]:
    """Every run as MLflow reads it, but for what differs from run to run."""
    client, parent = store.find_study(f"sqlite:///{folder / 'mlflow.db'}", "s")
    runs = []
    for run in store.every_run(
        client, [parent.info.experiment_id], "", "attributes.start_time ASC"
    ):
        files = [f.path for f in client.list_artifacts(run.info.run_id)]
        files += [f.path for f in client.list_artifacts(run.info.run_id, "pictures")]
        history = {
            name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        info = {k: v for k, v in dict(run.info).items() if k not in BY_CHANCE}
        tags = run.data.tags | {
            "mlflow.parentRunId": run.data.tags.get("mlflow.parentRunId", "") != ""
        }
        inputs = [
            (
                d.dataset.name,
                d.dataset.digest,
                d.dataset.source,
                d.dataset.profile,
                [t.value for t in d.tags],
            )
            for d in run.inputs.dataset_inputs
        ]
        runs.append(
            {
                "info": info,
                "params": run.data.params,
                "metrics": run.data.metrics,
                "tags": tags,
                "history": history,
                "inputs": inputs,
                "files": files,
                "ended": run.info.end_time >= run.info.start_time,
                "place": run.info.artifact_uri.partition(run.info.run_id)[2],
            }
        )
    return sorted(runs, key=lambda run: run["tags"].get("engram.trial", ""))


def test_rows_are_what_calls_would_have_made(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "GATHER_S", 1.0)
    study(tmp_path / "rows")
    monkeypatch.setattr(rows, "of", lambda *_: None)
    study(tmp_path / "calls")
    ours, theirs = found(tmp_path / "rows"), found(tmp_path / "calls")
    assert len(theirs) == 4
    assert ours == theirs
    with sqlite3.connect(tmp_path / "rows" / "mlflow.db") as connection:
        assert connection.execute("select count(*) from datasets").fetchone() == (1,)
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_a_trial_that_comes_in_pieces_is_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "GATHER_S", 0.0)
    monkeypatch.setattr(recording, "MOST_MESSAGES", 1)
    study(tmp_path / "pieces")
    pieces = found(tmp_path / "pieces")
    monkeypatch.setattr(rows, "of", lambda *_: None)
    study(tmp_path / "calls")
    assert pieces == found(tmp_path / "calls")


def test_what_only_mlflow_can_judge_is_left_to_it(tmp_path, monkeypatch):
    """A name that it refuses is set aside; the rest of that run, and the others, are there."""
    made = recorder(tmp_path)
    made.study({}, {"search.sampler": "grid"})
    trial(made, tmp_path, 0)
    made.trial(1, "odd", {"engram.config_hash": "h1"}, {"training.lr": 1})
    made.metrics(1, 1, {"what?": 0.5, "curve/test_error": 0.5})
    made.end(1)
    made.end(STUDY)
    assert made.close(60)
    assert made.refusals.count == 1
    runs = found(tmp_path)
    assert [run["tags"].get("engram.trial") for run in runs] == [None, "0", "1"]
    assert runs[2]["metrics"] == {"curve/test_error": 0.5}


def test_a_run_deleted_in_mid_trial_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "GATHER_S", 0.0)
    runs: dict[int, list[str]] = {}
    uri, artifacts = f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "artifacts" / "s").as_uri()
    made = Recorder(
        uri, tmp_path, "s", "s", artifacts, lambda n, run: runs.setdefault(n, []).append(run)
    )
    made.study({}, {"search.sampler": "grid"})
    made.trial(0, "t", {"engram.config_hash": "h0"}, {"training.lr": 1})
    while 0 not in runs or not made.outbox.empty:
        time.sleep(0.05)
    store.connect(uri).delete_run(runs[0][0])
    made.metrics(0, 1, {"curve/test_error": 0.5})
    made.end(0)
    made.end(STUDY)
    assert made.close(60)
    assert len(runs[0]) == 2
    trials = [run for run in found(tmp_path) if "engram.trial" in run["tags"]]
    assert [run["metrics"] for run in trials] == [{"curve/test_error": 0.5}]


def test_after_an_interruption_new_trials_are_rows_and_old_ones_go_on(tmp_path, monkeypatch):
    made = recorder(tmp_path)
    made.study({}, {"search.sampler": "grid"})
    trial(made, tmp_path, 0)
    made.trial(1, "trial 1", {"engram.config_hash": "h1"}, {"training.lr": 0.5})
    assert made.close(60)
    made = recorder(
        tmp_path, True, trials=lambda: {0: ("h0", True), 1: ("h1", False), 2: ("h2", False)}
    )
    made.study({}, {"search.sampler": "grid"})
    assert made.settled.wait(60)
    written: list[str] = []
    write = rows.Rows.write
    monkeypatch.setattr(
        rows.Rows,
        "write",
        lambda self, some: written.extend(e.name for e in some) or write(self, some),
    )
    for number in (1, 2):
        trial(made, tmp_path, number)
    made.end(STUDY)
    assert made.close(60)
    assert "trial 2" in written
    assert "trial 1" not in written
    runs = found(tmp_path)
    assert [run["info"]["status"] for run in runs] == ["FINISHED", "FINISHED", "FINISHED", "FAILED"]


@pytest.mark.parametrize("change", ["needed text not null", None])
def test_tables_that_are_not_known_are_left_to_mlflow(tmp_path, change):
    study(tmp_path / "s", trials=1)
    path = tmp_path / "s" / "mlflow.db"
    client, parent = store.find_study(f"sqlite:///{path}", "s")
    experiment = client.get_experiment(parent.info.experiment_id)
    with sqlite3.connect(path) as connection:
        connection.execute("alter table params rename to old")
        if change:
            connection.execute(
                f"create table params (key text, value text, run_uuid text, {change})"
            )
    assert rows.of(path, experiment) is None
    assert rows.of(None, experiment) is None
