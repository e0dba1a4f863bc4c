"""The Python door: one study run for real from Python, and everything it hands out checked against the ledger."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import engram
from tests.command_line import ROOT

STUDY = {
    "name": "door",
    "question": "Does dropout help a <small> network?",
    "data": {"name": "loader:table", "train_size": 120},
    "model": {"width": 16},
    "training": {"batch_size": 40},
    "replicas": {"count": 4},
    "sweep": {"model.dropout": [0.0, 0.5]},
}
LOADER = '''\
import numpy as np

def table():
    """Two classes of points, and a few that lie."""
    random = np.random.default_rng(3)
    inputs = random.normal(size=(500, 6)).astype("float32")
    targets = (inputs[:, 0] + 0.5 * random.normal(size=500) > 0).astype("int64")
    return inputs[:400], targets[:400], inputs[400:], targets[400:]
'''
# No `if __name__ == "__main__"`: what a run starts must not run the script once more.
SCRIPT = """\
    import json, sys
    print("started")
    import engram
    assert not {"torch", "ray", "mlflow", "optuna", "pandas", "pydantic"} & sys.modules.keys()
    study = engram.load(json.loads(sys.argv[1]), set={"training.epochs": 3})
    results = engram.run(study)
    print(json.dumps({"error": results.predictions(0).error.tolist(), "status": results.status}))
"""

NETWORK = """\
from torch import nn

