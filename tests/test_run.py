"""From a study file to leaderboards, through the real command line, Ray, Optuna and MLflow."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.command_line import engram

CONTRACT = (
    "train_error validation_error test_error generalization_gap bias2 variance ensemble_error "
    "memorization membership_auc"
).split()


def board(home: Path, name: str | None, *words: str) -> list[dict]:
    done = engram("leaderboard", *([name] if name else []), "--format", "json", *words, home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def runs_of(home: Path, name: str) -> tuple[list, list]:
    """(parents, children) of a study in the embedded store."""
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    by_kind = {
        kind: [r for r in runs if r.data.tags["engram.kind"] == kind] for kind in ("study", "trial")
    }
    return by_kind["study"], by_kind["trial"]


def test_the_terminal_ends_in_the_answer_one_board_and_next_steps(finished_study):
    output = finished_study.output
    assert "4 trials x 6 replicas" in output
    assert "starting Ray …" in output
    answer = output.index("Does dropout lower", output.index("trial "))
    assert re.search(r"^  (Yes|No|Depends|Cannot be told yet): ", output[answer:], re.MULTILINE)
    assert answer < output.index("ranked by validation error")
    assert output.count("ranked by") == 1
    assert str(finished_study.home / "studies" / "small" / "report.html") in output
    assert "orchestrate.py leaderboard small" in output
    assert "Warning" not in output
    assert "ray::" not in output


def test_the_leaderboard_is_the_contracts(finished_study):
    entries = board(finished_study.home, "small")
    assert [e["rank"] for e in entries] == [1, 2, 3, 4]
    assert {e["status"] for e in entries} == {"completed"}
    for entry in entries:
        assert set(entry["params"]) == {"model.dropout", "training.lr"}
        assert entry["replicas"] == 6
        for name in CONTRACT:
            measure = entry["measures"][name]
            assert measure["low"] <= measure["mean"] <= measure["high"]
    errors = [e["measures"]["validation_error"]["mean"] for e in entries]
    assert errors == sorted(errors)


def test_the_newest_study_is_the_default_and_every_format_agrees(finished_study):
    entries = board(finished_study.home, None, "--by", "variance", "--top", "2")
    assert len(entries) == 2
    text = engram(
        "leaderboard", "--by", "variance", "--format", "csv", home=finished_study.home
    ).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(r["trial"]) for r in rows[:2]] == [e["trial"] for e in entries]
    assert float(rows[0]["variance"]) == entries[0]["measures"]["variance"]["mean"]
    markdown = engram(
        "leaderboard", "--by", "variance", "--format", "markdown", home=finished_study.home
    ).stdout
    table = engram("leaderboard", "--by", "variance", home=finished_study.home).stdout
    for text in (markdown, table):
        assert f"{entries[0]['measures']['variance']['mean']:.3f} ±" in text


def test_an_unknown_name_or_column_is_one_clear_error(finished_study):
    done = engram("leaderboard", "smal", home=finished_study.home)
    assert done.returncode == 2
    assert "did you mean 'small'" in done.stderr
    done = engram("leaderboard", "--by", "varience", home=finished_study.home)
    assert done.returncode == 2
    assert "did you mean 'variance'" in done.stderr
    assert "Traceback" not in done.stderr


def test_mlflow_has_a_parent_and_a_child_per_trial_as_the_contract_says(finished_study):
    parents, children = runs_of(finished_study.home, "small")
    assert len(parents) == 1
    assert len(children) == 4
    parent = parents[0]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["engram.name"] == "small"
    for key in (
        "engram.git.commit",
        "engram.version.torch",
        "engram.machine.cores",
        "engram.data.digest.mnist1d",
    ):
        assert parent.data.tags[key]
    for child in children:
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["engram.status"] == "completed"
        assert len(child.data.tags["engram.config_hash"]) == 12
        assert child.data.params["model.dropout"] in ("0.0", "0.5")
        for name in CONTRACT:
            assert f"final/{name}" in child.data.metrics
            assert {f"interval/{name}_low", f"interval/{name}_high"} <= set(child.data.metrics)
    assert sorted(c.data.tags["engram.trial"] for c in children) == ["0", "1", "2", "3"]
    assert {c.info.run_name for c in children} >= {"dropout 0.5 · lr 0.01"}


def test_mlflow_has_curves_tables_and_the_study_file(finished_study):
    parents, children = runs_of(finished_study.home, "small")
    client = MlflowClient(f"sqlite:///{finished_study.home / 'mlflow.db'}")
    history = client.get_metric_history(children[0].info.run_id, "curve/validation_error")
    assert [point.step for point in history] == list(range(1, 9))
    names = {a.path for a in client.list_artifacts(parents[0].info.run_id)}
    assert {"study.yaml", "provenance.json", "trials.json", "leaderboard_variance.json"} <= names
    assert {a.path for a in client.list_artifacts(children[0].info.run_id)} >= {"arrays.npz"}


def test_the_leaderboard_can_be_read_from_mlflow_alone(finished_study, tmp_path):
    home = tmp_path / "runs"
    shutil.copytree(finished_study.home, home)
    shutil.rmtree(home / "studies")
    assert board(home, "small") == board(finished_study.home, "small")


def test_a_finished_study_is_not_run_again(finished_study):
    done = engram("run", str(finished_study.study), home=finished_study.home)
    assert done.returncode == 0
    assert "4 finished before" in done.stdout
    parents, children = runs_of(finished_study.home, "small")
    assert (len(parents), len(children)) == (1, 4)


def test_the_same_grid_gives_the_same_leaderboard(finished_study, tmp_path):
    again = tmp_path / "runs"
    done = engram("run", str(finished_study.study), home=again)
    assert done.returncode == 0, done.stderr

    def without_names(entries: list[dict]) -> list[dict]:
        return [{k: v for k, v in e.items() if k != "run_id"} for e in entries]

    assert without_names(board(again, "small")) == without_names(
        board(finished_study.home, "small")
    )


def test_tpe_with_asha_on_all_four_keys(tmp_path):
    (tmp_path / "search.yaml").write_text(
        """\
