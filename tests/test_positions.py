"""A target at each position of examples that differ in length: those without one count neither in the loss nor in measures."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, tokens, trial

ROWS, LONGEST, WORDS, CPU = 72, 7, 6, torch.device("cpu")
TRAINING = {"optimizer": "sgd", "lr": 0.2, "batch_size": 8, "epochs": 2}


def sequences(end: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that mostly count on by one, of 2 to 7 positions, and the next ones; `end` stands after their end."""
    generator = np.random.default_rng(0)
    start, length = generator.integers(1, WORDS, ROWS), generator.integers(2, LONGEST + 1, ROWS)
    whole = (start[:, None] + np.arange(LONGEST + 1)) % (WORDS - 1) + 1
    ended = np.arange(LONGEST) >= length[:, None]
    return np.where(ended, -1, whole[:, :-1]), np.where(ended, -1, whole[:, 1:])


def mapping() -> dict:
    x, y = sequences()
    return {"x": x, "y": y, "kind": "tokens"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))


def dataset(**keys) -> Dataset:
    return catalog.load(DataConfig(name=f"{__name__}:mapping", **keys))


def finish(found: Dataset, **sections) -> tuple[measuring.Result, trial.Trial]:
    sections = {"training": TRAINING, "replicas": {"count": 4}, **sections}
    sections["data"] = {"train_size": 20, **sections.get("data", {})}
    sections["model"] = {"family": "lstm", "width": 8, "depth": 1, **sections.get("model", {})}
    running = preparing.prepare(Configuration(**sections), found, CPU)
    while not running.trainer.finished:
        running.advance()
    return measuring.measure(running, MeasuresConfig()), running


def test_targets_come_back_as_they_were_given():
    x, y = sequences()
    found = dataset()
    assert (found.every_step, found.tokens.padded, found.classes) == (True, True, WORDS)
    np.testing.assert_array_equal(found.inputs, x[found.ids])
    np.testing.assert_array_equal(found.targets, y[found.ids])
    np.testing.assert_array_equal(found.test_targets, y[found.test_ids])
    without = int((y == -1).sum())
    note = f"a target at each position, 6 classes; {without:,} positions have none (-1), and count nowhere"
    assert note in found.notes


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_what_stands_where_there_is_no_target_changes_nothing(monkeypatch, family):
    """The same trial where a token, and not the end, stands at positions without a target, after all that have one."""
    first, one = finish(dataset(), model={"family": family})
    x, y = sequences()
    given = {"x": np.where(x < 0, 3, x), "y": y, "kind": "tokens"}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    second, other = finish(dataset(), model={"family": family})
    for name in ("test_error", "test_loss", "train_loss", "perplexity", "memorization"):
        both = [found.record["measures"][name]["mean"] for found in (first, second)]
        assert both[0] == pytest.approx(both[1], rel=1e-4, abs=1e-6), name
    assert one.dataset.tokens.padded
    assert not other.dataset.tokens.padded


@pytest.mark.parametrize("family", ["lstm", "transformer"])
@pytest.mark.parametrize(("stack", "accumulate"), [(4, 1), (1, 1), (2, 2)])
def test_training_is_a_plain_loop_that_ignores_them(family, stack, accumulate):
    found = dataset(validation=10)
    training = {**TRAINING, "batch_size": 8 // accumulate, "accumulate": accumulate}
    replicas = {"count": 4, "stack": stack}
    model = {"family": family, "depth": 1}
    result, running = finish(
        found, model=model, training=training, replicas=replicas, data={"validation": 10}
    )
    x, y = torch.from_numpy(found.inputs), torch.from_numpy(found.targets)
    tested, wanted = torch.from_numpy(found.test_inputs), torch.from_numpy(found.test_targets)
    begun = running.untrained()
    for replica in range(4):
        net = begun.replica(replica).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
        for epoch in range(2):
            for batch in running.trainer.orders.of(epoch)[replica].split(8):
                optimizer.zero_grad()
                outputs = net(x[batch]).flatten(0, 1)
                F.cross_entropy(outputs, y[batch].flatten(), ignore_index=-1).backward()
                optimizer.step()
        outputs = net.eval()(tested)
        there = wanted != -1
        loss = F.cross_entropy(outputs[there], wanted[there]).item()
        error = (outputs.argmax(-1)[there] != wanted[there]).double().mean().item()
        values = result.record["replica_values"]
        assert values["test_loss"][replica] == pytest.approx(loss, rel=1e-4)
        assert values["test_error"][replica] == pytest.approx(error, abs=1e-6)
        assert values["perplexity"][replica] == pytest.approx(np.exp(loss), rel=1e-4)


def test_measures_are_of_the_positions_that_have_a_target():
    result, running = finish(dataset())
    said, right = tokens.by_token(running, "test")
    assert said.shape[1] == len(right) == (running.dataset.test_targets != -1).sum()
    p = said.double().softmax(-1).numpy()
    wanted = np.eye(WORDS)[right]
    bias2 = np.square(p.mean(0) - wanted).sum(-1).mean()
    variance = np.square(p - p.mean(0)).sum(-1).mean() * 4 / 3
    measures = result.record["measures"]
    assert measures["variance"]["mean"] == pytest.approx(variance, rel=1e-4)
    assert measures["bias2"]["mean"] == pytest.approx(bias2 - variance / 4, rel=1e-4)
    targets, places = tokens.answers(running.dataset, running.configuration.replicas)
    np.testing.assert_array_equal(targets, right)
    assert len(places) == len(right)
    score, likely = tokens.windows(running)
    ids = running.measured_ids
    outputs = running.outputs("measured")
    for k in (0, 5):
        own = torch.from_numpy(running.dataset.targets[ids[k]])
        there = own != -1
        for r in range(4):
            hits = (outputs[r, k].argmax(-1)[there] == own[there]).double().mean().item()
            assert score[r, k] == pytest.approx(hits)
            loss = F.cross_entropy(outputs[r, k][there].double(), own[there]).item()
            assert likely[r, k] == pytest.approx(-loss, rel=1e-6)


def test_class_weights_count_targets_alone():
    result, _ = finish(dataset(), training={**TRAINING, "class_weights": "balanced"})
    assert result.record["status"] == "completed"
    assert np.isfinite(result.record["measures"]["test_loss"]["mean"])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            lambda y: np.where(np.arange(ROWS)[:, None] == 4, -1, y),
            r"y\[4\] has no target at any position",
        ),
        (lambda y: y - 1, "some are no whole numbers from 0 on"),
        (lambda y: y + 0.5, "some are no whole numbers from 0 on"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(monkeypatch, change, rule):
    x, y = sequences()
    given = {"x": x, "y": change(y), "kind": "tokens"}
    monkeypatch.setattr(sys.modules[__name__], "mapping", lambda: given)
    with pytest.raises(DataError, match=rule):
        dataset()
