"""Capacity: the largest random-label set fitted, and its growth with parameters."""

import math

import numpy as np
import pytest

from engram.measures import capacity


def test_largest_size_fitted_in_a_row():
    accuracies = [[1.0, 1.0, 0.5, 1.0], [1.0, 0.99, 0.2, 1.0], [0.7, 1.0, 0.1, 1.0]]
    found = capacity.largest_fitted([100, 200, 400], accuracies)
    np.testing.assert_array_equal(found.per_replica, [200, 400, 0, 400])
    np.testing.assert_array_equal(found.censored, [False, True, False, True])
    assert found.interval.mean == 250


def test_growth_of_a_power():
    parameters = np.array([1e3, 1e4, 1e5])
    found = capacity.growth(parameters, 0.5 * parameters)
    assert found.exponent.mean == pytest.approx(1.0)
    assert found.factor == pytest.approx(0.5)
    np.testing.assert_allclose(found.per_parameter, 0.5)
    two = capacity.growth(parameters[:2], [[10, 20], [100, 200]])
    assert two.exponent.mean == pytest.approx(1.0)
    assert math.isnan(two.exponent.low)


def test_growth_covers():
    hits = 0
    parameters = np.geomspace(1e3, 1e6, 6)
    for seed in range(400):
        noise = np.exp(np.random.default_rng(seed).normal(0, 0.3, 6))
        found = capacity.growth(parameters, parameters**0.9 * noise).exponent
        hits += found.low <= 0.9 <= found.high
    assert 0.9 <= hits / 400 <= 0.99


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: capacity.largest_fitted([2, 1], np.ones((2, 3))), "increase"),
        (lambda: capacity.largest_fitted([1, 2], np.ones((3, 3))), r"\(3,\).*\(2,\)"),
        (lambda: capacity.largest_fitted([1], [[1.0]], threshold=99), "threshold = 99"),
        (lambda: capacity.growth([1, 2], [0, 5]), "at least two networks"),
        (lambda: capacity.growth([0, 2], [1, 5]), "at least 1"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
