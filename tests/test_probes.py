"""Measures that need training itself: each finds what was put there, and leaves the cohort as it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.dataset import Dataset, assemble
from engram.measures import catalog as measures_catalog
from engram.measures import forgetting
from engram.models import streams
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import landscape, measuring, preparing, trial, watch

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mnist1d(tmp_path_factory) -> Dataset:
    return catalog.load(Configuration().data, cache=tmp_path_factory.mktemp("cache"))


def prepared(dataset: Dataset, wanted: MeasuresConfig, **sections) -> trial.Trial:
    sections.setdefault("replicas", {"count": 3})
    sections.setdefault("model", {"width": 40})
    return preparing.prepare(Configuration(**sections), dataset, CPU, wanted=wanted)


def trained(dataset: Dataset, wanted: MeasuresConfig, **sections) -> trial.Trial:
    running = prepared(dataset, wanted, **sections)
    while not running.trainer.finished:
        running.advance()
    return running


def mean(result: measuring.Result, name: str) -> float:
    return result.record["measures"][name]["mean"]


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


QUICK = {"data": {"train_size": 200}, "training": {"epochs": 20, "evaluate_every": 1}}
NOISY = {**QUICK, "data": {"train_size": 200, "label_noise": 0.2}}


def test_a_watch_sees_what_the_measures_say(mnist1d):
    wanted = MeasuresConfig(forgetting=True)
    running = trained(mnist1d, wanted, **QUICK)
    watch, own = running.watch, running.members[1]
    seen = watch.right(1)[:, np.isin(watch.ids, own)]
    errors = np.array([report.error["train"][1] for report in running.history])
    assert seen.shape == (20, 200)
    assert 1 - seen.mean(axis=1) == pytest.approx(errors), (
        "right or wrong is what the train error counts"
    )
    result = measuring.measure(running, wanted)
    events = forgetting.events(seen.astype(float))
    assert result.record["replica_values"]["forgetting_events"][1] == pytest.approx(
        events.forgotten.mean()
    )
    assert 0 <= mean(result, "unforgettable_share") <= 1
    assert result.arrays["forgetting"].shape == watch.ids.shape


def test_training_is_not_watched_unless_it_is_asked_for(mnist1d):
    assert prepared(mnist1d, MeasuresConfig(), **QUICK).watch is None
    assert prepared(mnist1d, MeasuresConfig(forgetting=True), **QUICK).watch.true is None
    assert prepared(mnist1d, MeasuresConfig(), **NOISY).watch.true is not None
    random = {"train_size": 200, "random_labels": True}
    noisy = prepared(mnist1d, MeasuresConfig(), **{**QUICK, "data": random}).watch
    assert noisy is not None, "some random labels are right by chance"


def test_watching_changes_nothing(mnist1d):
    plain = trained(mnist1d, MeasuresConfig(), **QUICK)
    watched = trained(mnist1d, MeasuresConfig(forgetting=True), **QUICK)
    assert same(plain.trainer.cohort.state_dict(), watched.trainer.cohort.state_dict())


def test_a_watch_goes_on_from_a_checkpoint(mnist1d):
    wanted = MeasuresConfig(forgetting=True)
    whole = trained(mnist1d, wanted, **NOISY)
    first = prepared(mnist1d, wanted, **NOISY)
    for _ in range(7):
        first.advance()
    second = prepared(mnist1d, wanted, **NOISY)
    second.load_state_dict(first.state_dict())
    while not second.trainer.finished:
        second.advance()
    for true in (False, True):
        assert (second.watch.right(2, true) == whole.watch.right(2, true)).all()


def test_wrong_labels_are_fitted_later_than_right_ones(mnist1d):
    sections = {
        "data": {"train_size": 400, "label_noise": 0.2},
        "training": {"epochs": 60, "evaluate_every": 1, "lr": 3e-3},
        "model": {"width": 100},
    }
    result = measuring.measure(trained(mnist1d, MeasuresConfig(), **sections), MeasuresConfig())
    assert mean(result, "noise_delay") > 0
    assert mean(result, "epochs_to_fit_wrong") > mean(result, "epochs_to_fit_clean")
    assert result.record["noise_order"]["later"] == 3
    wrong, true = result.arrays["fitted_wrong_curve"], result.arrays["fitted_true_curve"]
    assert wrong.shape == true.shape == (60, 3)
    assert (wrong + true <= 1).all(), "no answer is both the wrong and the true label"
    assert true.max(axis=0).min() > true[-1].max(), (
        "true labels are given at first, and lost to the wrong ones"
    )
    assert (
        "noise_delay"
        not in measuring.measure(
            trained(mnist1d, MeasuresConfig(), **QUICK), MeasuresConfig()
        ).record["measures"]
    )


def test_taking_layers_back_costs_what_they_learned_and_is_undone(mnist1d):
    wanted = MeasuresConfig(layers=True)
    running = trained(mnist1d, wanted, **NOISY)
    before = running.trainer.cohort.state_dict()
    result = measuring.measure(running, wanted)
    assert same(before, running.trainer.cohort.state_dict())
    assert result.record["layers"] == ["layers.0", "layers.2", "readout"]
    for number in (1, 2, 3):
        excess = mean(result, f"reinit_layer{number}_noisy") - mean(
            result, f"reinit_layer{number}_clean"
        )
        assert mean(result, f"reinit_layer{number}_excess") == pytest.approx(excess)
        assert mean(result, f"rerandom_layer{number}_clean") > 0.2
    json.dumps(result.record, allow_nan=False)


def test_flatness_is_what_a_plain_loop_over_one_network_finds_and_leaves_it_alone(mnist1d):
    wanted = MeasuresConfig(flatness=True)
    running = trained(mnist1d, wanted, **QUICK)
    trainer = running.trainer
    before = trainer.cohort.state_dict()
    result = measuring.measure(running, wanted)
    assert same(before, trainer.cohort.state_dict())

    replica, began = 1, running.untrained().state_dict()
    inputs = trainer.pool.inputs[trainer.members[replica]]
    targets = trainer.pool.targets[trainer.members[replica]]
    weights = {name: p[replica].double() for name, p in before.items()}
    norm = torch.cat([p.flatten() for p in weights.values()]).norm()
    way = torch.cat([(p - began[name][replica]).flatten() for name, p in weights.items()]).norm()

    def loss(of: dict) -> float:
        hidden = inputs.double().flatten(1)
        for layer in ("layers.0", "layers.2"):
            hidden = (hidden @ of[f"{layer}.weight"].T + of[f"{layer}.bias"]).relu()
        logits = hidden @ of["readout.weight"].T + of["readout.bias"]
        return float(torch.nn.functional.cross_entropy(logits, targets))

    rises = []
    for draw in range(landscape.DRAWS):
        numbers = streams.generator(trainer.keys[replica], "flatness", draw)
        moved = {
            name: p * (1 + landscape.SHARE * torch.randn(p.shape, generator=numbers))
            for name, p in weights.items()
        }
        rises.append(loss(moved) - loss(weights))
    found = result.record["replica_values"]
    assert found["weight_norm"][replica] == pytest.approx(float(norm), rel=1e-5)
    assert found["weight_distance"][replica] == pytest.approx(float(way), rel=1e-5)
    assert found["sharpness"][replica] == pytest.approx(np.mean(rises), rel=1e-3)
    assert mean(result, "sharpness") > 0


def test_flatness_of_a_replica_is_the_same_in_any_company(mnist1d):
    wanted = MeasuresConfig(flatness=True)
    alone, among = (
        measuring.measure(trained(mnist1d, wanted, **QUICK, replicas={"count": n}), wanted)
        for n in (2, 4)
    )
    for name in ("weight_norm", "weight_distance", "sharpness"):
        few, many = (r.record["replica_values"][name] for r in (alone, among))
        assert few == pytest.approx(many[:2], rel=1e-4)


def test_untrained_layers_lose_nothing_when_taken_back(mnist1d):
    wanted = MeasuresConfig(layers=True)
    running = trained(mnist1d, wanted, **{**NOISY, "training": {"steps": 1, "lr": 1e-12}})
    result = measuring.measure(running, wanted)
    for number in (1, 2, 3):
        assert mean(result, f"reinit_layer{number}_clean") == pytest.approx(0, abs=0.02)
    assert mean(result, "reinit_trend") == pytest.approx(0, abs=0.05)


def test_a_second_task_costs_the_first_and_rehearsal_saves_it(mnist1d):
    wanted = MeasuresConfig(retention=True)
    sections = {"data": {"train_size": 800}, "training": {"epochs": 15}, "model": {"width": 100}}
    running = trained(mnist1d, wanted, **sections)
    before = running.trainer.cohort.state_dict()
    result = measuring.measure(running, wanted)
    assert same(before, running.trainer.cohort.state_dict())
    assert mean(result, "retention_drop") > 0.1
    assert mean(result, "rehearsed_retention_drop") < mean(result, "retention_drop") / 2
    assert mean(result, "second_task_error") < 0.85, "the second task is learned"
    again = measuring.measure(trained(mnist1d, wanted, **sections), wanted)
    assert mean(again, "retention_drop") == mean(result, "retention_drop")


def test_epochs_to_convergence_count_to_the_train_error_asked_for(mnist1d):
    wanted = MeasuresConfig(convergence_error=0.3)
    running = trained(mnist1d, wanted, **QUICK)
    result = measuring.measure(running, wanted)
    curves = np.array([report.error["train"].numpy() for report in running.history])
    first = (curves <= 0.3).argmax(axis=0) + 1
    assert result.record["convergence_error"] == 0.3
    assert result.record["replica_values"]["epochs_at_least"] == first.tolist()
    never = measuring.measure(running, MeasuresConfig(convergence_error=0.0))
    if never.record["censored_replicas"] == 3:
        assert never.record["measures"]["epochs_to_convergence"] is None
    assert mean(never, "epochs_at_least") <= 20


def test_of_a_large_pool_a_random_choice_is_measured():
    members = np.stack([np.arange(0, 600), np.arange(300, 900)])
    ids = np.arange(1000)
    assert (watch.measured(members, ids, 0) == ids).all()
    some = watch.measured(members, ids, 0, most=100)
    assert len(some) == len(set(some)) == 100
    assert (np.diff(some) > 0).all()
    inside = [np.isin(some, row) for row in members]
    assert (inside[0] ^ inside[1]).all(), "only examples that one replica saw and another did not"
    assert (watch.measured(members[:1], ids, 0, most=100) < 600).all()


def test_a_record_says_what_its_draw_makes_of_the_variance(mnist1d):
    def warned(size: int, draw: str = "subset") -> str:
        sections = {"data": {"train_size": size}, "replicas": {"count": 3, "draw": draw}}
        running = trained(mnist1d, MeasuresConfig(), **sections, training={"steps": 2})
        return " ".join(measuring.measure(running, MeasuresConfig()).record["warnings"])

    assert "given this pool" in warned(1600)
    assert "m/n = 1600/3200 = 0.5" in warned(1600)
    assert "initialization" in warned(3200)
    assert warned(200) == ""
    assert "variance" not in warned(1000, "disjoint")


def test_cost_counts_operations(mnist1d):
    result = measuring.measure(trained(mnist1d, MeasuresConfig(), **QUICK), MeasuresConfig())
    parameters, found = result.record["parameters"], result.record["cost"]
    assert found["multiplications_per_prediction"] == parameters
    assert found["training_operations"] == 6 * parameters * 20 * 200
    assert found["examples_per_second"] > 0


def test_decompositions_of_other_losses_add_up(mnist1d):
    result = measuring.measure(trained(mnist1d, MeasuresConfig(), **QUICK), MeasuresConfig())
    total = mean(result, "bias_ce") + mean(result, "variance_ce")
    assert total == pytest.approx(mean(result, "test_loss"), rel=1e-4)
    assert 0 <= mean(result, "bias_01") <= 1
    assert 0 <= mean(result, "variance_01") <= 1


def test_regression_has_memorization_and_no_probe_that_counts_right_answers():
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(300, 5)).astype(np.float32)
    values = generator.normal(size=300).astype(np.float32)
    line = assemble(
        "noise",
        (inputs[:200], values[:200]),
        (inputs[200:], values[200:]),
        classes=None,
        kind="vector",
    )
    wanted = MeasuresConfig(forgetting=True, layers=True, retention=True)
    result = measuring.measure(
        trained(
            line, wanted, data={"train_size": 80}, training={"steps": 300}, replicas={"count": 6}
        ),
        wanted,
    )
    assert mean(result, "memorization") > 0, "noise can only be memorized"
    assert mean(result, "membership_auc") > 0.6
    assert "forgetting_events" not in result.record["measures"]
    assert "retention_drop" not in result.record["measures"]


def test_the_page_of_measures_names_every_column(mnist1d):
    wanted = MeasuresConfig(forgetting=True, layers=True, retention=True)
    sections = {**NOISY, "replicas": {"count": 24, "inits": 2}, "training": {"epochs": 2}}
    record = measuring.measure(trained(mnist1d, wanted, **sections), wanted).record
    page = (Path(__file__).parent.parent / "docs" / "measures.md").read_text()
    for name in record["measures"]:
        stem = re.sub(r"layer\d+", "layerK", name)
        assert f"`{stem}`" in page or name.startswith("rerandom_"), name
    named = set(re.findall(r"`([a-z0-9][a-z0-9_]+)`", page)) - set(record) - {"train"}
    known = set(record["measures"]) | measures_catalog.MEASURES.keys()
    assert {n for n in named if n.endswith(("_error", "_loss", "_drop"))} <= known