class Net(nn.Sequential):
    def __init__(self, shape, outputs, width, dropout):
        layers = nn.Linear(shape[0], width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
        super().__init__(*layers)
"""
# Ray is up before Engram is importable; the run is called from a thread; the network is in a folder `models`.
IN_THEIR_RAY = """\
    import json, sys, threading, time
    import ray
    while not ray.is_initialized():  # on a busy machine it may take several attempts
        try:
            ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        except Exception:
            ray.shutdown()
            time.sleep(10)
    sys.path.insert(0, sys.argv[2])
    import engram
    study = engram.load(json.loads(sys.argv[1]), set={"model.family": "models.net:Net", "training.epochs": 2})
    found = []
    thread = threading.Thread(target=lambda: found.append(engram.run(study, name="theirs")))
    thread.start()
    thread.join()
    assert ray.get(ray.put("up")) == "up"
    try:
        engram.run(study, name="elsewhere", address="10.0.0.1:6379")
    except engram.StudyError as error:
        print(error)
    print(found[0].status, found[0].model(1, 0)[0].out_features)
"""

WITHOUT_MLFLOW = """\
    import sys
    sys.modules["mlflow"] = sys.modules["ray"] = None  # importing either fails
    import engram
    results = engram.open(engram.list()["name"][0])
    results.leaderboard("variance"), results.trials, results.replicas, results.answer, results.status
    results.predictions(0), results.member(1), results.figure("leaderboard"), results.compare("door")
    print(results.model(1, 2))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a script and a loader of its own, in which the script has run the study."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "loader.py").write_text(LOADER)
    (folder / "models").mkdir()
    (folder / "models" / "net.py").write_text(NETWORK)
    said = script(folder, SCRIPT, PYTHONPATH=str(ROOT))
    assert said.count("started\n") == 1
    (folder / "said").write_text(said)
    return folder


def script(folder: Path, text: str, *words: str, **environment: str) -> str:
    """What a script in a folder prints, run as a person runs it; the study is its first argument."""
    (folder / "script.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "script.py", json.dumps(STUDY), *words],
        cwd=folder,
        env={**os.environ, "ENGRAM_HOME": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
        | environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def results(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("ENGRAM_HOME", str(home / "runs"))
    return engram.open("door")


def records(results) -> dict[int, dict]:
    return {record["trial"]: record for record in results.evidence.records}


# -- loading ----------------------------------------------------------------------------------------


def test_a_study_is_loaded_from_a_name_a_file_or_a_dict(tmp_path):
    values = {"name": "mine", "training": {"epochs": 7}}
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(values))
    for source in (values, file, str(file)):
        assert engram.load(source).training.epochs == 7
    changed = engram.load(
        file, set={"training.epochs": np.int64(9), "sweep.model.dropout": np.array([0.0, 0.5])}
    )
    assert changed.training.epochs == 9
    assert changed.planned_trials() == 2
    assert engram.load("quickstart").name == "quickstart"
    assert repr(changed) == "<Study mine: 2 trials x 8 replicas>"


def test_all_problems_of_a_study_are_one_exception():
    wrong = {"name": "mine", "model": {"dropout": 1.5, "widht": 3}, "sweep": {"training.lr": []}}
    with pytest.raises(engram.StudyError) as caught:
        engram.load(wrong, set={"training.epochs": "ten"})
    said = str(caught.value)
    assert len(caught.value.problems) == 4
    for words in ("dropout = 1.5", "did you mean 'width'?", "training.lr", "training.epochs"):
        assert words in said
    with pytest.raises(engram.StudyError, match="a study file cannot"):
        engram.load({"name": "mine"}, set={"training.epochs": object()})


def test_a_plan_is_numbers_and_a_page():
    plan = engram.load("quickstart", set={"replicas.count": 4}).plan()
    assert plan.trials == 6 or plan.trials > 0
    assert plan.total_s > 0
    assert f"{plan.trials} (grid)" in str(plan)
    assert str(plan).endswith("run it with:\n  engram.run(study)")
    assert plan._repr_html_().startswith("<pre>quickstart")


# -- what was run -----------------------------------------------------------------------------------


def test_a_plain_script_runs_a_study(home, results):
    said = (home / "said").read_text()
    assert "Does dropout help" in said
    told = json.loads(said.splitlines()[-1])
    assert told["status"] == results.status == "complete"
    assert told["error"] == pytest.approx(records(results)[0]["replica_values"]["test_error"])
    assert (home / "runs/studies/door/model/MLmodel").exists()  # by the process beside it


def test_the_answer_is_the_report_s(results):
    assert results.answer.startswith(("Yes: ", "No: ", "Depends: ", "Cannot be told yet: "))
    assert "Best is dropout 0" in results.answer
    assert results.answer in repr(results)
    assert results.question == STUDY["question"]
    assert results.failed == 0
    assert results.study.training.epochs == 3


def test_executions_are_listed(results):
    found = engram.list()
    assert found["name"].tolist() == ["door"]
    row = found.iloc[0]
    assert (row["status"], row["trials"], row["planned"], row["failed"]) == ("complete", 2, 2, 0)
    assert abs((pd.Timestamp.now("UTC") - row["when"]).total_seconds()) < 3600
    with pytest.raises(engram.StudyError, match="did you mean 'door'"):
        engram.open("doors")


def test_it_is_running_while_its_lock_is_held(results, home):
    from engram.sweeps.state import lock

    with lock.held(home / "runs/studies/door", "run door"):
        assert results.status == "running"
        assert engram.list()["status"].tolist() == ["running"]
    assert results.status == "complete"


def test_results_need_neither_mlflow_nor_ray(home):
    assert "Linear" in script(home, WITHOUT_MLFLOW, PYTHONPATH=str(ROOT))


# -- tables -----------------------------------------------------------------------------------------


def test_a_leaderboard_is_the_command_line_s(results):
    by_default, by_variance = results.leaderboard(), results.leaderboard(by="variance")
    assert by_default.by == "validation_error"
    values = [record["measures"]["variance"]["mean"] for record in records(results).values()]
    frame = by_variance.frame()
    assert frame["variance"].tolist() == sorted(values)
    assert frame["rank"].tolist() == [1, 2]
    assert (frame["variance_low"] < frame["variance"]).all()
    assert len(by_variance) == 2
    assert [row.record["trial"] for row in by_variance] == frame["trial"].tolist()
    page = by_default._repr_html_()
    assert page.count("<tr>") == 3
    assert "dropout 0.5" in page
    assert "ranked by validation error" in repr(by_default)
    assert by_default.notes
    with pytest.raises(ValueError, match="did you mean 'variance'"):
        results.leaderboard(by="varianse")
    assert results.best == by_default.frame()["trial"][0]


def test_trials_are_tidy(results):
    frame = results.trials
    assert frame.index.name == "trial"
    assert frame["model.dropout"].tolist() == [0.0, 0.5]
    for number, record in records(results).items():
        for name, measure in record["measures"].items():
            for end, column in (("mean", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                found, wanted = frame.loc[number, column], (measure or {}).get(end)
                assert (found == wanted) or (pd.isna(found) and wanted is None), column
        assert frame.loc[number, "config_hash"] == record["config_hash"]
        assert frame.loc[number, "steps"] == record["steps"]
    assert frame["test_error"].dtype == float
    assert frame["error"].isna().all()


def test_replicas_are_tidy_and_average_to_the_trials(results):
    frame = results.replicas
    assert len(frame) == 2 * 4
    assert frame["replica"].tolist() == [0, 1, 2, 3] * 2
    assert (frame["networks"] == 1).all()
    means = frame.groupby("trial")[["test_error", "variance", "generalization_gap"]].mean()
    pd.testing.assert_frame_equal(
        means, results.trials[list(means.columns)], check_names=False, rtol=1e-5
    )


def test_replicas_keep_their_numbers_where_some_diverged(results, monkeypatch):
    import torch

    networks = results._networks
    diverged = {"trainer": {"diverged": torch.tensor([False, True, False, False])}}
    monkeypatch.setattr(networks, "_state", lambda record: diverged)
    some = {"replicas": 4, "diverged_replicas": 1, "replica_values": {"test_error": [0.1] * 3}}
    assert networks.rows_of(some) == ([0, 2, 3], 1)
    pairs = {"replicas": 8, "replica_values": {"test_error": [0.1] * 4}}
    assert networks.rows_of(pairs) == ([0, 2, 4, 6], 2)
    assert networks.rows_of({"status": "failed"}) == ([], 1)


# -- replicas ---------------------------------------------------------------------------------------


def test_predictions_reproduce_the_recorded_error(results):
    for number, record in records(results).items():
        found = results.predictions(number)
        assert found.values.shape == (4, 100, 2)
        assert found.error == pytest.approx(record["replica_values"]["test_error"], abs=1e-6)
        assert found.values.sum(-1) == pytest.approx(np.ones((4, 100)), abs=1e-5)
        kept = results.evidence.arrays(record)["test_predictions"]
        assert np.abs(found.values - kept).max() < 1e-3
        assert found.source == "computed from the final weights"
        values, targets, ids = found
        assert values is found.values
        frame = found.frame()
        assert len(frame) == 400
        assert frame.groupby("replica").apply(
            lambda f: (f.predicted != f.target).mean()
        ).tolist() == (pytest.approx(record["replica_values"]["test_error"], abs=1e-6))
        assert targets.tolist() == results._networks.dataset(record).test_targets.tolist()
        assert len(set(ids.tolist())) == 100


def test_without_weights_predictions_are_those_recorded(results, home, tmp_path):
    weights = home / "runs/studies/door/checkpoints/trial-1/final.ckpt"
    aside = weights.rename(tmp_path / "final.ckpt")
    try:
        found = engram.open("door").predictions(1)
        assert found.source == "as recorded, in half precision"
        kept = results.evidence.arrays(records(results)[1])["test_predictions"]
        assert np.array_equal(found.values, kept.astype(np.float32))
        with pytest.raises(LookupError, match="no final weights"):
            engram.open("door").model(1, 0)
    finally:
        aside.rename(weights)


def test_weights_that_give_something_else_are_not_believed(results):
    import torch

    record = records(results)[0]
    right = results.predictions(0).values
    with torch.no_grad():
        for values in results._networks._trained[1].trainer.cohort.parameters.values():
            values.mul_(3.0)
    with pytest.warns(UserWarning, match="other predictions than those that were recorded"):
        found = results.predictions(0)
    assert np.abs(found.values - right).max() < 1e-3
    assert found.error.shape == (4,)
    assert record["status"] == "completed"


def test_data_that_changed_is_refused(results):
    results.evidence.provenance["data.digest.loader:table"] = "0" * 64
    with pytest.raises(LookupError, match="no longer the data"):
        results.predictions(0)


def test_a_replica_is_a_module_that_can_be_called(results):
    import torch

    found = results.predictions(1)
    inputs = torch.from_numpy(results._networks.dataset(records(results)[1]).test_inputs)
    for replica in range(4):
        module = results.model(1, replica)
        assert not module.training
        with torch.no_grad():
            probabilities = module(inputs).softmax(-1).numpy()
        assert np.abs(probabilities - found.values[replica]).max() < 1e-5
    with pytest.raises(LookupError, match="replicas 0 to 3, not 4"):
        results.model(1, 4)
    with pytest.raises(LookupError, match="no finished trial 7"):
        results.model(7, 0)


def test_members_are_those_that_were_trained_on(results):
    record = records(results)[0]
    found = results.member(0)
    size = results.study.data.train_size
    assert found.member.sum(axis=1).tolist() == [size] * 4
    kept = results.evidence.arrays(record)["member"]  # the pool's, packed
    assert np.array_equal(np.packbits(found.member, axis=1), kept)
    # Accuracy on what a replica was trained on, from the networks themselves.
    import torch

    dataset = results._networks.dataset(record)
    inputs = torch.from_numpy(dataset.inputs[found.positions])
    targets = dataset.targets[found.positions]
    for replica, error in enumerate(record["replica_values"]["train_error"]):
        with torch.no_grad():
            wrong = results.model(0, replica)(inputs).argmax(-1).numpy() != targets
        assert wrong[found.member[replica]].mean() == pytest.approx(error, abs=1e-6)
    frame = found.frame()
    assert frame.shape == (len(found.ids), 4)
    assert frame.index.tolist() == found.ids.tolist()


# -- pictures and comparisons -----------------------------------------------------------------------


def test_a_figure_is_shown_and_saved(results, tmp_path):
    assert "leaderboard" in results.figures
    figure = results.figure("leaderboard")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.save(tmp_path / "board.svg").read_bytes().startswith(b"<?xml")
    assert figure.title
    with pytest.raises(LookupError, match="leaderboard"):
        results.figure("leader")


def test_results_are_compared(results):
    found = results.compare("door")
    assert "identical, digit for digit" in found.verdict
    frame = found.frame()
    assert (frame["change"] == 0).all()
    assert set(frame["trial_first"]) == {0, 1}
    assert "door → door" in found._repr_html_()


# -- running in this process ------------------------------------------------------------------------


def test_a_finished_study_is_run_again_in_a_thread_and_leaves_logging_alone(results, home):
    from concurrent.futures import ThreadPoolExecutor

    handlers = logging.getLogger("ray").handlers, logging.getLogger("engram").handlers
    study = engram.load(STUDY, set={"training.epochs": 3})
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(engram.run, [study, study]))
    assert [each.status for each in again] == ["complete"] * 2
    assert again[0].trials["test_error"].tolist() == results.trials["test_error"].tolist()
    assert (logging.getLogger("ray").handlers, logging.getLogger("engram").handlers) == handlers


def test_a_ray_that_is_there_is_used_and_left_running(home):
    said = script(home, IN_THEIR_RAY, str(ROOT), PYTHONPATH="").splitlines()
    assert "2/2" in "".join(said)
    assert "Ray is initialised, at" in "".join(said)
    assert said[-1] == "complete 16"


def test_a_run_that_cannot_be_says_why(results, home):
    from engram.sweeps.state import lock

    study = engram.load(STUDY, set={"training.epochs": 3})
    with (
        lock.held(home / "runs/studies/door", "run door"),
        pytest.raises(engram.RunError, match="is being worked on") as caught,
    ):
        engram.run(study)
    assert (caught.value.code, caught.value.name) == (1, "door")
    with pytest.raises(engram.RunError, match="would not compare"):
        engram.run(engram.load(STUDY, set={"training.epochs": 4}))


def test_the_names_that_are_exported_are_there():
    for name in engram.__all__:
        assert getattr(engram, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Trial'"):
        engram.Trial  # noqa: B018


def test_every_function_is_documented():
    text = (ROOT / "docs" / "python.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    for name in ("load", "run", "open", "list", "StudyError"):
        assert f"engram.{name}" in code, name
    public = {name for name in vars(engram.Results) if not name.startswith("_")}
    for name in (
        "leaderboard",
        "trials",
        "replicas",
        "predictions",
        "member",
        "model",
        "figure",
        "compare",
    ):
        assert name in public
        assert f"results.{name}" in code, name
    for name in public:
        assert re.search(rf"\b{name}\b", text), name
        assert getattr(engram.Results, name).__doc__ or name == "name"
