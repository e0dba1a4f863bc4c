"""Epochs to a level: censored runs, the median and its coverage, the default criterion."""

import math

import numpy as np
import pytest

from engram.measures import convergence


def test_first_epoch_at_the_level():
    curves = [[0.9, 0.5, 0.2, 0.1], [0.9, 0.8, 0.3, 0.2], [0.9, 0.9, 0.9, 0.8]]
    found = convergence.epochs_to(curves, threshold=0.5)
    np.testing.assert_array_equal(found.per_replica, [2, 3, np.nan])
    np.testing.assert_array_equal(found.censored, [False, False, True])
    assert found.reached == 2
    assert found.median == 3
    assert found.restricted.mean == pytest.approx(3.0)  # (2 + 3 + at least 4) / 3


def test_given_epochs_direction_and_hold():
    shares = [[0.1, 0.6, 0.4, 0.7, 0.8]]
    epochs = [0, 5, 10, 15, 20]
    above = convergence.epochs_to(shares, epochs, 0.5, direction="above")
    assert above.per_replica[0] == 5
    lasting = convergence.epochs_to(shares, epochs, 0.5, direction="above", hold=2)
    assert lasting.per_replica[0] == 15


def test_stopped_runs_are_censored_where_they_stopped():
    curves = [[0.9, 0.8, np.nan, np.nan], [0.9, 0.8, 0.7, 0.2]]
    found = convergence.epochs_to(curves, threshold=0.5)
    np.testing.assert_array_equal(found.last, [2, 4])
    np.testing.assert_array_equal(found.per_replica, [np.nan, 4])
    assert found.median == 4  # the only run still at risk arrived then


def test_nobody_arrives():
    found = convergence.epochs_to(np.ones((4, 10)), threshold=0.5)
    assert found.median == found.low == found.high == math.inf
    assert found.reached == 0
    assert found.restricted.mean == 10


def test_median_matches_the_plain_one_without_censoring():
    times = np.array([3.0, 4, 5, 9, 12, 13, 20])
    found = convergence.summarize(times, 30)
    assert found.median == 9
    assert found.low < 9 < found.high


@pytest.mark.parametrize("stop", [40, 14])
@pytest.mark.parametrize("replicas", [8, 32])
def test_median_covers_though_runs_are_censored(replicas, stop):
    """Times are exponential with mean 15, seen in whole epochs: their median is 11."""
    hits = 0
    for seed in range(400):
        times = np.ceil(np.random.default_rng(seed).exponential(15, replicas) + 1e-9)
        found = convergence.summarize(np.where(times <= stop, times, np.nan), stop)
        hits += found.low <= 11 <= found.high
    assert 0.9 <= hits / 400 <= 0.99


def test_default_level_is_nine_tenths_of_the_way():
    falling = np.array([[1.0, 0.6, 0.3, 0.15, 0.09, 0.0], [1.0, 1.0, 0.99, 0.98, 0.98, 0.98]])
    np.testing.assert_allclose(convergence.own_levels(falling), [0.1, np.nan])
    found = convergence.epochs_to(falling)
    np.testing.assert_array_equal(found.per_replica, [5, np.nan])
    rising = convergence.epochs_to(1 - falling[:1] + 0.1, direction="above")
    assert rising.per_replica[0] == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: convergence.epochs_to([[1.0, 0.5]], [2, 1]), "must increase"),
        (lambda: convergence.epochs_to([[1.0, 0.5]], [1, 2, 3]), r"\(3,\).*\(2,\)"),
        (lambda: convergence.epochs_to([[1.0, 0.5]], hold=3), "hold = 3"),
        (lambda: convergence.epochs_to([[1.0]], direction="down"), "direction = 'down'"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
