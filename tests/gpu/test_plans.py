"""Plans of studies on GPUs: timed there where there is one, else by a model that the plan states."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engram.models import device
from engram.sweeps.running import estimate, plan, speed
from engram.sweeps.study import loading

GIB = 2**30
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")


def page(made: estimate.Plan) -> str:
    return "\n".join(plan.lines(made))


@without_gpu
def test_a_gpu_that_is_not_here_is_modelled_and_that_is_said():
    study = loading.load("quickstart", ["resources.gpu=0.5", "resources.cpu=0.25"])
    made = estimate.make(study)
    assert made.timed_on == "model"
    assert made.concurrent == 2
    assert all(load.stack == study.replicas.count for load in made.loads)
    assert all(seconds > 0 for seconds in made.seconds)
    assert "a model, since there is no GPU here: 10 µs an operation, 2e+12 FLOP/s" in page(made)
    assert "a run here is refused" in page(made)


@without_gpu
def test_auto_is_the_cpu_where_there_is_none():
    assert speed.where(loading.load("quickstart")) == "cpu"
    assert speed.where(loading.load("quickstart", ["resources.device=cuda"])) == "model"


def test_a_model_knows_that_recurrent_networks_take_their_steps_one_by_one():
    def modelled(**model) -> float:
        words = [f"model.{key}={value}" for key, value in model.items()]
        study = loading.load("quickstart", words)
        made = study.configure(study.grid()[0])
        facts = SimpleNamespace(shape=(40,), classes=10, kind="sequence")
        return speed._modelled_s(made, facts, made.replicas.count)

    assert modelled(family="gru", width=16) > 20 * modelled(family="feedforward", width=16)
    # Few operations, each of them large: calculating takes longer than starting them.
    assert modelled(family="feedforward", width=8192) > 2 * modelled(
        family="feedforward", width=4096
    )


def test_where_there_are_gpus_a_few_steps_are_timed_on_one(monkeypatch):
    timed = []

    def seconds_per_step(*words, device, **options):
        timed.append(device.type)
        return 0.001

    card = SimpleNamespace(total_memory=16 * GIB)
    monkeypatch.setattr("engram.models.probe.seconds_per_step", seconds_per_step)
    monkeypatch.setattr(device, "cuda_problem", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *index: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 64)
    made = estimate.make(loading.load("quickstart", ["budget.trials=null"]))
    assert set(timed) == {"cuda"}
    assert made.concurrent == min(16, made.trials), "eight on each of two"
    assert "from steps measured on a GPU" in page(made)
    assert "on 2 x Card, as many on each as its memory holds" in page(made)
