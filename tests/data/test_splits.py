"""What splits respect: ids that stay with their rows, groups, times, rare classes, own splits."""

import numpy as np
import pytest

from engram.data import splits, subsets
from engram.data.catalog import DataError, load
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import Division
from engram.data.raw import Raw
from engram.data.tidy import tidy

RNG = np.random.default_rng(0)
ROWS = 240
X = RNG.normal(size=(ROWS, 3))
Y = np.arange(ROWS) % 2
CONFIG = DataConfig(name="csv:rows.csv")


def made(pool_size=None, config=CONFIG, **raw):
    return tidy(Raw(**{"inputs": X, "targets": Y, **raw}), config, pool_size)


def test_the_digests_that_the_documentation_names():
    expected = "fa5f9381221e6f6c7d5fe67dc091c2f3a8ff06740216f0fc613962171a53cd0e"
    assert load(DataConfig(name="digits")).digest == expected


def test_ids_stay_with_their_rows_through_order_split_and_cut():
    whole = made()
    assert sorted([*whole.ids, *whole.test_ids]) == list(range(ROWS))
    small = made(50, CONFIG.model_copy(update={"test_size": 9}))
    for dataset in (whole, small):
        np.testing.assert_array_equal(dataset.inputs, X[dataset.ids].astype(np.float32))
        np.testing.assert_array_equal(dataset.test_inputs, X[dataset.test_ids].astype(np.float32))
        np.testing.assert_array_equal(dataset.targets, Y[dataset.ids])
    names = np.array([f"patient {i}" for i in range(ROWS)])
    own = made(ids=names)
    np.testing.assert_array_equal(own.ids, names[whole.ids])
    assert own.digest == whole.digest


def test_ids_of_a_test_set_of_its_own_are_positions_in_it():
    dataset = made(test_inputs=X[:30] + 1, test_targets=Y[:30])
    np.testing.assert_array_equal(dataset.test_inputs, (X[dataset.test_ids] + 1).astype("f4"))
    assert sorted(dataset.ids) == list(range(ROWS))


def test_the_driver_keeps_ids_and_no_example():
    kept = made().without_pool()
    assert len(kept.inputs) == len(kept.targets) == 0
    assert len(kept.ids) == 200
    assert len(kept.test_ids) == 40


GROUPS = np.repeat(np.arange(24), 10)[RNG.permutation(ROWS)]


@pytest.mark.parametrize("draw", ["subset", "disjoint", "bootstrap", "complementary"])
def test_no_group_is_on_two_sides_and_subsets_take_whole_groups(draw):
    dataset = made(groups=GROUPS, config=CONFIG.model_copy(update={"groups": "patient"}))
    kept, held = subsets.holdout(len(dataset.targets), 0.2, 0, dataset.division)
    sides = [set(GROUPS[dataset.ids[ids]]) for ids in (kept, held)]
    sides.append(set(GROUPS[dataset.test_ids]))
    assert sum(map(len, sides)) == len(set.union(*sides)) == 24
    replicas = ReplicasConfig(count=4, draw=draw)
    rows = subsets.draw(kept, 30, replicas, dataset.division)
    for row in rows:
        assert set(row) <= set(kept)
        assert len(set(GROUPS[dataset.ids[row]])) == 3 or draw == "bootstrap"
    np.testing.assert_array_equal(subsets.draw(kept, 17, replicas, dataset.division), rows[:, :17])
    if draw == "disjoint":
        drawn = [set(GROUPS[dataset.ids[row]]) for row in rows]
        assert sum(map(len, drawn)) == len(set.union(*drawn))
        five = ReplicasConfig(count=5, draw=draw)  # 16 groups for 5 draws: three each, or four
        with pytest.raises(DataError, match="draw 2 of 5 disjoint ones has 3 of 16 groups and 30"):
            subsets.draw(kept, 31, five, dataset.division)


@pytest.mark.parametrize("size", [1, 10, 44, 46, 211, 230])
def test_a_test_size_that_no_groups_add_up_to_takes_a_part_of_the_last(size):
    config = CONFIG.model_copy(update={"groups": "patient", "test_size": size})
    dataset = made(groups=GROUPS, config=config)
    assert len(dataset.test_ids) == size
    assert not set(GROUPS[dataset.ids]) & set(GROUPS[dataset.test_ids])
    assert f"{-(-size // 10)} of the 24 groups of patient, {size} of 240 rows" in dataset.notes[0]
    with pytest.raises(DataError, match=r"test_size = 231: a group of patient has to stay .* 230"):
        made(groups=GROUPS, config=config.model_copy(update={"test_size": 231}))


