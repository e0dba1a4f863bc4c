"""Draws: nested, shared, balanced, disjoint; and every size that cannot be drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.data import subsets
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import DataError, Facts

DRAWS = ["subset", "bootstrap", "disjoint", "fresh", "complementary"]
FINITE = Facts(4000, 1000, (40,), 10, "sequence", False)
ENDLESS = Facts(None, 1000, (40,), 10, "sequence", True)

seeds = st.integers(0, 2**31 - 1)
draws = st.sampled_from(DRAWS)
quick = settings(max_examples=60, deadline=None)


def replicas(draw="subset", count=4, inits=1, seed=0):
    return ReplicasConfig(count=count, draw=draw, inits=inits, seed=seed)


def some_ids(seed, count):
    return np.sort(np.random.default_rng(seed).choice(3 * count, count, replace=False))


@quick
@given(draws, seeds, st.integers(8, 200), st.data())
def test_a_smaller_size_is_a_prefix(draw, seed, count, data):
    config = replicas(draw, seed=seed)
    ids = some_ids(seed, count)
    large = data.draw(st.integers(1, min(count, subsets.largest(count, config))))
    small = data.draw(st.integers(1, large))
    whole = subsets.draw(ids, large, config)
    assert whole.dtype == np.int64
    assert whole.shape == (4, large)
    np.testing.assert_array_equal(subsets.draw(ids, small, config), whole[:, :small])


@quick
@given(st.sampled_from(["subset", "bootstrap", "complementary"]), seeds, st.integers(1, 8))
def test_a_replica_alone_is_the_replica_among_many(draw, seed, pairs):
    ids = some_ids(seed, 50)
    few = subsets.draw(ids, 20, replicas(draw, count=2 * pairs, seed=seed))
    many = subsets.draw(ids, 20, replicas(draw, count=40, seed=seed))
    np.testing.assert_array_equal(few, many[: 2 * pairs])


@quick
@given(draws, seeds, st.integers(1, 3))
def test_inits_share_their_draw(draw, seed, inits):
    ids = some_ids(seed, 60)
    once = subsets.draw(ids, 10, replicas(draw, count=4, seed=seed))
    often = subsets.draw(ids, 10, replicas(draw, count=4 * inits, inits=inits, seed=seed))
    for r, row in enumerate(often):
        np.testing.assert_array_equal(row, once[r // inits])


@quick
@given(draws, seeds, st.integers(8, 100))
def test_examples_come_from_the_ids_and_once_unless_bootstrap(draw, seed, count):
    ids = some_ids(seed, count)
    rows = subsets.draw(ids, count // 4, replicas(draw, seed=seed))
    assert np.isin(rows, ids).all()
    if draw != "bootstrap":
        assert all(len(set(row)) == len(row) for row in rows.tolist())
    if draw in ("disjoint", "fresh"):
        assert len(np.unique(rows)) == rows.size


@quick
@given(seeds, st.integers(1, 40), st.integers(1, 10))
def test_complementary_halves_hold_each_example_in_half_of_the_replicas(seed, half, pairs):
    ids = np.arange(2 * half)
    rows = subsets.draw(ids, half, replicas("complementary", count=2 * pairs, seed=seed))
    member = subsets.members(rows, 2 * half)
    assert (member.sum(axis=0) == pairs).all()
    for k in range(pairs):
        assert (member[2 * k] ^ member[2 * k + 1]).all()


@pytest.mark.parametrize("draw", ["subset", "complementary", "disjoint", "bootstrap"])
def test_every_example_is_included_equally_often(draw):
    """Over 1500 seeds: binomial counts, so a z of 4.5 among 24 examples is far out."""
    trials, total = 1500, np.zeros((4, 24))
    for seed in range(trials):
        total += subsets.members(subsets.draw(np.arange(24), 6, replicas(draw, seed=seed)), 24)
    share = 1 - (23 / 24) ** 6 if draw == "bootstrap" else 6 / 24
    z = (total - trials * share) / np.sqrt(trials * share * (1 - share))
    assert np.abs(z).max() < 4.5


def test_subsets_of_different_replicas_are_independent():
    """Two replicas share m/n of their examples on average."""
    config = replicas(count=60)
    member = subsets.members(subsets.draw(np.arange(400), 100, config), 400).astype(float)
    common = (member @ member.T)[np.triu_indices(60, 1)]
    assert common.mean() == pytest.approx(25, abs=0.5)


@quick
@given(seeds, st.integers(2, 300), st.data())
def test_fresh_blocks_do_not_depend_on_size_or_pool(seed, size, data):
    config = replicas("fresh", count=5, seed=seed)
    pool = subsets.pool_needed(size, 0, config)
    longer = data.draw(st.integers(pool, 2 * pool))
    np.testing.assert_array_equal(
        subsets.draw(np.arange(pool), size, config), subsets.draw(np.arange(longer), size, config)
    )


@quick
@given(seeds, st.integers(2, 400), st.data())
def test_holdout_parts_the_pool_and_nests(seed, pool, data):
    large = data.draw(st.integers(1, pool - 1))
    small = data.draw(st.integers(1, large))
    kept, held = subsets.holdout(pool, large, seed)
    assert len(held) == large
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(pool))
    assert np.isin(subsets.holdout(pool, small, seed)[1], held).all()


def test_holdout_shares_and_counts():
    assert len(subsets.holdout(4000, 0.2, 0)[1]) == 800
    assert len(subsets.holdout(4000, 800, 0)[1]) == 800
    assert len(subsets.holdout(4000, 800.0, 0)[1]) == 800
    assert len(subsets.holdout(10, 0.01, 0)[1]) == 1
    kept, held = subsets.holdout(4000, 0, 0)
    assert len(held) == 0
    np.testing.assert_array_equal(kept, np.arange(4000))
    assert not np.array_equal(subsets.holdout(400, 0.2, 0)[1], subsets.holdout(400, 0.2, 1)[1])


@quick
@given(
    draws,
    st.integers(1, 5000),
    st.one_of(st.just(0), st.floats(0.001, 0.95), st.integers(1, 500)),
    st.integers(1, 6),
)
def test_the_pool_needed_is_enough_and_checks(draw, size, validation, pairs):
    config = replicas(draw, count=2 * pairs)
    data = DataConfig(name="mnist1d_stream", train_size=size, validation=validation)
    subsets.check(data, config, ENDLESS)
    pool = subsets.pool_needed(size, validation, config)
    kept, _ = subsets.holdout(pool, validation, 0)
    assert size <= subsets.largest(len(kept), config)
    assert subsets.draw(kept, size, config).shape == (2 * pairs, size)


def test_members():
    rows = np.array([[0, 2, 2], [3, 1, 0]])
    expected = [[True, False, True, False], [True, True, False, True]]
    np.testing.assert_array_equal(subsets.members(rows, 4), expected)


BAD = {
    "beyond the pool": ({"train_size": 3201}, {}, "data.train_size", "at most 3200"),
    "beyond pool_size": (
        {"train_size": 900, "pool_size": 1000},
        {},
        "data.train_size",
        "at most 800",
    ),
    "disjoint": (
        {"train_size": 401},
        {"draw": "disjoint", "count": 8},
        "data.train_size",
        "at most 400, or replicas.count: 7",
    ),
    "disjoint, many": (
        {"train_size": 1},
        {"draw": "disjoint", "count": 3201},
        "replicas.count",
        "at most 3200",
    ),
    "fresh on finite": ({}, {"draw": "fresh"}, "replicas.draw", "mnist1d_stream"),
    "inits": ({}, {"count": 8, "inits": 3}, "replicas.count", "6 or 9"),
    "inits above count": ({}, {"count": 2, "inits": 3}, "replicas.count", "count 3"),
    "odd pairs": ({}, {"count": 7, "draw": "complementary"}, "replicas.count", "count 8"),
    "all validation": ({"validation": 4000}, {}, "data.validation", "at most 3999"),
    "more than all validation": ({"validation": 9999}, {}, "data.validation", "at most 3999"),
    "nearly all validation": ({"validation": 0.9999}, {}, "data.validation", "0.2"),
    "part of an example": ({"validation": 12.5}, {}, "data.validation", "12 examples"),
    "infinite": ({"validation": float("inf")}, {}, "data.validation", "0.2"),
    "augmentation": ({"augmentation": "flip"}, {}, "data.augmentation", "shift, scale, noise"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_sizes_say_what_fits(name):
    data, draw, key, fix = BAD[name]
    with pytest.raises(DataError) as caught:
        subsets.check(DataConfig(**data), ReplicasConfig(**draw), FINITE)
    assert caught.value.key == key
    assert fix in caught.value.fix
    assert caught.value.rule in str(caught.value)


@pytest.mark.parametrize(
    ("data", "draw"),
    [
        ({"train_size": 3200}, {}),
        ({"train_size": 4000, "validation": 0}, {}),
        ({"train_size": 400}, {"draw": "disjoint", "count": 8}),
        ({"train_size": 800}, {"draw": "disjoint", "count": 8, "inits": 2}),
        ({"train_size": 9000}, {"draw": "bootstrap"}),
        ({"train_size": 1600}, {"draw": "complementary"}),
        ({"augmentation": "shift"}, {}),
    ],
)
def test_sizes_that_just_fit_pass(data, draw):
    config, cohort = DataConfig(**data), ReplicasConfig(**draw)
    subsets.check(config, cohort, FINITE)
    kept, _ = subsets.holdout(4000, config.validation, 0)
    assert len(subsets.draw(kept, config.train_size, cohort)) == cohort.count


def test_a_given_pool_limits_generated_data_too():
    data = DataConfig(name="mnist1d_stream", train_size=1000, pool_size=5000, validation=0)
    subsets.check(data, replicas("fresh", count=5), ENDLESS)
    with pytest.raises(DataError, match="at most 833"):
        subsets.check(data, replicas("fresh", count=6), ENDLESS)


def test_a_draw_that_does_not_fit_is_refused_at_the_draw_too():
    with pytest.raises(DataError, match="at most 10"):
        subsets.draw(np.arange(10), 11, replicas())
