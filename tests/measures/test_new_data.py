"""The interval for new data: its parts in closed form, and what it comes to where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import bias_variance, intervals, left_out, new_data


def two_way(values: np.ndarray) -> float:
    """(MS_columns - MS_rest)/(R·N), as a textbook's analysis of variance has it."""
    rows, columns = values.shape
    grand = values.mean()
    between = rows * ((values.mean(0) - grand) ** 2).sum() / (columns - 1)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + grand
    return (between - (rest**2).sum() / ((rows - 1) * (columns - 1))) / (rows * columns)


def test_examples_are_crossed_with_replicas():
    random = np.random.default_rng(0)
    values = random.normal(size=(5, 40)) + 2 * random.normal(size=40)
    found = new_data.crossed(values)
    assert found.variance == pytest.approx(two_way(values))
    assert found.freedom == 39
    assert new_data.crossed(values + 100).variance == pytest.approx(two_way(values), rel=1e-6)
    # Nothing but what single replicas do on single examples: no variance of examples, never a negative one.
    alternating = np.array([[1.0, -1.0] * 4, [-1.0, 1.0] * 4])
    assert new_data.crossed(alternating).variance == 0
    one = new_data.crossed(values[:1])
    assert one.variance == pytest.approx(values[0].var(ddof=1) / 40)
    pairs = new_data.crossed(np.repeat(values, 2, axis=0), inits=2)
    assert pairs.variance == pytest.approx(found.variance)
    assert math.isnan(new_data.crossed(values[:, :1]).variance)


def test_the_share_of_a_pool_by_its_draw():
    assert new_data.pool_share("fresh", 100, 1) == new_data.pool_share("disjoint", 9, 90) == 0
    assert new_data.pool_share("subset", 100, 400) == pytest.approx(1 / 3)
    assert new_data.pool_share("bootstrap", 400, 400) == 1
    assert math.isnan(new_data.pool_share("subset", 400, 400))
    assert math.isnan(new_data.pool_share("complementary", 200, 400))
    with pytest.raises(ValueError, match="size = 0, pool = 5"):
        new_data.pool_share("subset", 0, 5)


@pytest.mark.parametrize(("draw", "size", "pool"), [("subset", 30, 90), ("bootstrap", 60, 60)])
def test_the_share_is_exact_for_means(draw, size, pool):
    """The mean of a subset: variance between pools over that between subsets of one pool."""
    random = np.random.default_rng(1)
    between, within = [], []
    for _ in range(600):
        examples = random.normal(size=pool)
        replace = draw == "bootstrap"
        means = [random.choice(examples, size, replace=replace).mean() for _ in range(30)]
        within.append(np.var(means, ddof=1))
        between.append(np.mean(means))
    ratio = (np.var(between, ddof=1) - np.mean(within) / 30) / np.mean(within)
    assert ratio == pytest.approx(new_data.pool_share(draw, size, pool), rel=0.15)


def test_replicas_and_examples_add_up():
    values = [0.1, 0.2, 0.4, 0.3]
    plain = intervals.t_interval(values)
    same = new_data.interval(plain, 0.0, new_data.NONE, 4)
    assert (same.low, same.high) == pytest.approx((plain.low, plain.high))
    pool = new_data.interval(plain, 0.25, new_data.NONE, 4)
    assert pool.half_width == pytest.approx(math.sqrt(2) * plain.half_width)
    assert pool.se == pytest.approx(math.sqrt(2) * plain.se)
    # Welch's degrees of freedom: two equal variances of 3 and 3 degrees have 6.
    both = new_data.interval(plain, 0.0, new_data.Sampling(plain.se**2, 3), 4)
    assert both.half_width == pytest.approx(stats.t.ppf(0.975, 6) * math.sqrt(2) * plain.se)
    little = new_data.interval(plain, 0.0, new_data.Sampling(0.1 * plain.se**2, 999), 4)
    assert little.half_width == pytest.approx(plain.half_width)
    certain = new_data.interval(intervals.t_interval([0.3] * 4), 0.5, new_data.Sampling(4e-4, 0), 4)
    assert certain.half_width == pytest.approx(1.959964 * 0.02)


@pytest.mark.parametrize(
    ("values", "share", "variance"),
    [([0.1, 0.2], math.nan, 0.0), ([0.1, 0.2], 0, math.nan), ([1.0], 0, 0)],
)
def test_unknown_where_a_part_is(values, share, variance):
    plain = intervals.t_interval(values)
    found = new_data.interval(plain, share, new_data.Sampling(variance, 0), len(values))
    assert not found.known
    assert found.mean == plain.mean


@pytest.mark.parametrize(("replicas", "inits"), [(8, 1), (8, 2), (66, 1)])
def test_pseudo_values_are_those_of_the_jackknife(replicas, inits):
    random = np.random.default_rng(2)
    predictions, targets = random.normal(size=(replicas, 20)), random.normal(size=20)

    groups = left_out.Groups.of(replicas, inits)
    rows = left_out.squared(predictions, targets, groups, inits)
    found, sampling = new_data.jackknifed(rows, groups)["variance"]
    plain = intervals.jackknife(
        lambda p: bias_variance.squared(p, targets, inits).variance, predictions, inits=inits
    )
    assert found == pytest.approx(plain)
    # Of the variance, pseudo-values have a closed form: -s²/(R-2) + R/(R-2)·(x - x̄)².
    if (replicas, inits) == (8, 1):
        squares = (predictions - predictions.mean(0)) ** 2
        whole = 8 / 6 * squares - squares.sum(0) / 7 / 6
        assert found == pytest.approx(whole.mean(axis=1))
        assert sampling.variance == pytest.approx(max(0.0, two_way(whole)))


def test_parts_of_the_examples_give_the_variance_of_a_mean():
    values = np.random.default_rng(3).normal(size=1000)
    found = new_data.in_parts(lambda kept: float(values[kept].mean()), len(values))
    parts = values.reshape(-1, 10).mean(axis=0)  # dealt out by place
    assert found.variance == pytest.approx(parts.var(ddof=1) / 10)
    assert found.freedom == 9
    assert new_data.in_parts(lambda kept: 1.0, 4) == new_data.Sampling(0.0, 3)
    assert math.isnan(new_data.in_parts(lambda kept: 1.0, 1).variance)
