"""The interval for new data: its parts in closed form, and what it comes to where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.data import subsets
from engram.data.config import ReplicasConfig
from engram.data.dataset import Division
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


def test_clusters_are_counted_in_place_of_their_examples():
    random = np.random.default_rng(4)
    clusters = np.repeat([3, 7, 8, 20, 21], [1, 4, 2, 5, 8])
    values = random.normal(size=20)
    found = new_data.crossed(values[None], clusters=clusters)
    # Cochran 1977, section 2.11, by hand: a ratio of totals.
    off = [(values[clusters == c] - values.mean()).sum() for c in np.unique(clusters)]
    assert found.variance == pytest.approx(5 / 4 * np.sum(np.square(off)) / 20**2)
    assert found.freedom == 4
    several = random.normal(size=(3, 20))
    alone = new_data.crossed(several, clusters=random.permutation(20))
    assert alone.variance == pytest.approx(new_data.crossed(several).variance)
    twice = new_data.crossed(np.repeat(several, 2, axis=1), clusters=np.repeat(np.arange(20), 2))
    assert twice.variance == pytest.approx(new_data.crossed(several).variance)
    assert math.isnan(new_data.crossed(several, clusters=np.zeros(20, int)).variance)
    assert new_data.crossed(several + 5, clusters=clusters).variance == pytest.approx(
        new_data.crossed(several, clusters=clusters).variance
    )


def test_parts_are_of_whole_clusters():
    values = np.random.default_rng(5).normal(size=(40, 1)) + np.zeros(6)
    rows, clusters = values.ravel(), np.repeat(np.arange(40), 6)
    found = new_data.in_parts(lambda kept: float(rows[kept].mean()), 240, clusters=clusters)
    same = new_data.in_parts(lambda kept: float(values[kept, 0].mean()), 40)
    assert found.variance == pytest.approx(same.variance)
    few = new_data.in_parts(lambda kept: float(rows[kept].mean()), 18, clusters=clusters[:18])
    assert few.freedom == 2


def test_a_replica_takes_clusters_as_often_as_it_picks_them():
    clusters = np.array([0, 0, 1, 1, 2])
    draws = np.array([[0, 1, 2, 3], [0, 1, 0, 4]])
    assert new_data.clusters_taken(draws, clusters) == 2.5  # 2, and 3


@pytest.mark.parametrize(("draw", "size"), [("subset", 60), ("bootstrap", 120), ("disjoint", 36)])
def test_intervals_hold_where_groups_are_alike(draw, size):
    """Examples of a group share an effect: counting groups covers, counting rows does not."""
    random, rounds = np.random.default_rng(6), 250
    held = np.zeros(2)
    for seed in range(rounds):
        clusters = np.repeat(np.arange(40), random.integers(6, 13, 40))
        design = ReplicasConfig(count=6, draw=draw, seed=seed)
        rows = np.arange(len(clusters))
        draws = subsets.draw(rows, size, design, Division(groups=clusters))
        learned = 0.5 * random.normal(size=40)[clusters][draws].mean(axis=1)  # [R]
        tested = np.repeat(np.arange(15), random.integers(6, 13, 15))
        effects = random.normal(size=15)[tested] + random.normal(size=(6, len(tested)))
        values = learned[:, None] + effects
        plain = intervals.t_interval(values.mean(axis=1))
        taken = new_data.clusters_taken(draws, clusters)
        for k, (share, by) in enumerate(
            [
                (new_data.pool_share(draw, taken, 40), tested),
                (new_data.pool_share(draw, size, len(rows)), None),
            ]
        ):
            found = new_data.interval(plain, share, new_data.crossed(values, clusters=by), 6)
            held[k] += found.low <= 0 <= found.high
    by_groups, by_rows = held / rounds
    assert by_groups >= 0.92
    assert by_rows < 0.8