def test_a_planted_leak_is_seen_by_the_plain_split_and_not_by_the_grouped_one():
    """Every row stands twice, in one group: a nearest neighbour knows the noise labels it has seen."""
    x, noise = (
        np.repeat(RNG.normal(size=(150, 4)), 2, axis=0),
        np.repeat(RNG.integers(0, 2, 150), 2),
    )
    pairs = np.repeat(np.arange(150), 2)

    def error(dataset):
        away = ((dataset.test_inputs[:, None] - dataset.inputs[None]) ** 2).sum(-1)
        nearest = dataset.targets[away.argmin(1)]
        return np.mean(nearest != dataset.test_targets)

    plain = tidy(Raw(x, noise), CONFIG, None)
    honest = tidy(Raw(x, noise, groups=pairs), CONFIG, None)
    assert error(plain) < 0.2
    assert "test inputs stand in the pool too" in plain.notes[-1]
    assert not any("stand in the pool" in note for note in honest.notes)
    assert error(honest) > 0.35
    kept, held = subsets.holdout(len(honest.targets), 0.2, 0, honest.division)
    assert not set(pairs[honest.ids[kept]]) & set(pairs[honest.ids[held]])


def test_time_goes_from_training_to_validation_to_test():
    times = RNG.permutation(ROWS) // 3  # three rows share each time
    dataset = made(times=times, config=CONFIG.model_copy(update={"order": "day"}))
    kept, held = subsets.holdout(len(dataset.targets), 0.2, 0, dataset.division)
    train, validation = times[dataset.ids[kept]], times[dataset.ids[held]]
    test = times[dataset.test_ids]
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert len(test) == 42  # 40, and the two that share their time
    with pytest.raises(DataError, match="share its latest value"):
        made(times=np.zeros(ROWS))
    with pytest.raises(DataError, match="begins at 0, and the pool ends at 79"):
        made(times=times, test_inputs=X, test_targets=Y, test_times=times)


def test_a_rare_class_keeps_its_share_and_a_common_one_changes_nothing():
    labels = (np.arange(ROWS) % 20 == 0).astype(int)  # 12 of 240
    dataset = made(targets=labels)
    assert "class 1 is rare (10 of 200)" in dataset.notes[-1]
    kept, held = subsets.holdout(200, 0.2, 0, dataset.division)
    assert dataset.targets[held].sum() == 2
    assert (dataset.targets[kept]).sum() == 8
    for row in subsets.draw(kept, 40, ReplicasConfig(count=20), dataset.division):
        assert 1 <= dataset.targets[row].sum() <= 3
    even = made()
    assert even.division is None
    np.testing.assert_array_equal(even.test_ids, splits.order(ROWS)[:40])


@pytest.mark.parametrize("seed", range(5))
def test_prefixes_of_a_stratified_order_keep_shares(seed):
    labels = np.repeat([0, 1, 2], [6, 60, 300])
    order = splits.stratified(np.arange(366), labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(366))
    for size in (61, 122, 183, 305):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert np.abs(counts - np.array([6, 60, 300]) * size / 366).max() <= 2


def test_classes_that_no_split_can_share_are_refused():
    labels = np.array(["a", "b"])[Y]
    labels[7], labels[99] = "c", "d"
    with pytest.raises(DataError, match=r"2 classes, the first 'c' \(row 7\), have one row"):
        made(targets=labels)
    labels[8] = "c"
    labels[98] = "d"
    dataset = made(targets=labels)  # two rows each: one at least is always learned
    assert set(dataset.targets) == {0, 1, 2, 3}


def test_a_split_of_the_persons_own():
    parts = np.array(["train", "train", "validation", "test"])[np.arange(ROWS) % 4]
    config = CONFIG.model_copy(update={"split": "part"})
    dataset = made(parts=parts, config=config)
    kept, held = subsets.holdout(180, 0.2, 0, dataset.division)
    assert set(parts[dataset.ids[kept]]) == {"train"}
    assert set(parts[dataset.ids[held]]) == {"validation"}
    assert set(parts[dataset.test_ids]) == {"test"}
    assert len(held) == 60
    with pytest.raises(DataError, match="24 groups are in both pool and test set: 0, 1, 2,"):
        made(parts=parts, groups=GROUPS, config=config)


def test_too_few_groups():
    with pytest.raises(DataError, match="has 2 groups"):
        made(groups=Y)
    with pytest.raises(DataError, match="only group"):
        subsets.holdout(5, 1, 0, Division(groups=np.zeros(5)))