name: four
training: {epochs: 9, batch_size: 50}
replicas: {count: 2}
sweep:
  dropout: {uniform: [0.0, 0.6]}
  lr: {loguniform: [1.0e-4, 1.0]}
  weight_decay: {loguniform: [1.0e-4, 1.0]}
  train_size: {int: [100, 400]}
search: {sampler: tpe, trials: 10}
scheduler: {name: asha, grace: 1, reduction_factor: 3}
"""
    )
    done = engram("run", "search.yaml", home=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    entries = board(tmp_path / "runs", "four")
    assert len(entries) == 10
    statuses = {e["status"] for e in entries}
    assert "pruned" in statuses
    assert "completed" in statuses
    for entry in entries:
        if entry["status"] == "pruned":
            assert entry["tie_group"] is None
            assert entry["measures"]["validation_error"]["mean"] > 0


def test_several_objectives_end_in_a_pareto_front(tmp_path):
    (tmp_path / "two.yaml").write_text(
        """\
name: two
data: {train_size: 200}
training: {epochs: 3}
replicas: {count: 3}
sweep: {width: {int: [4, 64]}, dropout: {uniform: [0.0, 0.5]}}
search: {sampler: nsga2, trials: 4, objective: {validation_error: min, parameters: min}}
""".replace("width:", "model.width:")
    )
    done = engram("run", "two.yaml", home=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pareto front" in done.stdout


def test_extremes_of_the_article_run_to_the_end(tmp_path):
    (tmp_path / "extremes.yaml").write_text(
        """\
name: extremes
data: {train_size: 200, pool_size: 3000}
training: {optimizer: sgd, epochs: 4}
replicas: {count: 2}
sweep:
  lr: [0.1, 1.0, 1.0e+6]
  dropout: [0.0, 1.0]
"""
    )
    done = engram("run", "extremes.yaml", home=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    entries = board(tmp_path / "runs", "extremes")
    assert len(entries) == 6
    assert {e["status"] for e in entries} == {"completed", "diverged"}
    assert entries[-1]["status"] == "diverged", "ranked last"
    parents, _ = runs_of(tmp_path / "runs", "extremes")
    assert parents[0].data.tags["engram.data.digest.mnist1d pool_size 3000"]
    assert not (tmp_path / "runs/studies/extremes/outbox.refused.jsonl").exists()


def test_a_trial_that_raises_fails_alone(tmp_path):
    (tmp_path / "mine.py").write_text(
        """\
import torch

class Moody(torch.nn.Module):
    def __init__(self, shape, outputs, width=8):
        super().__init__()
        self.layer = torch.nn.Linear(shape[0], outputs)
        self.width = width

    def forward(self, inputs):
        if self.width == 13 and self.training and inputs.shape[0] == 50:
            raise RuntimeError("thirteen brings bad luck")
        return self.layer(inputs)
"""
    )
    (tmp_path / "moody.yaml").write_text(
        """\
name: moody
data: {train_size: 200}
model: {family: "mine:Moody"}
training: {epochs: 2, batch_size: 50}
replicas: {count: 2, stack: 1}
sweep: {model.width: [8, 13]}
"""
    )
    done = engram("run", "moody.yaml", home=tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert [e["status"] for e in board(tmp_path / "runs", "moody")] == ["completed", "failed"]
    assert "thirteen" in (tmp_path / "runs" / "studies" / "moody" / "run.log").read_text()


@pytest.mark.parametrize("word", ["--name", "--set"])
def test_executions_have_names_and_values_can_be_set(finished_study, tmp_path, word):
    words = {
        "--name": ["--name", "night-1", "--set", "sweep.training.lr=[0.01]"],
        "--set": ["--set", "sweep.training.lr=[0.003]"],
    }
    done = engram("run", str(finished_study.study), *words[word], home=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    entries = board(tmp_path / "runs", "night-1" if word == "--name" else "small")
    assert len(entries) == 2
