"""Comparison with the best: what it comes to in cases with a closed form, its error rate and its power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import comparison


def board(
    generator: np.random.Generator, means: np.ndarray, sd: np.ndarray | float, replicas: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in order, and which configuration each is; replicas share a term, as shared subsets give them."""
    noise = generator.normal(size=(len(means), replicas)) * np.reshape(sd, (-1, 1))
    table = np.reshape(means, (-1, 1)) + noise + generator.normal(size=replicas)
    order = np.argsort(table.mean(axis=1))
    return table[order], order


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_two_rows_are_the_paired_t_test(replicas):
    generator = np.random.default_rng(replicas)
    seen = set()
    for _ in range(60):
        table, _ = board(generator, np.array([0.0, 1.5]), 1.0, replicas)
        p = stats.ttest_rel(table[1], table[0]).pvalue
        assert (comparison.groups(table).tolist() == [1, 2]) == (p < 0.05)
        seen.add(p < 0.05)
    assert len(seen) == 2 or replicas == 2


def test_the_limit_is_tukeys_where_variances_are_alike():
    """Large boards of equal variances: range over sd, whose distribution is the studentized range's, over √2."""
    generator = np.random.default_rng(0)
    limits = []
    for _ in range(20):
        table, _ = board(generator, np.zeros(30), 1.0, 8)
        limits.append(comparison._Board(table, 0.05, 1).limit([np.arange(30)]))
    exact = stats.studentized_range.ppf(0.95, 30, 29 * 7) / math.sqrt(2)
    assert np.mean(limits) == pytest.approx(exact, rel=0.08)


@pytest.mark.parametrize("sd", ["alike", "one of five times", "all different"])
@pytest.mark.parametrize("count", [6, 20])
def test_equal_configurations_are_one_group_in_nineteen_of_twenty_boards(count, sd):
    generator = np.random.default_rng(11)
    scale = {
        "alike": np.ones(count),
        "one of five times": np.r_[5.0, np.ones(count - 1)],
        "all different": np.exp(0.7 * generator.normal(size=count)),
    }[sd]
    boards = 200
    split = sum(
        comparison.groups(board(generator, np.zeros(count), scale, 8)[0], seed=k).max() > 1
        for k in range(boards)
    )
    assert split <= stats.binom.ppf(0.999, boards, 0.05)
    assert split >= 1, "a rate of nothing is bought with blindness"


def test_power_is_within_a_fifth_of_tukeys_with_the_right_noise():
    generator = np.random.default_rng(12)
    count, replicas, boards = 20, 8, 100
    q = stats.studentized_range.ppf(0.95, count, (count - 1) * (replicas - 1))
    means = np.r_[np.zeros(10), np.full(10, 1.1 * q / math.sqrt(replicas))]
    ours = ideal = 0
    for k in range(boards):
        table, order = board(generator, means, 1.0, replicas)
        worse = order >= 10
        residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        sd = math.sqrt((residual**2).sum() / ((count - 1) * (replicas - 1)))
        behind = table.mean(1) - table.mean(1).min()
        ideal += int((worse & (behind > q * sd / math.sqrt(replicas))).sum())
        ours += int((worse & (comparison.groups(table, seed=k) > 1)).sum())
    assert ours >= 0.8 * ideal


def test_two_clusters_are_two_groups_and_a_terrible_row_hides_nothing():
    generator = np.random.default_rng(13)
    table, _ = board(generator, np.r_[np.zeros(6), np.full(6, 4.0), 500.0], 1.0, 8)
    assert comparison.groups(table).tolist() == [1] * 6 + [2] * 6 + [3]


