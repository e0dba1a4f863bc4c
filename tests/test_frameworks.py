"""Lightning, Hugging Face, Keras, LightGBM and XGBoost as they are, on tiny sizes; skipped where one is absent.

One study of five kinds of learner is run for real: one board, paired by replica.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.config import DataConfig
from engram.models.learners import kinds
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, trial
from tests.command_line import engram

EXAMPLES = Path(__file__).parent.parent / "examples" / "any_training"
VIT = {
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
KINDS = {
    "lightning": ("lit:Lit", {"width": 16}, kinds.LIGHTNING),
    "keras": ("dense:build", {"width": 16}, kinds.KERAS),
    "transformers": ("transformers:ViTForImageClassification", VIT, kinds.HUGGINGFACE),
    "lightgbm": ("lightgbm:LGBMClassifier", {"n_estimators": 5, "verbose": -1}, kinds.ESTIMATOR),
    "xgboost": ("xgboost:XGBClassifier", {"n_estimators": 5}, kinds.ESTIMATOR),
}


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("lit", "dense", "train"):
        sys.modules.pop(name, None)


def trained(family: str, options: dict, count: int = 2) -> trial.Trial:
    configuration = Configuration(
        data={"name": "digits", "train_size": 150},
        model={"family": family, "options": options},
        training={"epochs": 3, "batch_size": 25, "lr": 0.01},
        replicas={"count": count},
    )
    dataset = catalog.load(DataConfig(name="digits"))
    running = preparing.prepare(
        configuration, dataset, torch.device("cpu"), wanted=MeasuresConfig()
    )
    while not running.trainer.finished:
        running.advance()
    return running


@pytest.mark.filterwarnings("ignore")  # of the frameworks' own
@pytest.mark.parametrize("package", KINDS)
def test_a_framework_trains_as_it_always_does(package):
    pytest.importorskip(package)
    family, options, kind = KINDS[package]
    assert kinds.of(family) is kind
    running = trained(family, options)
    record = measuring.measure(running, MeasuresConfig()).record
    assert record["status"] == "completed"
    assert record["measures"]["variance"]["mean"] > 0  # two replicas, two networks
    sums = running.outputs("test").exp().sum(-1).numpy()
    assert sums == pytest.approx(np.ones_like(sums), abs=1e-5)
    if kind is not kinds.ESTIMATOR:
        assert record["epochs"] == 3
        assert record["parameters"] > 0
        assert running.curve("validation", "error").shape == (2, 3)
        # The last report is of the model that predicts.
        told = [replica.told[-1].values for replica in running.trainer.cohort.done]
        assert running.curve("train", "loss")[:, -1] == pytest.approx(
            [values["train_loss"] for values in told], rel=1e-4
        )
    else:
        assert record["measures"]["test_error"]["mean"] < 0.5
    alone = trained(family, options, count=1)
    assert alone.outputs("test")[0].numpy() == pytest.approx(
        running.outputs("test")[0].numpy(), abs=1e-5
    )


FIVE = """\
name: five
data: {name: digits, train_size: 120}
training: {epochs: 3, batch_size: 20}
replicas: {count: 3}
sweep:
  cases:
    - {model.family: feedforward}
    - {model.family: "train:train", model.options.width: 16}
    - {model.family: "lit:Lit", model.options.width: 16}
    - {model.family: "sklearn.ensemble:RandomForestClassifier", model.options.n_estimators: 10}
    - {model.family: "sklearn.ensemble:GradientBoostingClassifier", model.options.n_estimators: 3}
"""


def test_five_kinds_of_learner_are_one_study_and_one_board(tmp_path):
    pytest.importorskip("lightning")
    for name in ("train.py", "lit.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "five.yaml").write_text(FIVE)
    plan = engram("plan", "five.yaml", home=tmp_path / "runs", cwd=tmp_path)
    assert "your function, replica by replica: train:train" in plan.stdout, plan.stderr
    done = engram("run", "five.yaml", home=tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = engram(
        "leaderboard", "five", "--by", "test_error", "--format", "json", home=tmp_path / "runs"
    )
    rows = json.loads(said.stdout)
    assert {row["params"]["model.family"] for row in rows} == {
        "feedforward",
        "train:train",
        "lit:Lit",
        "sklearn.ensemble:RandomForestClassifier",
        "sklearn.ensemble:GradientBoostingClassifier",
    }
    for row in rows:
        assert row["status"] == "completed"
        assert row["replicas"] == 3
        assert row["verdict"]
        for name in ("bias2", "variance", "memorization", "membership_auc", "generalization_gap"):
            if name != "membership_auc":  # of four replicas or more
                assert row["measures"][name]["low"] is not None, (row["params"], name)
    assert {row["tie_group"] for row in rows} >= {1}
    assert not list((tmp_path / "runs").rglob("scratch/trial-*"))
    report = engram("report", "five", "--out", "five.html", home=tmp_path / "runs", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
