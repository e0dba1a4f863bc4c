"""Several inputs an example, by their names: read, trained as a plain torch loop over them, and handed to learners."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram import open as open_results
from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.models import family, several, streams
from engram.models.families import ModelError
from engram.models.learners.task import Task
from engram.sweeps.running import estimate, plan
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, trial
from tests.command_line import engram

ROWS, CPU = 90, torch.device("cpu")
SGD = {"optimizer": "sgd", "lr": 0.1, "batch_size": 8, "epochs": 2}


class Both(nn.Module):
    """Pictures, table rows and tokens; branching: on a value, which vmap does not take."""

    def __init__(self, shape, outputs, vocabulary, branching=False):
        super().__init__()
        self.see = nn.Conv2d(shape["picture"][0], 3, 3)
        self.branching = branching
        self.look = nn.Embedding(vocabulary["word"], 2)
        self.say = nn.Linear(10 + 1, outputs)

    def forward(self, picture, row, word, age):
        assert word.dtype == torch.int64
        assert age.dim() == 1
        seen = self.see(picture).mean((2, 3))
        if self.branching and row.sum() > 1e9:
            return seen
        return self.say(torch.cat([seen, row, self.look(word).mean(1), age[:, None]], 1))


def train(task: Task):
    """A training function that looks at what it is given."""
    x = task.train.inputs
    assert task.shape == {"picture": (3, 6, 5), "row": (5,), "word": (4,), "age": ()}
    assert [x[name].dtype.kind for name in x] == list("ffif")
    assert all(x[name].shape == (len(task.train), *task.shape[name]) for name in x)
    means = np.stack([x["row"][task.train.targets == c].mean(0) for c in range(task.classes)])

    def predict(inputs):
        return task.probabilities(lambda: None) and np.exp(inputs["row"] @ means.T)

    return task.probabilities(predict)


def made() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.arange(ROWS) % 3
    return {
        "picture": (np.arange(ROWS * 6 * 5 * 3) % 251).astype(np.uint8).reshape(ROWS, 6, 5, 3),
        "row": generator.normal(size=(ROWS, 5)) + y[:, None],
        "word": generator.integers(0, 7, (ROWS, 4)),
        "age": generator.random(ROWS),
    }


def mapping() -> dict:
    return {"x": made(), "y": np.arange(ROWS) % 3}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))


def dataset(**keys) -> Dataset:
    return catalog.load(DataConfig(name=f"{__name__}:mapping", **keys))


def finish(found: Dataset, **sections) -> tuple[measuring.Result, trial.Trial]:
    sections = {"training": SGD, "replicas": {"count": 3}, **sections}
    sections["data"] = {"train_size": 20, **sections.get("data", {})}
    running = preparing.prepare(Configuration(**sections), found, CPU)
    while not running.trainer.finished:
        running.advance()
    return measuring.measure(running, MeasuresConfig()), running


def test_each_input_comes_back_as_it_was_given():
    found, given = dataset(), made()
    assert found.kind == "several"
    assert found.inputs.shape == (ROWS - ROWS // 6, 6 * 5 * 3 + 5 + 4 + 1)
    assert found.inputs.dtype == np.float32
    back = several.arrays(found.inputs, several.members_of(found.shape))
    np.testing.assert_array_equal(back["word"], given["word"][found.ids])
    np.testing.assert_array_equal(back["age"], given["age"][found.ids].astype(np.float32))
    np.testing.assert_array_equal(back["row"], given["row"][found.ids].astype(np.float32))
    pictures = np.moveaxis(given["picture"][found.ids], -1, 1).astype(np.float32) / 255
    np.testing.assert_array_equal(back["picture"], pictures)
    assert [each.dtype for each in back.values()] == [np.float32, np.float32, np.int64, np.float32]
    said = "picture (3 x 6 x 5), row (5), word (4 whole numbers below 7), age (a number)"
    assert f"4 inputs by name: {said}" in found.notes
    torched = several.tensors(torch.from_numpy(found.inputs), several.members_of(found.shape))
    for name, each in back.items():
        np.testing.assert_array_equal(torched[name].numpy(), each)


@pytest.mark.parametrize("way", ["vmapped", "plain"])
def test_networks_train_as_in_a_plain_loop_over_their_inputs(way):
    found = dataset(validation=15)
    options = {"branching": way == "plain"}
    result, running = finish(
        found, model={"family": f"{__name__}:Both", "options": options}, data={"validation": 15}
    )
    trainer = running.trainer
    assert trainer.cohort.way == way
    assert result.record["status"] == "completed"
    given, members = made(), several.members_of(found.shape)
    given["picture"] = np.moveaxis(given["picture"], -1, 1).astype(np.float32) / 255
    x = {
        name: torch.from_numpy(each).to(torch.int64 if name == "word" else torch.float32)
        for name, each in given.items()
    }
    y = torch.arange(ROWS) % 3
    pool, test = torch.from_numpy(found.ids), torch.from_numpy(found.test_ids)
    predictions = running.outputs("test")
    for replica in range(3):
        torch.manual_seed(streams.key(0, "init", replica))
        shapes = {m.name: m.shape for m in members}
        net = Both(shapes, 3, {"word": 7}, **options)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for epoch in range(2):
            for batch in trainer.orders.of(epoch)[replica].split(8):
                rows = pool[batch]
                optimizer.zero_grad()
                F.cross_entropy(net(**{n: each[rows] for n, each in x.items()}), y[rows]).backward()
                optimizer.step()
        wanted = net.eval()(**{n: each[test] for n, each in x.items()}).detach()
        torch.testing.assert_close(predictions[replica], wanted, rtol=1e-4, atol=1e-5)
        alone = trainer.cohort.replica(replica)
        by_name = alone(**{n: each[test] for n, each in x.items()})
        torch.testing.assert_close(by_name, wanted, rtol=1e-4, atol=1e-5)


def test_training_functions_get_arrays_by_name():
    result, running = finish(dataset(), model={"family": f"{__name__}:train"})
    assert result.record["status"] == "completed"
    assert result.record["measures"]["test_error"]["mean"] < 0.5
    assert running.outputs("measured").shape == (3, len(running.measured_ids), 3)
    assert result.arrays["most_memorized_inputs"].shape[1:] == (
        3,
        6,
        5,
    )  # the picture is what is shown


LIT = """\
import lightning.pytorch as pl
import torch
from torch import nn