def test_exact_differences_separate_and_rounding_does_not():
    same = np.random.default_rng(0).normal(size=8)
    assert comparison.groups([same, same, same + 0.1, same + 0.1]).tolist() == [1, 1, 2, 2]
    assert comparison.groups([same, same + 1e-12, same + 2e-12]).tolist() == [1, 1, 1]
    assert comparison.groups([[0.1], [0.9]]).tolist() == [1, 1]
    assert comparison.groups([[0.1, 0.2]]).tolist() == [1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_replicas_that_are_all_equal_are_exact_and_divide_by_nothing(scale):
    rows = np.array([[0.1] * 6, [0.1] * 6, [0.2] * 6, [0.2] * 6, [0.3] * 6, [0.3] * 6])
    assert comparison.groups(rows * scale).tolist() == [1, 1, 2, 2, 3, 3]
    assert comparison.groups(np.zeros((6, 4))).tolist() == [1] * 6
    assert comparison.groups([[0.0] * 3, [0.0] * 3]).tolist() == [1, 1]


def test_few_replicas_that_agree_by_chance_tell_nothing_apart():
    assert comparison.groups([[0.1] * 2, [0.2] * 2]).tolist() == [1, 1]
    assert comparison.groups([[0.1] * 4, [0.2] * 4, [0.2] * 4]).tolist() == [1, 1, 1]
    assert comparison.groups([[0.1] * 5, [0.2] * 5]).tolist() == [1, 2]
    generator = np.random.default_rng(3)
    split = 0
    for _ in range(300):  # equal configurations, errors counted on 100 examples
        table = generator.binomial(100, 0.3, size=(4, 2)) / 100
        table = table[np.argsort(table.mean(axis=1), kind="stable")]
        split += comparison.groups(table).max() > 1
    assert split <= 300 * 0.05 + 3 * np.sqrt(300 * 0.05 * 0.95)


def test_the_answer_does_not_depend_on_scale_or_on_what_replicas_share():
    generator = np.random.default_rng(14)
    table, _ = board(generator, np.linspace(0, 4, 12), 1.0, 6)
    found = comparison.groups(table).tolist()
    assert comparison.groups(1000 * table + 7).tolist() == found
    assert comparison.groups(table + 3 * generator.normal(size=6)).tolist() == found
    assert 1 < max(found) < 12


def test_prior_finds_what_variances_have_in_common():
    """Smyth 2004: variances s0²·χ²_d/d about inverse-χ² ones come back as d0 and s0²."""
    generator = np.random.default_rng(15)
    true = 4.0 * 6 / generator.chisquare(6, size=40_000)
    weight, variance = comparison.prior_of(true * generator.chisquare(7, 40_000) / 7, 7)
    assert weight == pytest.approx(6, rel=0.1)
    assert variance == pytest.approx(4, rel=0.05)
    weight, variance = comparison.prior_of([2.0, 2.0, 2.0, 2.0], 7)
    assert (weight, variance) == (math.inf, 2.0)
    assert comparison.prior_of([1.0, 2.0, 0.0], 7) == (0.0, 0.0)


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 30.0])
def test_trigamma_inverse(value):
    from scipy import special

    assert special.polygamma(1, comparison._trigamma_inverse(value)) == pytest.approx(value)


def test_unequal_replicas_are_compared_pair_by_pair_at_a_divided_level():
    low, high = [0.1, -0.1, 0, 0.1, -0.1], [1.1, 1.0, 0.9, 1.0]
    assert comparison.groups_of_pairs([low, high, None]).tolist() == [1, 2, 1]
    # t = 2.6 with 7 degrees of freedom: apart alone (p = 0.035), not among three pairs.
    noise = np.tile([-1.0, 1.0], 4)
    second = noise + 2.6 * noise.std(ddof=1) / math.sqrt(8)
    zero = np.zeros(8)
    assert comparison.groups_of_pairs([zero, second]).tolist() == [1, 2]
    assert comparison.groups_of_pairs([zero, second, second[:7] * 0 + second.mean()])[1] == 1


def test_refusals():
    with pytest.raises(ValueError, match="not in the order of their means"):
        comparison.groups([[2.0, 2.1], [1.0, 1.1]])
    with pytest.raises(ValueError, match="alpha = 0"):
        comparison.groups([[1.0, 1.1], [2.0, 2.1]], 0.0)
