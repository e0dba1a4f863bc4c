"""What every measure promises: an argument of another rank or size is refused by its name, and the level asked for is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engram.measures import (
    bias_variance,
    capacity,
    comparison,
    convergence,
    cost,
    ensemble,
    equivalence,
    forgetting,
    generalization,
    importance,
    intervals,
    layers,
    membership,
    memorization,
    misfit,
    new_data,
    noise,
    pareto,
    scaling,
)
from engram.measures.intervals import Interval

R, N, C, E, L = 4, 6, 3, 5, 4
random = np.random.default_rng(0)
labels = np.array([0, 1, 2, 0, 1, 2])
votes = random.integers(C, size=(R, N))
logits = random.normal(size=(R, N, C))
log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
member = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1], [1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]])
right = random.random((R, N)) < 0.6
wrong = np.array([1, 0, 0, 1, 0, 0], bool)
values = np.array([0.3, 0.5, 0.4, 0.35])
others = np.array([0.2, 0.3, 0.1, 0.4])
sizes = np.array([100.0, 200, 400, 800])
errors = np.array(
    [[0.5, 0.6, 0.55, 0.4], [0.4, 0.45, 0.42, 0.3], [0.3, 0.33, 0.31, 0.2], [0.2, 0.24, 0.21, 0.1]]
)
shares = noise.Fitted(random.random((R, E)), random.random((R, E)))

# Each measure with good arguments: those by name are arrays, whose ranks are part of the contract.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "t_interval": (intervals.t_interval, {"values": values}),
    "paired": (intervals.paired, {"a": values, "b": others}),
    "sd_interval": (intervals.sd_interval, {"values": values}),
    "percentile_interval": (
        lambda draws, level=0.95: intervals.percentile_interval(0.3, draws, 4, level),
        {"draws": values},
    ),
    "squared": (bias_variance.squared, {"targets": labels, "predictions": np.exp(log_p)}),
    "cross_entropy": (bias_variance.cross_entropy, {"log_probabilities": log_p, "labels": labels}),
    "zero_one": (bias_variance.zero_one, {"predicted": votes, "labels": labels}),
    "ensemble": (ensemble.ensemble, {"targets": labels, "predictions": np.exp(log_p)}),
    "gap": (generalization.gap, {"train": values, "test": others}),
    "errors": (
        generalization.errors,
        {"predicted": votes, "labels": labels, "member": member},
    ),
    "losses": (
        generalization.losses,
        {"log_probabilities": log_p, "labels": labels, "member": member},
    ),
    "squared_errors": (
        lambda targets, member: generalization.squared_errors(logits, targets, member),
        {"targets": logits[0], "member": member},
    ),
    "largest_fitted": (
        capacity.largest_fitted,
        {"sizes": sizes, "accuracies": np.linspace(1, 0.9, 16).reshape(4, 4)},
    ),
    "growth": (capacity.growth, {"parameters": sizes, "capacities": errors}),
    "groups": (comparison.groups, {"values": np.sort(values)[:, None] + others}),
    "prior_of": (lambda variances: comparison.prior_of(variances, 3), {"variances": values}),
    "epochs_to": (
        lambda curves, epochs, level=0.95: convergence.epochs_to(curves, epochs, 0.4, level=level),
        {"curves": errors, "epochs": np.arange(4.0)},
    ),
    "own_levels": (convergence.own_levels, {"curves": errors}),
    "summarize": (
        lambda times, last, level=0.95: convergence.summarize(times, last, level),
        {"times": values, "last": others},
    ),
    "throughput": (lambda seconds, level=0.95: cost.throughput(seconds, 10, level), {"seconds": values}),
    "ratio": (cost.ratio, {"a": values, "b": others}),
    "equivalent": (lambda differences: equivalence.equivalent(differences, 0.1), {"values": values}),
    "events": (forgetting.events, {"correct": np.eye(3)}),
    "retention": (forgetting.retention, {"before": right, "after": ~right}),
    "effects": (
        lambda values, a: importance.effects({"a": a}, values),
        {"values": values, "a": np.array([0, 1, 0, 1])},
    ),
    "drops": (
        layers.drops,
        {
            "intact": right,
            "taken_back": random.random((R, L, N)) < 0.4,
            "noisy": wrong,
            "member": member,
        },
    ),
    "lira": (membership.lira, {"confidence": logits[..., 0], "member": member}),
    "memorization": (memorization.memorization, {"correct": right, "member": member}),
    "standard_error": (memorization.standard_error, {"correct": right, "member": member}),
    "summary": (memorization.summary, {"correct": right, "member": member}),
    "influence": (memorization.influence, {"correct_test": right, "member": member}),
    "influence_standard_error": (
        memorization.influence_standard_error,
        {"correct_test": right, "member": member},
    ),
    "crossed": (new_data.crossed, {"values": errors}),
    "fitted": (
        noise.fitted,
        {
            "predicted": random.integers(C, size=(R, E, N)),
            "given": labels,
            "wrong": wrong,
            "member": member,
            "true": labels,
        },
    ),
    "delay": (
        lambda epochs, level=0.95: noise.delay(shares, epochs, level=level),
        {"epochs": np.arange(5.0)},
    ),
    "front": (pareto.front, {"points": errors}),
    "power_law": (scaling.power_law, {"sizes": sizes, "errors": errors}),
}  # fmt: skip


def spoilt(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array with an axis too many, one too few, and with nothing in it."""
    yield np.stack([np.stack([array, array], axis=-1), np.stack([array, array], axis=-1)], axis=-1)
    yield array.ravel()[0]
    yield array[:0]


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_another_rank_or_without_values_are_refused(name):
    function, given = CALLS[name]
    function(*given.values()) if name == "equivalent" else function(**given)
    for argument, array in given.items():
        for broken in spoilt(np.asarray(array)):
            if (name, argument) == ("summarize", "last") and not broken.ndim:  # one number for all
                continue
            with pytest.raises(ValueError, match=r"shape|dimension") as refused:
                function(broken) if name == "equivalent" else function(
                    **{**given, argument: broken}
                )
            # It names the argument, or the one beside it that no longer fits.
            assert any(word in str(refused.value) for word in given), refused.value


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_number_is_refused_by_the_arguments_name(name):
    function, given = CALLS[name]
    for argument, array in given.items():
        words = np.full(np.shape(array), "a")
        if (name, argument) == ("effects", "a"):  # settings may be words
            continue
        with pytest.raises(ValueError, match=argument):
            function(words) if name == "equivalent" else function(**{**given, argument: words})


