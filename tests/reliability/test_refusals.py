"""What an MLflow server will never take is set aside, told and kept; what it may take later waits."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from engram.sweeps.cluster import connection, tuning
from engram.sweeps.running import execution
from engram.sweeps.state import journal
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import Study
from engram.sweeps.tracking import batches, store
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.tracking.refusals import FILE
from tests.command_line import engram
from tests.reliability import faults
from tests.reliability.tracking_server import Gate, Server, free_port

OLD = "ENGRAM_OLD_MLFLOW"  # a Python with MLflow 2.22, for the test that wants a real one
LOGGED_MODELS = "/mlflow/logged-models"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture
def gate(server) -> Iterator[Gate]:
    gate = Gate(server)
    yield gate
    gate.close()


def recorder(uri: str, folder: Path, name: str, **options) -> Recorder:
    return Recorder(uri, folder, name, name, None, lambda *_: None, **options)


def tell(found: Recorder, trials: int = 2) -> None:
    """A study of a few trials, as the runner tells of it."""
    found.study({"engram.question": "?"}, {"search.sampler": "grid"})
    for number in range(trials):
        found.trial(number, f"trial {number}", {"engram.config_hash": "a"}, {"x": number})
        found.inputs(number, [{"name": "d", "digest": "1", "source": "d", "profile": "{}"}])
        found.metrics(number, 1, {"curve/train_error": 0.5})
        found.end(number)
    found.end(STUDY)


def runs(uri: str, experiment: str) -> list:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else list(client.search_runs([found.experiment_id]))


def kept(folder: Path) -> list[dict]:
    return [line for line, _ in journal.read(folder / FILE)]


def test_what_is_refused_for_good_is_set_aside_and_the_rest_goes_on(server, gate, tmp_path):
    gate.answers["/runs/log-inputs"] = 404
    found = recorder(gate.uri, tmp_path, "aside")
    tell(found)
    assert found.close(60)
    assert found.refusals.count == 2
    lines = kept(tmp_path)
    assert [line["message"]["kind"] for line in lines] == ["inputs", "inputs"]
    assert all("404" in line["reason"] for line in lines)
    there = runs(server.uri, "aside")
    assert sorted(r.info.status for r in there) == ["FINISHED"] * 3
    assert sum(r.data.metrics.get("curve/train_error") == 0.5 for r in there) == 2


def test_the_same_message_is_kept_once_however_often_it_is_refused(gate, tmp_path):
    gate.answers["/runs/log-inputs"] = 404
    for _ in range(2):
        found = recorder(gate.uri, tmp_path, "once", resumed=True)
        tell(found)
        assert found.close(60)
        assert found.refusals.count == 2
    assert len(kept(tmp_path)) == 2


def test_one_bad_entry_takes_no_other_with_it(server, tmp_path):
    found = recorder(server.uri, tmp_path, "entries")
    found.study({}, {"search.sampler": "grid"})
    names = {f"p{n}": n for n in range(20)}
    found.trial(0, "t", {"engram.config_hash": "a", "k" * 300: "long"}, {**names, "a,b;c": 1})
    found.metrics(0, 1, {"curve/ok": 0.5, "curve/no|t": 0.1})
    found.end(0)
    assert found.close(60)
    trial = next(r for r in runs(server.uri, "entries") if r.data.tags["engram.kind"] == "trial")
    assert names.keys() == trial.data.params.keys()
    assert trial.data.metrics == {"curve/ok": 0.5}
    assert trial.info.status == "FINISHED"
    assert sorted(line["message"]["kind"] for line in kept(tmp_path)) == [
        "metrics",
        "params",
        "tags",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0031622776601683794, "0.00316228"),
        (0.0, "0.0"),
        (1e-5, "1e-05"),
        (100, "100"),
        (True, "True"),
    ],
)
def test_params_are_rounded_and_older_ones_say_the_same(value, shown):
    assert batches.word(value) == shown
    assert batches.same(str(value), shown)
    assert not batches.same(str(value), "0.5")


@pytest.mark.parametrize("status", [500, 429, 403])
def test_what_may_change_waits(server, gate, tmp_path, status):
    name = f"waits-{status}"
    found = recorder(gate.uri, tmp_path, name)
    found.study({}, {"a": 1})
    assert found.rejected(60) is None
    gate.answers["/runs/log-inputs"] = status
    tell(found, trials=1)
    assert not found.close(4)
    assert found.refusals.count == 0
    gate.answers.clear()
    later = recorder(gate.uri, tmp_path, name, resumed=True)
    assert later.close(60)
    assert sorted(r.info.status for r in runs(server.uri, name)) == ["FINISHED"] * 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_that_lets_nobody_in_is_found_before_training(gate, tmp_path, status):
    gate.answers["/runs/create"] = status
    found = recorder(gate.uri, tmp_path, f"out-{status}")
    found.study({}, {})
    why = found.rejected(60)
    assert why is not None
    assert "does not let this be recorded" in why
    assert not found.close(1)


SMALL = """\
name: tiny
data: {name: digits, train_size: 100}
model: {width: 4, depth: 1}
training: {epochs: 1}
replicas: {count: 2}
sweep: {model.dropout: [0.0, 0.5]}
"""


def small(folder: Path, monkeypatch) -> Study:
    """A study that is run in this process, without Ray: none of these comes so far."""
    monkeypatch.setenv("ENGRAM_HOME", str(folder / "runs"))
    path = folder / "tiny.yaml"
    path.write_text(SMALL)
    return loading.load(str(path))


def test_nothing_is_trained_for_a_store_that_lets_nobody_in(gate, tmp_path, monkeypatch, capsys):
    study = small(tmp_path, monkeypatch)
    tracking = study.tracking.model_copy(update={"uri": gate.uri})
    gate.answers["/runs/create"] = 403
    monkeypatch.setattr(connection, "connected", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(tuning, "train", lambda *_: pytest.fail("it was trained"))
    assert execution.run(study.model_copy(update={"tracking": tracking})) == 1
    assert "does not let this be recorded" in capsys.readouterr().err


def test_a_run_that_cannot_start_leaves_none_running(tmp_path, monkeypatch, capsys):
    study = small(tmp_path, monkeypatch)

    def busy(*_: object) -> None:
        raise RuntimeError("Ray does not start")

    monkeypatch.setattr(execution, "SEND_AFTER_FAILURE_S", 200.0)  # the store is made here first
    monkeypatch.setattr(connection, "connected", busy)
    assert execution.run(study) == 1
    assert "Ray does not start" in capsys.readouterr().err
    (run,) = runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}", "tiny")
    assert (run.info.status, run.data.tags["engram.status"]) == ("FAILED", "interrupted")


def test_a_registered_name_that_is_refused_is_found_before_training(server, tmp_path):
    found = recorder(server.uri, tmp_path, "registry", register="a/b:c")
    found.study({}, {})
    why = found.rejected(60)
    assert why is not None
    assert "tracking.register_as = 'a/b:c'" in why
    found.close(1)
    good = recorder(server.uri, tmp_path, "registry", register="fine@champion")
    assert good.rejected(60) is None
    assert good.close(60)
    assert MlflowClient(server.uri).get_registered_model("fine").name == "fine"


@pytest.mark.faults
def test_the_longest_question_is_recorded(server, tmp_path):
    """MLflow takes 5,000 characters in a tag of an experiment and 8,000 in one of a run; a study 4,000."""
    question = "why? " * 799 + "why?"
    text = "name: long\nquestion: '{}'\ndata: {{train_size: 100}}\ntraining: {{epochs: 2}}\n"
    text += "tracking: {{uri: '{}'}}\n"
    study, home = faults.write(tmp_path, text.format(question, server.uri)), tmp_path / "runs"
    faults.finish(study, home)
    found = runs(server.uri, "long")
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == 2
    assert any(run.data.tags.get("engram.question", "").startswith("why? why?") for run in found)
    assert not list(home.glob("studies/long/outbox.refused.jsonl"))


def test_a_run_deleted_while_it_is_written_to_is_made_anew(server, tmp_path):
    lost: list[int] = []
    found = recorder(
        server.uri, tmp_path, "gone", trials=lambda: {0: ("a", True)}, again=lost.extend
    )
    found.study({}, {"a": 1})
    found.trial(0, "t", {"engram.config_hash": "a"}, {"x": 1})
    wait(lambda: len(runs(server.uri, "gone")) == 2)
    client = MlflowClient(server.uri)
    (trial,) = (r for r in runs(server.uri, "gone") if r.data.tags["engram.kind"] == "trial")
    client.delete_run(trial.info.run_id)
    found.metrics(0, 1, {"curve/train_error": 0.5})
    found.end(0)
    found.end(STUDY)
    assert found.close(60)
    (new,) = (r for r in runs(server.uri, "gone") if r.data.tags["engram.kind"] == "trial")
    assert new.data.metrics == {"curve/train_error": 0.5}
    assert lost == [0]  # it lacks what came before: whoever knows is asked to tell it again


def wait(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    import time

    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_server_that_knows_no_logged_models_gets_the_model_as_files(
    finished_study, server, gate, tmp_path
):
    gate.answers[LOGGED_MODELS] = 404
    assert_recorded_at(finished_study, gate.uri, tmp_path)


def test_a_real_older_server(finished_study, tmp_path):
    python = os.environ.get(OLD)
    if not python or not Path(python).exists():
        pytest.skip(f"{OLD} names no Python with an older MLflow")
    version = subprocess.run(
        [python, "-c", "import mlflow; print(mlflow.__version__)"], capture_output=True, text=True
    )
    assert version.returncode == 0, version.stderr
    server = Server(tmp_path / "server", python).start()
    try:
        assert_recorded_at(finished_study, server.uri, tmp_path)
    finally:
        server.stop()


def assert_recorded_at(finished_study, uri: str, tmp_path: Path) -> None:
    """The finished study, recorded on a server that has no logged models: whole, its model among its files."""
    home = tmp_path / "runs"
    shutil.copytree(finished_study.home, home)
    where = f"tracking.uri={uri}"
    model = f"tracking.register_as=net-{free_port()}"
    done = engram(
        "run", str(finished_study.study), "--set", where, "--set", model, home=home, timeout_s=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 trials were missing" in done.stderr
    assert "refused" not in done.stderr
    assert "waits in" not in done.stderr
    there = runs(uri, "small")
    parent = next(r for r in there if r.data.tags["engram.kind"] == "study")
    trials = [r for r in there if r.data.tags["engram.kind"] == "trial"]
    assert len(trials) == 4
    assert {r.info.status for r in there} == {"FINISHED"}
    client = MlflowClient(uri)
    # A newer client asks for logged models where it lists files: asked as an older one asks.
    where = f"{uri}/api/2.0/mlflow/artifacts/list?run_id={parent.info.run_id}&path=best_model"
    with urllib.request.urlopen(where, timeout=60) as answer:
        assert any(f["path"].endswith("MLmodel") for f in json.load(answer)["files"])
    assert len(store.read_json(client, parent.info.run_id, "trials.json")) == 4
    assert parent.data.tags["engram.model.trial"]
    tables = json.loads(parent.data.tags["mlflow.loggedArtifacts"])
    assert len(tables) == 4
    version = client.get_model_version_by_alias(model.partition("=")[2], "best")
    assert version.run_id == parent.info.run_id
    for run in trials:
        history = client.get_metric_history(run.info.run_id, "curve/train_error")
        assert [m.step for m in sorted(history, key=lambda m: m.step)] == list(range(1, 9))
        assert run.inputs.dataset_inputs
        assert run.data.params["model.dropout"]