class Lit(pl.LightningModule):
    def __init__(self, shape, outputs):
        super().__init__()
        assert shape["row"] == (5,)
        self.look, self.last = nn.Embedding(7, 2), nn.Linear(5 + 2, outputs)

    def forward(self, row, word, **others):
        return self.last(torch.cat([row, self.look(word).mean(1)], 1))

    def training_step(self, batch, index):
        inputs, targets = batch
        return nn.functional.cross_entropy(self(**inputs), targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)
"""
KERAS = """\
import keras


def build(shape, outputs) -> keras.Model:
    inputs = {name: keras.Input(shape[name], name=name) for name in ("row", "word")}
    seen = keras.layers.Flatten()(keras.layers.Embedding(7, 2)(inputs["word"]))
    both = keras.layers.Concatenate()([inputs["row"], seen])
    model = keras.Model(inputs, keras.layers.Dense(outputs, activation="softmax")(both))
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    return model
"""
HUB = """\
import torch
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class Both(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config):
        super().__init__(config)
        self.look, self.last = torch.nn.Embedding(7, 2), torch.nn.Linear(5 + 2, config.num_labels)
        self.post_init()

    def forward(self, row, word, labels=None):
        logits = self.last(torch.cat([row, self.look(word).mean(1)], 1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
"""


@pytest.mark.filterwarnings("ignore")  # of the frameworks' own
@pytest.mark.parametrize(
    ("package", "code", "thing"),
    [("lightning", LIT, "Lit"), ("keras", KERAS, "build"), ("transformers", HUB, "Both")],
)
def test_frameworks_get_inputs_by_name(tmp_path, monkeypatch, package, code, thing):
    pytest.importorskip(package)
    (tmp_path / f"several_{package}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    x = {name: made()[name] for name in ("row", "word")}
    given = {"x": x, "y": np.arange(ROWS) % 3}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    result, running = finish(
        dataset(),
        model={"family": f"several_{package}:{thing}"},
        training={"epochs": 4, "batch_size": 10, "lr": 0.05},
        replicas={"count": 2},
        data={"train_size": 50},
    )
    assert result.record["status"] == "completed"
    assert result.record["measures"]["test_error"]["mean"] < 0.6  # by chance 0.67
    assert running.outputs("test").exp().sum(-1).numpy() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("form", ["npz", "npy", "items", "parts"])
def test_every_form_of_arrays_gives_the_same(tmp_path, monkeypatch, form):
    x, y = made(), np.arange(ROWS) % 3
    if form == "npz":
        np.savez(tmp_path / "a.npz", y=y, **{f"x.{name}": each for name, each in x.items()})
        name = f"npz:{tmp_path / 'a.npz'}"
    elif form == "npy":
        (tmp_path / "arrays").mkdir()
        for each, array in {"y": y, **{f"x.{n}": each for n, each in x.items()}}.items():
            np.save(tmp_path / "arrays" / f"{each}.npy", array)
        name = f"npy:{tmp_path / 'arrays'}"
    else:
        items = [({n: each[i] for n, each in x.items()}, y[i]) for i in range(ROWS)]
        parts = {"train": items, "test": items[:9]}
        monkeypatch.setattr(
            sys.modules[__name__], "mapping", lambda: items if form == "items" else parts
        )
        name = f"{__name__}:mapping"
    found = catalog.load(DataConfig(name=name))
    back = several.arrays(found.inputs, several.members_of(found.shape))
    assert len(found.inputs) == (ROWS if form == "parts" else ROWS - ROWS // 6)
    np.testing.assert_array_equal(back["word"], x["word"][found.ids])
    np.testing.assert_array_equal(back["age"], x["age"][found.ids].astype(np.float32))


def test_tensors_and_data_frames_are_arrays(monkeypatch):
    x, y = made(), torch.arange(ROWS) % 3
    frame, series, numbers = pd.DataFrame(x["row"]), pd.Series(x["age"]), torch.tensor(x["word"])
    given = {"x": {"row": frame, "age": series, "word": numbers}, "y": y}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    found = dataset()
    back = several.arrays(found.inputs, several.members_of(found.shape))
    for name in given["x"]:
        np.testing.assert_array_equal(back[name], x[name][found.ids].astype(back[name].dtype))
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: (frame, y))
    alone = dataset()  # one input
    np.testing.assert_array_equal(alone.inputs, x["row"][alone.ids].astype(np.float32))


def test_a_file_gives_one_input_or_several(tmp_path):
    x, y = made()["row"], np.arange(ROWS) % 3
    for names in (("x", "x.row"), ("x.row", "x")):
        np.savez(tmp_path / "a.npz", y=y, **dict.fromkeys(names, x))
        with pytest.raises(DataError, match=r"has both x and x\.row"):
            catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}"))


def test_texts_become_tokens_of_the_pools_vocabulary(monkeypatch):
    texts = ["a b"] * (ROWS - 1) + ["b a"]
    both = {"text": np.array(texts), "row": made()["row"]}
    given = {"x": both, "y": np.arange(ROWS) % 3}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    found = dataset(tokens="words")
    member = several.members_of(found.shape)[0]
    assert (member.name, member.shape, member.whole) == ("text", (2,), 3)
    back = several.arrays(found.inputs, several.members_of(found.shape))
    assert sorted(map(tuple, np.unique(back["text"], axis=0).tolist())) in (
        [(1, 2)],
        [(1, 2), (2, 1)],
    )
    assert any(note.startswith("text: ") and "as words" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"word": np.full((ROWS, 4), 2**24 + 1)}, "whole numbers up to 16,777,217"),
        ({"row": np.zeros((ROWS - 1, 5))}, "rows and x"),
        ({"two words": np.zeros((ROWS, 5))}, "has an input named 'two words'"),
        ({"row": np.full((ROWS, 5), np.nan)}, r"x\['row'\]\[0, 0\] is no number"),
        ({"row": np.array([["a"] * 5] * ROWS)}, r"x\['row'\] is of type <U1, not numbers"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(monkeypatch, change, rule):
    given = {"x": {**made(), **change}, "y": np.arange(ROWS) % 3}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    with pytest.raises(DataError, match=rule):
        dataset()


def test_a_test_set_of_other_inputs_is_refused(monkeypatch):
    x, y = made(), np.arange(ROWS) % 3
    for test, rule in (
        ({"row": x["row"]}, "x_test has the inputs row, and x age, picture, row, word"),
        (x["row"], "x_test has the inputs one array"),
        ({**x, "word": x["word"] + 0.5}, "are not both whole numbers"),
        ({**x, "word": x["word"][:, :2]}, r"x_test\['word'\] has examples of another shape"),
    ):
        given = {"x": x, "y": y, "x_test": test, "y_test": y}
        monkeypatch.setattr(sys.modules[__name__], "mapping", lambda given=given: given)
        with pytest.raises(DataError, match=rule):
            dataset()


def study(model: str, **data):
    return load(
        {
            "name": "both",
            "data": {"name": f"{__name__}:mapping", "train_size": 20, **data},
            "model": {"family": model},
            "training": {"epochs": 1, "batch_size": 8},
            "replicas": {"count": 2},
            "sweep": {"lr": [0.1, 0.01]},
        }
    )


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        ("feedforward", "takes one input, and an example has several"),
        ("sklearn.ensemble:RandomForestClassifier", "takes one input, and an example has several"),
        (
            f"{__name__}:Other",
            "Other.forward takes (x), and an example has the inputs picture, row",
        ),
    ],
)
def test_what_takes_one_input_is_refused_before_anything_runs(model, rule):
    problems = check_data(study(model))
    assert len(problems) == 1
    assert problems[0].key == "model.family"
    assert rule in problems[0].rule


class Other(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.last = nn.Linear(5, outputs)

    def forward(self, x):
        return self.last(x["row"])


def test_augmentation_is_for_one_input():
    for name in ("noise", "mixup", f"{__name__}:mapping"):
        problems = check_data(study(f"{__name__}:Both", augmentation=name))
        assert problems[0].key == "data.augmentation"
        assert "an example has several" in problems[0].rule


def test_a_network_without_the_right_call_is_explained():
    config = Configuration(model={"family": f"{__name__}:Other"}).model
    with pytest.raises(ModelError, match="name its arguments so"):
        family.build(config, dataset().shape, 3)


MINE = """\
import numpy as np
import torch


def both():
    generator = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = {"image": generator.normal(size=(80, 1, 4, 4)), "word": generator.integers(0, 5, (80, 2))}
    return {"x": {**x, "row": generator.normal(size=(80, 3)) + 2 * y[:, None]}, "y": y}


class Net(torch.nn.Module):
    def __init__(self, shape, outputs, vocabulary):
        super().__init__()
        self.look = torch.nn.Embedding(vocabulary["word"], 2)
        self.last = torch.nn.Linear(16 + 2 + 3, outputs)

    def forward(self, image, word, row):
        return self.last(torch.cat([image.flatten(1), self.look(word).sum(1), row], 1))


def train(task):
    rows, y = task.train.inputs["row"], task.train.targets
    means = np.stack([rows[y == c].mean(0) for c in range(2)])
    return task.logits(lambda x: -np.square(x["row"][:, None] - means).sum(-1))
"""
YAML = """\
name: both
data: {name: "mine:both", train_size: 30, validation: 10}
training: {epochs: 2, batch_size: 10, lr: 0.05}
replicas: {count: 4}
sweep: {model.family: ["mine:Net", "mine:train"]}
"""


def test_a_study_of_several_inputs_from_plan_to_network(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "both.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = "\n".join(plan.lines(estimate.make(load("both.yaml"))))
    assert "several inputs, 2 classes" in said
    assert "image (1 x 4 x 4), word (2 whole numbers below 5), row (3)" in said
    ran = engram("run", "both.yaml", home=tmp_path / "runs")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = open_results("both")
    assert {row["status"] for row in results.evidence.records} == {"completed"}
    number = next(r["trial"] for r in results.evidence.records if r["way"] != "learner")
    network, found = results.model(number, 1), results.predictions(number)
    assert found.source == "computed from the final weights"
    inputs = several.arrays(found.dataset.test_inputs, several.members_of(found.dataset.shape))
    with torch.no_grad():
        said = network(**{name: torch.from_numpy(each) for name, each in inputs.items()})
    np.testing.assert_allclose(said.softmax(-1).numpy(), found.values[1], atol=1e-5)
