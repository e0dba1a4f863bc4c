"""A positive class: which of two counts, and measures of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing
from tests import people

ROWS = 300
NAMES = ("precision", "recall", "positive_f1", "average_precision")


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    return people.write(tmp_path, ROWS, "ill")


@pytest.mark.parametrize("positive", ["ill", "well"])
def test_measures_are_of_the_class_that_is_named(table, positive):
    config = DataConfig(name=f"csv:{table}", positive=positive, train_size=100)
    dataset = catalog.load(config)
    states = np.array([row.split(",")[2] for row in table.read_text().split()[1:]])
    assert dataset.class_names[1] == positive
    np.testing.assert_array_equal(dataset.targets == 1, states[dataset.ids] == positive)
    np.testing.assert_array_equal(dataset.test_targets == 1, states[dataset.test_ids] == positive)
    share = (states == positive).mean()
    assert f"positive class: {positive} ({share:.1%} of the rows)" in dataset.notes
    training = {"steps": 60, "batch_size": 20}
    configuration = Configuration(data=config, training=training, replicas={"count": 4})
    made = preparing.prepare(configuration, dataset, torch.device("cpu"))
    while not made.trainer.finished:
        made.advance()
    record = measuring.measure(made, MeasuresConfig(own=NAMES)).record
    p = made.outputs("test").double().softmax(-1).numpy()
    said = np.array(dataset.class_names)[p.argmax(-1)]
    truth = states[dataset.test_ids]
    expected = {
        "precision": [sk.precision_score(truth, s, pos_label=positive) for s in said],
        "recall": [sk.recall_score(truth, s, pos_label=positive) for s in said],
        "positive_f1": [sk.f1_score(truth, s, pos_label=positive) for s in said],
        "average_precision": [sk.average_precision_score(truth == positive, q[:, 1]) for q in p],
    }
    for name, values in expected.items():
        assert record["replica_values"][name] == pytest.approx(values, abs=1e-6), name


def test_numbers_and_a_second_file(table, tmp_path):
    text = table.read_text().replace("ill", "1").replace("well", "2")
    numbers, second = tmp_path / "numbers.csv", tmp_path / "second.csv"
    numbers.write_text(text)
    second.write_text("\n".join([*text.split()[:6], "0,0,1", "0,0,2"]) + "\n")
    made = catalog.load(DataConfig(name=f"csv:{numbers}", positive=1, test=str(second)))
    assert made.class_names == ("2", "1")
    given = np.array([int(row.split(",")[2]) for row in second.read_text().split()[1:]])
    np.testing.assert_array_equal(made.test_targets == 1, given[made.test_ids] == 1)


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"positive": "sick"}, "is none of the classes\n    write ill or well"),
        ({"positive": "ill", "levels": ("ill", "well")}, "these have an order"),
        ({"positive": "1", "target": "a", "categories": ("state",)}, "the targets are values"),
    ],
)
def test_what_is_no_positive_class_is_refused(table, keys, rule):
    with pytest.raises(DataError, match=rule) as caught:
        catalog.load(DataConfig(name=f"csv:{table}", **keys))
    assert caught.value.key == "data.positive"


def test_three_classes_have_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(60.0)[:, None], y=np.arange(60) % 3)
    with pytest.raises(DataError, match="is one of two classes, and these are 3"):
        catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}", positive=1))


@pytest.mark.parametrize(
    "where", ["measures: {own: [recall]}", "search: {objective: {recall: max}}"]
)
def test_a_study_has_to_say_which_class_is_positive(table, tmp_path, where):
    study = tmp_path / "study.yaml"
    data = f"name: 'csv:{table}', train_size: 80"
    study.write_text(f"name: people\ndata: {{{data}}}\n{where}\n")
    said = [str(problem) for problem in check_data(load(study))]
    assert any("is of a positive class, and none is said" in text for text in said)
    study.write_text(f"name: people\ndata: {{{data}, positive: ill}}\n{where}\n")
    assert check_data(load(study)) == []
