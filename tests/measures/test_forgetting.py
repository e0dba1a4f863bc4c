"""Forgetting events and retention."""

import numpy as np
import pytest

from engram.measures import forgetting


def test_reference(vector):
    v = vector("v10_forgetting")
    for name, sequence in v["sequences"].items():
        found, expected = forgetting.events(np.array(sequence)[:, None]), v["expected"][name]
        assert found.forgotten[0] == expected["forget"]
        first = expected["learn_first"]
        assert np.isnan(found.learned_at[0]) if first is None else found.learned_at[0] == first
        assert found.unforgettable[0] == expected["unforgettable"]
        assert found.never_learned[0] == expected["never_learned"]
    assert forgetting.events(np.zeros((4, 1))).sort_value[0] == 4


def test_skipped_presentations_do_not_count():
    sequence = np.array(
        [[1, np.nan, np.nan], [np.nan, 0, np.nan], [0, np.nan, np.nan], [1, 0, np.nan]]
    )
    found = forgetting.events(sequence)
    np.testing.assert_array_equal(found.forgotten, [1, 0, 0])
    np.testing.assert_array_equal(found.never_learned, [False, True, False])
    np.testing.assert_array_equal(found.unforgettable, [False, False, False])
    np.testing.assert_array_equal(found.sort_value, [1, 2, 0])
    assert found.unforgettable_share == 0.0


def test_examples_are_independent():
    correct = np.random.default_rng(0).integers(0, 2, size=(12, 8))
    order = np.random.default_rng(1).permutation(8)
    together, moved = forgetting.events(correct), forgetting.events(correct[:, order])
    np.testing.assert_array_equal(moved.forgotten, together.forgotten[order])
    falls = ((correct[:-1] == 1) & (correct[1:] == 0)).sum(axis=0)
    np.testing.assert_array_equal(together.forgotten, falls)


def test_retention():
    before = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    after = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    found = forgetting.retention(before, after)
    np.testing.assert_allclose(found.lost, [2 / 3, 0, np.nan])
    np.testing.assert_allclose(found.drop, [0.25, 0, 0])
    assert found.lost_interval.n == 2
    assert found.drop_interval.n == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: forgetting.events([[0, 2]]), "2.*0, 1 or NaN"),
        (lambda: forgetting.events([0, 1]), "2 dimensions"),
        (lambda: forgetting.retention([[1]], [[1, 0]]), r"\(1, 2\).*\(1, 1\)"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
