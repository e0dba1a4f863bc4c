"""From a configuration to a record, without Ray: what is measured is right, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.dataset import assemble
from engram.measures import catalog as measures
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, outcomes, preparing

QUICK = {"steps": 60, "batch_size": 50}


@pytest.fixture(scope="session")
def mnist1d(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return catalog.load(Configuration().data, cache=cache)


def finish(dataset, wanted: dict | None = None, **sections) -> measuring.Result:
    sections.setdefault("training", QUICK)
    configuration = Configuration(**sections)
    running = preparing.prepare(configuration, dataset, torch.device("cpu"))
    while not running.trainer.finished:
        running.advance()
    return measuring.measure(running, MeasuresConfig(**(wanted or {})))


def mean(result: measuring.Result, name: str) -> float:
    return result.record["measures"][name]["mean"]


def comparable(record: dict) -> dict:
    """A record without what the clock put into it."""
    selection = {k: v for k, v in record["selection"].items() if k != "seconds"}
    timed = ("seconds", "measure_seconds", "selection", "cost")
    return {k: v for k, v in record.items() if k not in timed} | {"selection": selection}


def test_the_same_configuration_gives_the_same_record(mnist1d):
    options = dict(data={"train_size": 300}, model={"dropout": 0.3}, replicas={"count": 4})
    assert comparable(finish(mnist1d, **options).record) == comparable(
        finish(mnist1d, **options).record
    )


def test_a_record_is_plain_json_with_the_measures_of_the_contract(mnist1d):
    record = finish(mnist1d, data={"train_size": 1600}).record
    json.dumps(record, allow_nan=False)
    names = (
        "train_error validation_error test_error generalization_gap bias2 variance ensemble_error "
        "memorization membership_auc epochs_to_convergence"
    ).split()
    for name in names:
        measure = record["measures"][name]
        assert measure["low"] <= measure["mean"] <= measure["high"], name
    assert record["status"] == "completed"


def test_risk_is_bias_plus_variance_and_the_gap_is_test_minus_train(mnist1d):
    result = finish(mnist1d, data={"train_size": 500})
    probabilities = result.arrays["test_predictions"].astype(np.float64)
    one_hot = np.eye(10)[mnist1d.test_targets]
    brier = ((probabilities - one_hot) ** 2).sum(-1).mean()
    assert mean(result, "bias2") + mean(result, "variance") == pytest.approx(brier, abs=1e-3)
    gap = mean(result, "test_error") - mean(result, "train_error")
    assert mean(result, "generalization_gap") == pytest.approx(gap, abs=1e-12)


@pytest.mark.parametrize(
    ("dropout", "accuracy", "variance", "bias2"),
    [(0.0, 0.462, 0.438, 0.509), (0.5, 0.532, 0.172, 0.458)],
)
def test_the_published_protocol_comes_out(mnist1d, dropout, accuracy, variance, bias2):
    """MNIST-1D, 40-100-100-10 ReLU, AdamW 1e-2, 3000 steps, 8 subsets of 1000 of the 4000 (docs/gallery.md)."""
    result = finish(
        mnist1d,
        data={"train_size": 1000, "validation": 0},
        model={"dropout": dropout},
        training={"steps": 3000, "evaluate_every": 300},
    )
    assert 1 - mean(result, "test_error") == pytest.approx(accuracy, abs=0.02)
    assert mean(result, "variance") == pytest.approx(variance, abs=0.025)
    assert mean(result, "bias2") == pytest.approx(bias2, abs=0.025)


def test_the_interval_for_new_data_holds_the_one_for_retraining(mnist1d):
    """Disjoint draws: every measure of predictions has it, by the catalog; for replicas of one subset nothing has."""
    made = finish(
        mnist1d,
        {"own": ["f1"]},
        data={"train_size": 200},
        replicas={"count": 4, "draw": "disjoint"},
    ).record
    wide = made["new_data"]
    marked = {m.name for m in measures.MEASURES.values() if m.new_data}
    own = {"f1", "validation_f1"}
    assert set(wide) - own == {n for n, m in made["measures"].items() if m and n in marked} - own
    assert own <= set(wide)
    for name, ends in wide.items():
        found = made["measures"][name]
        assert ends["low"] <= found["low"] <= found["high"] <= ends["high"], name
    # Without a test sample, and with no pool in common, both are the same.
    assert wide["train_error"]["high"] == pytest.approx(made["measures"]["train_error"]["high"])
    # Test examples alone: the variance of 1,000 answers is a lower bound.
    error = made["measures"]["test_error"]["mean"]
    assert wide["test_error"]["high"] - error > 1.9 * (error * (1 - error) / 4 / 1000) ** 0.5
    metrics = outcomes.final_metrics(made)
    assert metrics["interval/test_error_new_data_low"] == wide["test_error"]["low"]
    same = finish(
        mnist1d, data={"train_size": 200, "validation": 3800}, replicas={"count": 3}
    ).record
    assert "new_data" not in same


def test_selection_never_touches_the_test_set(mnist1d):
    """With other test examples everything that a search may select by stays the same."""
    from dataclasses import replace

    other = replace(
        mnist1d, test_inputs=mnist1d.test_inputs[:100] * 0, test_targets=mnist1d.test_targets[:100]
    )
    options = dict(data={"train_size": 300}, replicas={"count": 3})
    first, second = (comparable(finish(d, **options).record)["selection"] for d in (mnist1d, other))
    assert first == second
    assert {"validation_error", "bias2", "variance", "generalization_gap"} <= set(first)


def test_wrong_labels_are_memorized_more_than_clean_ones(mnist1d):
    result = finish(
        mnist1d,
        data={"train_size": 1600, "label_noise": 0.2},
        training={"steps": 1500},
        replicas={"count": 8},
    )
    wrong, clean = (result.record["measures"][f"memorization_{k}"] for k in ("wrong", "clean"))
    assert wrong["low"] > clean["high"]
    top = result.arrays["most_memorized_ids"]
    assert len(top) == 20
    assert result.arrays["most_memorized_inputs"].shape == (20, 40)


def test_memorization_is_undefined_where_every_replica_saw_everything(mnist1d):
    record = finish(mnist1d, data={"train_size": 4000, "validation": 0}).record
    assert record["measures"].get("memorization") is None
    assert any("whole pool" in warning for warning in record["warnings"])


def test_variance_is_split_into_data_and_initialization(mnist1d):
    record = finish(
        mnist1d,
        data={"train_size": 300},
        training={"steps": 300},
        replicas={"count": 12, "inits": 3},
    ).record
    data, init = (record["measures"][f"variance_{k}"] for k in ("data", "init"))
    assert data["mean"] > 0
    assert init["mean"] > 0
    assert data["low"] is not None
    assert len(record["replica_values"]["test_error"]) == 4, (
        "one value per draw: replicas of one draw are not independent"
    )


def test_replicas_of_one_draw_share_their_subset(mnist1d):
    prepared = preparing.prepare(
        Configuration(data={"train_size": 300}, replicas={"count": 6, "inits": 2}),
        mnist1d,
        torch.device("cpu"),
    )
    assert (prepared.members[0] == prepared.members[1]).all()
    assert (prepared.members[0] != prepared.members[2]).any()


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"optimizer": "sgd", "lr": 1e5, "steps": 200}, "model": {"depth": 4}},
        {"training": {"optimizer": "adamw", "lr": 1.0, "steps": 200}},
        {"model": {"dropout": 1.0}, "training": QUICK},
    ],
    ids=["diverges", "lr 1", "dropout 1"],
)
def test_extremes_run_to_the_end(mnist1d, sections):
    record = finish(mnist1d, data={"train_size": 300}, replicas={"count": 3}, **sections).record
    json.dumps(record, allow_nan=False)
    assert record["status"] in ("completed", "diverged")
    if sections.get("training", {}).get("lr") == 1e5:
        assert record["status"] == "diverged"
        assert record["diverged_replicas"] == 3
    if "model" in sections and sections["model"].get("dropout") == 1.0:
        assert mean(measuring.Result(record, {}), "test_error") > 0.8, (
            "chance: nothing can be learned"
        )


def test_images_and_augmentation_run_on_convolutions():
    dataset = catalog.load(Configuration(data={"name": "digits"}).data)
    result = finish(
        dataset,
        data={"name": "digits", "train_size": 500, "augmentation": "crop"},
        model={"family": "convolutional", "width": 8, "depth": 2},
        training={"steps": 120},
        replicas={"count": 2},
    )
    assert mean(result, "test_error") < 0.5


@pytest.mark.parametrize("columns", [1, 3])
def test_regression_is_measured_in_squared_error(columns):
    """Of several values the mean, so that bias² and variance add up to the test error, whatever their number."""
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 5)).astype(np.float32)
    noise = 0.1 * generator.normal(size=(400, columns))
    values = (inputs @ generator.normal(size=(5, columns)) + noise).astype(np.float32)
    values = values[:, 0] if columns == 1 else values
    dataset = assemble(
        "line",
        (inputs[:300], values[:300]),
        (inputs[300:], values[300:]),
        classes=None,
        kind="vector",
    )
    result = finish(
        dataset,
        data={"train_size": 100},
        model={"width": 16, "depth": 1},
        training={"steps": 800},
        replicas={"count": 4},
    )
    assert mean(result, "test_error") < 0.5 * values.var()
    total = mean(result, "bias2") + mean(result, "variance")
    assert total == pytest.approx(mean(result, "test_error"), rel=1e-3)
    assert mean(result, "ensemble_error") <= mean(result, "test_error")
    predictions = result.arrays["test_predictions"].astype(np.float64).mean(axis=0)
    squared = np.square(predictions.reshape(100, -1) - values[300:].reshape(100, -1)).mean()
    assert mean(result, "ensemble_error") == pytest.approx(squared, rel=0.02)
    assert mean(result, "memorization") > 0, "training examples are met better than others"


def test_early_stopping_reports_the_weights_it_kept(mnist1d):
    result = finish(
        mnist1d,
        data={"train_size": 300},
        training={"epochs": 120, "early_stopping": 3, "evaluate_every": 2},
        replicas={"count": 3},
    )
    best = result.arrays["validation_loss_curve"].min(0).mean()
    assert mean(result, "validation_loss") == pytest.approx(best, rel=1e-3)


@pytest.mark.skipif(
    not Path("../shared/data/mnist").exists(),
    reason="the MNIST test images are not beside this checkout",
)
def test_real_images_are_learned():
    config = Configuration(data={"name": "idx:../shared/data/mnist", "train_size": 1000})
    dataset = catalog.load(config.data)
    result = finish(
        dataset,
        data={"name": "idx:../shared/data/mnist", "train_size": 1000},
        training={"steps": 300},
        replicas={"count": 2},
        wanted={"memorization": False, "membership": False},
    )
    assert mean(result, "test_error") < 0.2


def test_arrays_that_do_not_fit_are_left_out_by_name(mnist1d):
    sections = {"training": {"epochs": 2}, "replicas": {"count": 4}}
    whole = finish(mnist1d, **sections)
    some = finish(mnist1d, {"arrays_kb": 10}, **sections)
    assert "left_out" not in whole.record
    assert some.record["left_out"]
    assert "test_predictions" in some.record["left_out"]
    assert {*some.arrays, *some.record["left_out"]} == set(whole.arrays)
    assert "epochs" in some.arrays
    assert len(outcomes.packed(some.arrays)) < 10_000 + 300 * len(some.arrays)
    for name, array in some.arrays.items():
        np.testing.assert_array_equal(array, whole.arrays[name])
