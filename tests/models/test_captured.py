"""Recorded steps: the same numbers as step by step, whatever changes from step to step, and nothing for the host to see."""

from __future__ import annotations

import pytest
import torch

from engram.data import augmentation
from engram.models import captured
from engram.models.config import ModelConfig, TrainingConfig
from tests.gpu import graphs
from tests.models.conftest import train

RECIPES = {
    "adamw on a cosine": {"schedule": "cosine", "warmup": 0.2, "weight_decay": 0.01},
    "sgd, clipped, averaged": {"optimizer": "sgd", "clip": 0.1, "ema": 0.9, "lr": 0.05},
    "adam, accumulated, L1": {"optimizer": "adam", "accumulate": 2, "batch_size": 5, "l1": 1e-4},
    "smoothed, stopped early": {"label_smoothing": 0.1, "early_stopping": 2},
}


@pytest.fixture
def recorded(monkeypatch):
    """How many operations were recorded, each time."""
    counts = []

    def record(work, device):
        replay = graphs.record(work, device)
        counts.append(replay)
        return replay

    monkeypatch.setattr(captured, "record", record)
    monkeypatch.setattr(captured, "MOST_STEPS", 3)
    return counts


def pair(make_trainer, family, recipe, **options):
    config = TrainingConfig(**{"batch_size": 10, "epochs": 2, "evaluate_every": 1, **recipe})
    model = ModelConfig(family=family, width=6, depth=1, dropout=0.3)
    return [
        make_trainer(model, config, [0, 1, 2], capture=capture, **options)
        for capture in (False, True)
    ]


@pytest.mark.parametrize(
    ("recipe", "stack"), [*((name, None) for name in RECIPES), ("sgd, clipped, averaged", 2)]
)
def test_recorded_steps_are_as_steps_one_by_one(make_trainer, recorded, recipe, stack):
    plain, graph = pair(make_trainer, "feedforward", RECIPES[recipe], stack=stack)
    assert graph.not_captured is None
    train(plain)
    train(graph)
    assert len(recorded) == 1
    assert graph.step == plain.step
    assert_same(plain, graph)


@pytest.mark.parametrize("family", ["convolutional", "gru"])
def test_of_other_families_with_examples_that_change(make_trainer, recorded, family):
    change = augmentation.get("mixup", "vector")
    plain, graph = pair(make_trainer, family, {}, augment=(change, 1))
    train(plain)
    train(graph)
    assert recorded
    assert_same(plain, graph)


def test_after_a_restore_steps_are_recorded_anew(make_trainer, recorded):
    recipe = {"schedule": "linear"}
    plain, graph = pair(make_trainer, "feedforward", recipe)
    train(plain)
    graph.advance()
    again = pair(make_trainer, "feedforward", recipe)[1]
    again.advance()
    again.load_state_dict(graph.state_dict())
    train(again)
    assert len(recorded) == 3, "of the first, of the second, and after its restore"
    assert_same(plain, again)


def test_what_cannot_be_recorded_trains_on_step_by_step(make_trainer, monkeypatch):
    def refuses(work, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "record", refuses)
    plain, graph = pair(make_trainer, "feedforward", {})
    train(plain)
    train(graph)
    assert "not permitted" in graph.not_captured
    assert_same(plain, graph)


def test_memory_that_is_short_for_a_recording_is_told(make_trainer, monkeypatch):
    def short(work, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captured, "record", short)
    graph = pair(make_trainer, "feedforward", {})[1]
    with pytest.raises(torch.OutOfMemoryError):
        train(graph)


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ({"optimizer": "adafactor"}, "adafactor keeps numbers on the host"),
        ({"loss": "tests.gpu.own:loss"}, "of one's own"),
        ({"batch_size": 1000}, "fewer than two whole batches"),
    ],
)
def test_what_is_left_step_by_step_says_why(make_trainer, recipe, why):
    assert why in pair(make_trainer, "feedforward", recipe)[1].not_captured


@pytest.mark.parametrize(
    ("batches", "steps"), [(2, 2), (40, 40), (50, 50), (51, 25), (99, 49), (1000, 50)]
)
def test_an_epoch_is_replayed_in_equal_parts(batches, steps):
    assert captured.steps_in_graph(batches) == steps


def test_a_step_that_looks_at_a_number_cannot_be_recorded():
    with pytest.raises(graphs.Unsafe):
        graphs.record(lambda: float(torch.ones(()).sum()), torch.device("cpu"))


def assert_same(one, other):
    for name, parameter in one.cohort.parameters.items():
        torch.testing.assert_close(other.cohort.parameters[name], parameter, rtol=1e-4, atol=1e-6)