def found(result: Any) -> Iterator[Interval]:
    """All intervals in a result, however deep."""
    if isinstance(result, Interval):
        yield result
    elif isinstance(result, list):
        for part in result:
            yield from found(part)
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from found(getattr(result, field.name))


@pytest.mark.parametrize(
    "name", [n for n, (f, _) in CALLS.items() if "level" in f.__code__.co_varnames]
)
def test_every_interval_keeps_the_level_asked_for_and_is_narrower_for_a_lower_one(name):
    function, given = CALLS[name]
    low, high = (list(found(function(**given, level=level))) for level in (0.8, 0.99))
    assert low
    assert {one.level for one in low} == {0.8}
    assert {one.level for one in high} == {0.99}
    for one, other in zip(low, high, strict=True):
        assert one.n == other.n >= 0
        assert one.mean == pytest.approx(other.mean, nan_ok=True)
        if one.known and other.known and other.half_width:
            assert one.half_width < other.half_width
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match="level"):
            function(**given, level=level)


def test_noise_without_wrong_labels_or_members_is_that_of_all():
    predicted = random.integers(C, size=(R, E, N))
    some = noise.fitted(predicted, labels, np.zeros(N, bool))
    assert np.isnan(some.wrong).all()
    assert some.true is None
    assert some.clean == pytest.approx((predicted == labels).mean(axis=2))
    assert misfit.rise(errors[:, :1], sizes) == ""
