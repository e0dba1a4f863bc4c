"""Weights of classes by their names: the same as a list in their order, and refused where a name is none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engram.data import catalog
from engram.data.config import DataConfig
from engram.models.config import TrainingConfig
from engram.models.families import ModelError
from engram.models.losses import mean_loss, training_loss, with_named_weights
from engram.problems import StudyError
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing
from tests import people

ROWS = 200


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    return people.write(tmp_path, ROWS, "very ill")


def finish(path: Path, weights) -> dict:
    configuration = Configuration(
        data={"name": f"csv:{path}", "train_size": 80},
        training={"steps": 40, "batch_size": 20, "class_weights": weights},
        replicas={"count": 3},
        model={"width": 6, "depth": 1},
    )
    made = preparing.prepare(configuration, catalog.load(configuration.data), torch.device("cpu"))
    while not made.trainer.finished:
        made.advance()
    return measuring.measure(made, MeasuresConfig()).record


def test_names_are_the_list_in_the_order_of_the_classes(table):
    named, listed = finish(table, {"very ill": 6.0}), finish(table, (6.0, 1.0))
    assert named["replica_values"] == listed["replica_values"]
    plain = finish(table, None)
    assert named["class_recall"]["test"][0] > plain["class_recall"]["test"][0]


def test_the_loss_is_torchs_with_these_weights():
    torch.manual_seed(0)
    config = with_named_weights(TrainingConfig(class_weights={"b": 3.0}), ("a", "b", "c"))
    assert config.class_weights == (1.0, 3.0, 1.0)
    outputs, targets = torch.randn(1, 8, 3), torch.randint(3, (1, 8))
    loss = training_loss(config, targets[0], torch.arange(8)[None])
    found = mean_loss(loss, outputs, targets, slice(0, 1))
    expected = F.cross_entropy(outputs[0], targets[0], weight=torch.tensor([1.0, 3.0, 1.0]))
    torch.testing.assert_close(found[0], expected)
    with pytest.raises(ModelError, match="there are no classes"):
        with_named_weights(TrainingConfig(class_weights={"b": 3.0}), ())


def study(table: Path, weights: str):
    path = table.with_name("study.yaml")
    path.write_text(
        f"name: people\ndata: {{name: 'csv:{table}', train_size: 80}}\n"
        f"training: {{class_weights: {weights}}}\n"
    )
    return load(path)


def test_a_study_names_classes(table):
    made = study(table, "{very ill: 5}")
    assert check_data(made) == []
    configuration = made.configure({})
    assert configuration.dotted()["training.class_weights"] == "very ill: 5.0"
    said = [str(problem) for problem in check_data(study(table, "{ill: 5}"))]
    assert len(said) == 1
    assert "names 'ill', and the classes are very ill, well" in said[0]


@pytest.mark.parametrize(
    ("weights", "rule"),
    [
        ("{well: -1}", "weighs well by -1"),
        ("{well: much}", "weighs well by 'much'"),
        ("{well: 0}", "weighs nothing"),
    ],
)
def test_weights_that_are_none_are_refused(table, weights, rule):
    with pytest.raises(StudyError, match=rule):
        study(table, weights)


def test_numbers_name_classes_too(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(90.0)[:, None], y=np.arange(90) % 3)
    names = catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}")).names
    config = with_named_weights(TrainingConfig(class_weights={"2": 4.0}), names)
    assert config.class_weights == (1.0, 1.0, 4.0)
