"""The stacking width is measured once and remembered; whatever it is, what comes out is the same."""

from __future__ import annotations

import json

import pytest
import torch

from engram.models import captured
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import Way
from engram.models.probe import Compared
from engram.sweeps.trial import stacking
from tests.gpu import graphs

CPU = torch.device("cpu")


def chosen(cache, monkeypatch, seconds, family="feedforward", replicas=16, way="stacked"):
    """The width where a stack of s replicas takes seconds[s] a step, and how often that was measured."""
    asked: list[int] = []

    def seconds_per_step(*words, stack, **options):
        asked.append(stack)
        return seconds[stack]

    monkeypatch.setattr(stacking, "seconds_per_step", seconds_per_step)
    cohort = stacking.Cohort(
        ModelConfig(family=family), TrainingConfig(), replicas, (40,), 10, False, CPU, Way(way)
    )
    width = stacking.width(cohort, cache)
    return width, len(asked)


def test_it_is_measured_once_and_remembered(tmp_path, monkeypatch):
    seconds = {1: 9.0, 8: 1.0, 16: 3.0}
    assert chosen(tmp_path, monkeypatch, seconds) == (8, 3 * stacking.ROUNDS)
    assert chosen(tmp_path, monkeypatch, {}) == (8, 0)
    assert chosen(tmp_path, monkeypatch, {1: 1.0, 8: 9.0, 16: 9.0}, family="gru")[0] == 1


def test_all_means_all_of_a_cohort_of_about_that_size(tmp_path, monkeypatch):
    assert chosen(tmp_path, monkeypatch, {1: 9.0, 8: 5.0, 16: 1.0})[0] == 16
    assert chosen(tmp_path, monkeypatch, {}, replicas=18) == (18, 0)


@pytest.mark.parametrize(("family", "rule"), [("feedforward", 16), ("lstm", 1)])
def test_the_rule_stands_unless_something_is_clearly_faster(tmp_path, monkeypatch, family, rule):
    seconds = {1: 1.0, 8: 1.0, 16: 1.0, rule: 1.2}
    assert chosen(tmp_path, monkeypatch, seconds, family)[0] == rule


@pytest.mark.parametrize("text", ["", "[1]", "{", json.dumps({"x": "y"})])
def test_a_memory_that_cannot_be_read_is_made_again(tmp_path, monkeypatch, text):
    (tmp_path / stacking.FILE).write_text(text)
    assert chosen(tmp_path, monkeypatch, {1: 9.0, 8: 9.0, 16: 1.0})[0] == 16
    assert chosen(tmp_path, monkeypatch, {})[1] == 0


def test_one_replica_and_what_runs_one_by_one_are_not_measured(tmp_path, monkeypatch):
    assert chosen(tmp_path, monkeypatch, {}, replicas=1) == (1, 0)
    assert chosen(tmp_path, monkeypatch, {}, family="mine:Net", way="plain") == (1, 0)


def test_an_own_network_that_stacks_is_measured(tmp_path, monkeypatch):
    """vmap is slow where it has no rule of its own: there one by one is the right width."""
    seconds = {1: 1.0, 8: 4.0, 16: 4.0}
    assert chosen(tmp_path, monkeypatch, seconds, family="mine:Net", way="vmapped")[0] == 1


def test_what_does_not_fit_into_memory_is_not_chosen(tmp_path, monkeypatch):
    """Where all at once are too many, half of them are tried, and so on."""

    def seconds_per_step(*words, stack, **options):
        if stack > 9:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return 1.0 / stack

    monkeypatch.setattr(stacking, "seconds_per_step", seconds_per_step)
    words = (ModelConfig(), TrainingConfig(), 16, (40,), 10, False, CPU)
    assert stacking.width(stacking.Cohort(*words), tmp_path) == 8
    assert stacking.width(stacking.Cohort(*words), tmp_path / "narrow", most=4) == 4


# -- recorded steps -----------------------------------------------------------------------------------


@pytest.fixture
def cohort(monkeypatch):
    """One whose device records: a CPU, with what stands for a graph there."""
    monkeypatch.setattr(stacking, "RECORDED_ON", ("cpu",))
    monkeypatch.setattr(captured, "record", graphs.record)
    monkeypatch.setattr(stacking, "BATCHES", 4)
    model = ModelConfig(width=8, depth=1)
    return stacking.Cohort(model, TrainingConfig(batch_size=10), 2, (12,), 4, False, CPU)


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (Compared(True, 1.4, 1.0), True),
        (Compared(True, 1.2, 1.0), False),  # not clearly
        (Compared(False, 9.0, 1.0), False),
        (None, False),  # cannot be recorded
    ],
)
def test_steps_are_recorded_where_that_pays_and_the_weights_agree(
    tmp_path, monkeypatch, cohort, found, answer
):
    asked = []
    monkeypatch.setattr(stacking, "recorded", lambda make, clock: asked.append(1) or found)
    assert stacking.captured(cohort, 2, tmp_path) is answer
    assert stacking.captured(cohort, 2, tmp_path) is answer
    assert len(asked) == 1, "remembered"
    assert stacking.captured(cohort, 1, tmp_path) is answer
    assert len(asked) == 2, "of another stack it is measured anew"


def test_it_is_measured_with_cohorts_that_train(tmp_path, monkeypatch, cohort):
    compare, seen = stacking.recorded, []
    monkeypatch.setattr(
        stacking, "recorded", lambda *words: seen.append(compare(*words)) or seen[-1]
    )
    stacking.captured(cohort, 2, tmp_path)
    assert seen[0].agree
    assert min(seen[0].one_by_one_s, seen[0].recorded_s) > 0


def test_a_graph_that_calculates_something_else_is_not_used(tmp_path, monkeypatch, cohort):
    def forgets(work, device):
        replay, ignored = graphs.record(work, device), iter([True])
        return lambda: None if next(ignored, False) else replay()

    monkeypatch.setattr(captured, "record", forgets)
    monkeypatch.setattr(stacking, "CLEARLY", 0.0)
    assert stacking.captured(cohort, 2, tmp_path) is False


def test_a_graph_that_does_not_fit_into_memory_is_not_used(tmp_path, monkeypatch, cohort):
    def short(work, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captured, "record", short)
    assert stacking.captured(cohort, 2, tmp_path) is False


def test_nothing_is_recorded_on_a_cpu(tmp_path, monkeypatch):
    cohort = stacking.Cohort(ModelConfig(), TrainingConfig(), 2, (12,), 4, False, CPU)
    monkeypatch.setattr(stacking, "recorded", None)
    assert stacking.captured(cohort, 2, tmp_path) is False
