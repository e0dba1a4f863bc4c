"""Memorization per layer: drops, excess of noisy examples, trend over depth."""

import math

import numpy as np
import pytest

from engram.measures import layers


def cohort(seed=0, replicas=8, examples=200):
    """Taking layer l back breaks noisy examples with probability .2 + .2 l, clean ones always with .1."""
    generator = np.random.default_rng(seed)
    noisy = np.arange(examples) < examples // 2
    chance = np.where(noisy, 0.2 + 0.2 * np.arange(4)[:, None], 0.1)  # [L, N]
    taken_back = generator.random((replicas, 4, examples)) > chance
    return np.ones((replicas, examples), bool), taken_back, noisy


def test_drops_by_hand():
    intact = [[1, 1, 1, 0]]
    taken_back = [[[1, 0, 1, 0], [0, 0, 1, 1]]]
    found = layers.drops(intact, taken_back, [0, 0, 1, 1])
    np.testing.assert_allclose(found.clean, [[0.5, 1.0]])
    np.testing.assert_allclose(found.noisy, [[0.0, -0.5]])
    np.testing.assert_allclose(found.excess, [[-0.5, -1.5]])
    assert math.isnan(found.rank_correlation)


def test_later_layers_hold_the_noise():
    found = layers.drops(*cohort())
    assert found.trend.low > 0.3
    assert found.rank_correlation == pytest.approx(1.0)
    for layer, interval in enumerate(found.excess_intervals):
        assert interval.low <= 0.1 + 0.2 * layer <= interval.high
    assert len(found.clean_intervals) == len(found.noisy_intervals) == 4


def test_only_own_examples_count():
    intact, taken_back, noisy = cohort()
    member = np.random.default_rng(1).random(intact.shape) < 0.5
    found = layers.drops(intact, taken_back, noisy, member)
    side = member[0] & noisy
    expected = 1 - taken_back[0, 2, side].mean()
    assert found.noisy[0, 2] == pytest.approx(expected)


def test_without_noise_the_clean_drop_has_the_trend():
    intact, taken_back, _ = cohort()
    found = layers.drops(intact, taken_back)
    assert np.isnan(found.noisy).all()
    assert found.trend.low > 0.1
    assert found.noisy_intervals[0].n == 0


def test_refusals():
    with pytest.raises(ValueError, match="taken_back has shape"):
        layers.drops(np.ones((2, 3)), np.ones((2, 4, 5)))
    with pytest.raises(ValueError, match="noisy has shape"):
        layers.drops(np.ones((2, 3)), np.ones((2, 4, 3)), [1])
