"""Rows without a group are what the plain functions give for the replicas that are left: no sum was taken off wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from engram.measures import bias_variance, ensemble, intervals, left_out, membership, memorization
from engram.measures.left_out import Groups

EXAMPLES, CLASSES = 50, 4
# (replicas, unit): few, whole draws, more than 32 units that divide and that do not.
DESIGNS = [(3, 1), (8, 1), (8, 2), (12, 4), (64, 1), (70, 1), (67, 1)]


def rows(plain: Callable[..., dict[str, Any]], *arrays: np.ndarray, unit: int) -> dict[str, Any]:
    """The reference: the statistic of all, then of copies without each group."""
    found = [one for _, one in intervals.left_out(plain, arrays, inits=unit)]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def logits(replicas: int, *shape: int) -> np.ndarray:
    random = np.random.default_rng(replicas)
    return 2 * random.normal(size=(replicas, *shape)) + 3 * random.normal(size=shape)


@pytest.mark.parametrize(("replicas", "unit"), DESIGNS)
def test_every_decomposition(replicas, unit):
    groups = Groups.of(replicas, unit)
    labels = np.random.default_rng(0).integers(CLASSES, size=EXAMPLES)
    outputs = logits(replicas, EXAMPLES, CLASSES)
    p, logs, votes = softmax(outputs, -1), log_softmax(outputs, -1), outputs.argmax(-1)

    def plain(p, logs, votes):
        square = bias_variance.squared(p, labels, unit).per_example
        nats = bias_variance.cross_entropy(logs, labels).per_example
        vote = bias_variance.zero_one(votes, labels).per_example
        return {
            "bias2": square["bias2"],
            "variance": square["variance"],
            "ensemble_error": ensemble.ensemble(p, labels).per_example["error"],
            "bias_ce": nats["bias"],
            "variance_ce": nats["variance"],
            "bias_01": vote["bias"],
            "variance_01": vote["variance"],
        }

    found = left_out.squared(p, labels, groups, unit)
    found |= left_out.cross_entropy(logs, labels, groups)
    found |= left_out.zero_one(votes, labels, CLASSES, groups)
    wanted = rows(plain, p, logs, votes, unit=unit)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("shape", [(EXAMPLES,), (EXAMPLES, 3)])
@pytest.mark.parametrize("inits", [1, 2])
def test_values_far_from_zero(shape, inits):
    """Sums of squares cancel there; deviations from the mean do not."""
    values = 1e4 + logits(8, *shape)
    targets = 1e4 + np.random.default_rng(1).normal(size=shape)

    def plain(v):
        parts = bias_variance.squared(v, targets, inits).per_example
        error = ensemble.ensemble(v, targets).per_example["error"]
        return {"bias2": parts["bias2"], "variance": parts["variance"], "ensemble_error": error}

    found = left_out.squared(values, targets, Groups.of(8, inits), inits)
    for name, wanted in rows(plain, values, unit=inits).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6, atol=1e-6, err_msg=name)


def test_answers_without_doubt_tie_as_they_do():
    """Votes of estimators that give classes alone: averages tie often, and a tie goes to the lowest label."""
    votes = np.random.default_rng(2).integers(2, size=(6, 200))
    p, labels = np.eye(2)[votes], np.zeros(200, int)
    groups = Groups.of(6)
    found = left_out.squared(p, labels, groups)["ensemble_error"]
    wanted = rows(lambda p: {"error": ensemble.ensemble(p, labels).per_example["error"]}, p, unit=1)
    np.testing.assert_array_equal(found, wanted["error"])
    assert 0 < found[0].mean() < 1


@pytest.mark.parametrize("draws", [2, 5, 40])
def test_data_and_initialization(draws):
    inits, values = 3, logits(3 * draws, EXAMPLES, CLASSES)
    split = values.reshape(draws, inits, EXAMPLES, CLASSES)
    found = left_out.components(split, Groups.of(3 * draws, inits), inits)

    def plain(v):
        parts = bias_variance.components(v).per_example
        return {name: parts[name] for name in ("variance_data", "variance_init")}

    wanted = (
        rows(plain, split, unit=1)
        if draws > 2
        else {name: values[None] for name, values in plain(split).items()}
    )
    for name, expected in wanted.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("replicas", "unit"), DESIGNS)
def test_memorization(replicas, unit):
    random = np.random.default_rng(3)
    correct, member = random.random((2, replicas, EXAMPLES)) < 0.4
    for score in (correct, -random.random(correct.shape)):
        found = left_out.memorization(score, member, Groups.of(replicas, unit))
        wanted = rows(lambda s, m: {"": memorization.memorization(s, m)}, score, member, unit=unit)
        np.testing.assert_allclose(found, wanted[""], atol=1e-12)


@pytest.mark.parametrize("mode", ["online", "offline", "global"])
@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize(
    ("replicas", "unit", "pooled"), [(5, 1, True), (8, 2, False), (70, 1, False), (40, 1, True)]
)
def test_attacks_without_some_models(mode, center, replicas, unit, pooled):
    """Targets and shadows both: the attack is that on the models that are left."""
    random = np.random.default_rng(replicas)
    member = random.random((replicas, EXAMPLES)) < 0.4
    confidence = random.normal(size=member.shape) + member
    if mode == "global":
        confidence = np.round(confidence, 1)  # scores that tie; others tie but for rounding
    how: dict[str, Any] = {"fixed_variance": pooled, "center": center}
    attack = membership.lira(confidence, member, mode, **how)
    wanted = intervals.jackknife(
        lambda c, m: membership.lira(c, m, mode, **how).auc, (confidence, member), inits=unit
    )
    np.testing.assert_allclose(attack.pseudo_values(inits=unit), wanted, atol=1e-6)


def test_blocks_of_examples_are_put_together(monkeypatch):
    p, labels = softmax(logits(8, EXAMPLES, CLASSES), -1), np.arange(EXAMPLES) % CLASSES
    groups = Groups.of(8)
    monkeypatch.setattr(left_out, "FLOATS_AT_ONCE", 7 * 8 * CLASSES)
    found = left_out.in_blocks(
        lambda some: left_out.squared(p[:, some], labels[some], groups), EXAMPLES, 8 * CLASSES
    )
    for name, whole in left_out.squared(p, labels, groups).items():
        np.testing.assert_allclose(found[name], whole, atol=1e-12)


@pytest.mark.parametrize(("replicas", "unit"), DESIGNS)
def test_pseudo_values_are_those_of_the_jackknife(replicas, unit):
    values = np.random.default_rng(4).normal(size=replicas)
    groups = Groups.of(replicas, unit)
    without = [one for _, one in intervals.left_out(np.var, values, inits=unit)]
    np.testing.assert_allclose(
        groups.pseudo_values(np.array(without)), intervals.jackknife(np.var, values, inits=unit)
    )
    assert groups.sums(values) == pytest.approx(
        [one for _, one in intervals.left_out(np.sum, values, inits=unit)]
    )


def test_fewer_than_three_units_have_no_groups():
    groups = Groups.of(4, 2)
    assert len(groups) == 0
    assert groups.sums(np.ones((4, 2))).tolist() == [[4, 4]]
