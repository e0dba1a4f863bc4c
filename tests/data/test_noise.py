"""Wrong labels: how many, which, and the same ones at every higher rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.data import noise

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**31 - 1)
rates = st.floats(0, 1)


def labels(count, classes, seed=1):
    return np.random.default_rng(seed).integers(0, classes, count)


@quick
@given(seeds, st.integers(2, 12))
def test_rate_zero_leaves_labels_alone(seed, classes):
    clean = labels(100, classes)
    noisy, wrong = noise.corrupt(clean, 0.0, classes, seed)
    np.testing.assert_array_equal(noisy, clean)
    assert not wrong.any()


@quick
@given(seeds, st.integers(2, 12), rates)
def test_wrong_labels_are_other_classes_and_right_ones_stay(seed, classes, rate):
    clean = labels(200, classes)
    noisy, wrong = noise.corrupt(clean, rate, classes, seed)
    np.testing.assert_array_equal(noisy != clean, wrong)
    assert noisy.dtype == clean.dtype
    assert ((noisy >= 0) & (noisy < classes)).all()


@quick
@given(seeds, rates, rates)
def test_rates_nest(seed, one, other):
    clean = labels(300, 10)
    low, low_wrong = noise.corrupt(clean, min(one, other), 10, seed)
    high, high_wrong = noise.corrupt(clean, max(one, other), 10, seed)
    assert not (low_wrong & ~high_wrong).any()
    np.testing.assert_array_equal(low[low_wrong], high[low_wrong])


@quick
@given(seeds, st.integers(1, 300), st.floats(0.01, 1))
def test_a_shorter_pool_agrees_with_a_longer_one(seed, count, rate):
    clean = labels(300, 10)
    whole, whole_wrong = noise.corrupt(clean, rate, 10, seed)
    part, part_wrong = noise.corrupt(clean[:count], rate, 10, seed)
    np.testing.assert_array_equal(part, whole[:count])
    np.testing.assert_array_equal(part_wrong, whole_wrong[:count])
    random_whole, _ = noise.randomize(clean, 10, seed)
    random_part, _ = noise.randomize(clean[:count], 10, seed)
    np.testing.assert_array_equal(random_part, random_whole[:count])


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_the_share_and_the_classes_of_wrong_labels(rate):
    count, classes = 60_000, 6
    clean = labels(count, classes)
    noisy, wrong = noise.corrupt(clean, rate, classes, 3)
    assert abs(wrong.mean() - rate) < 4.5 * np.sqrt(rate * (1 - rate) / count)
    table = np.zeros((classes, classes))
    np.add.at(table, (clean[wrong], noisy[wrong]), 1)
    assert not table.diagonal().any()
    expected = wrong.sum() / classes / (classes - 1)
    off = table[~np.eye(classes, dtype=bool)]
    assert np.abs(off - expected).max() < 5 * np.sqrt(expected)


def test_rate_one_leaves_no_label_right():
    clean = labels(5000, 2)
    noisy, wrong = noise.corrupt(clean, 1.0, 2, 0)
    assert wrong.all()
    np.testing.assert_array_equal(noisy, 1 - clean)


def test_seeds_differ():
    clean = labels(1000, 10)
    one, two = (noise.corrupt(clean, 0.5, 10, seed)[1] for seed in (0, 1))
    assert 0.4 < (one != two).mean() < 0.6


def test_random_labels_tell_nothing_of_the_true_ones():
    clean = labels(50_000, 10)
    drawn, wrong = noise.randomize(clean, 10, 0)
    np.testing.assert_array_equal(wrong, drawn != clean)
    assert wrong.mean() == pytest.approx(0.9, abs=0.01)
    assert np.bincount(drawn).min() > 4600
    assert abs(np.corrcoef(drawn, clean)[0, 1]) < 0.02


@pytest.mark.parametrize("shape", [(20_000,), (20_000, 3)])
def test_regression_noise_is_in_units_of_the_targets_sd(shape):
    values = (np.random.default_rng(0).normal(50, 7, shape)).astype(np.float32)
    noisy, wrong = noise.corrupt(values, 0.5, None, 1)
    assert noisy.dtype == np.float32
    assert (noisy - values).std(axis=0) == pytest.approx(3.5, rel=0.03)
    assert wrong.shape == (20_000,)
    assert wrong.all()
    same, moved = noise.corrupt(values, 0.0, None, 1)
    np.testing.assert_array_equal(same, values)
    assert not moved.any()


def test_random_values_keep_their_distribution():
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    drawn, wrong = noise.randomize(values, None, 1)
    assert np.isin(drawn, values).all()
    assert abs(np.corrcoef(drawn, values)[0, 1]) < 0.03
    assert wrong.mean() > 0.99
