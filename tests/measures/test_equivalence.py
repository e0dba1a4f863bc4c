"""Equivalence tests against statsmodels' rule, their error rates, and power said beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import equivalence

ROUNDS = 2000


@pytest.mark.parametrize("shift", [-0.03, 0.0, 0.008, 0.02])
def test_p_values_are_those_of_two_one_sided_t_tests(shift):
    values = shift + 0.01 * np.random.default_rng(3).normal(size=8)
    above = stats.ttest_1samp(values, -0.02, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.02, alternative="less").pvalue
    found = equivalence.equivalent(values, 0.02)
    assert found.p_value == pytest.approx(max(above, below))
    assert found.shown == (max(above, below) < 0.05)
    inside = found.interval.low > -0.02 and found.interval.high < 0.02
    assert found.shown == inside, "the 90 % interval lies within the margin"
    assert found.interval.level == pytest.approx(0.9)
    cost = equivalence.not_higher(values, 0.02)
    assert cost.p_value == pytest.approx(below)


@pytest.mark.parametrize("replicas", [4, 8])
def test_a_true_cost_of_the_margin_passes_in_one_of_twenty(replicas):
    random = np.random.default_rng(5)
    costs = 0.02 + 0.02 * random.normal(size=(ROUNDS, replicas))
    for test in (equivalence.equivalent, equivalence.not_higher):
        passed = np.mean([test(row, 0.02).shown for row in costs])
        assert passed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / ROUNDS)
    exact = np.mean([equivalence.not_higher(row, 0.02).shown for row in costs])
    assert exact >= 0.035, "and the test is no stricter than it says"


def test_absence_is_shown_where_it_is():
    random = np.random.default_rng(6)
    shown = [equivalence.equivalent(0.005 * random.normal(size=16), 0.01).shown for _ in range(200)]
    assert np.mean(shown) > 0.95


def test_edges():
    assert not equivalence.equivalent([0.0], 0.1).shown
    assert equivalence.equivalent([0.05, 0.05], 0.1).shown
    assert not equivalence.equivalent([0.1, 0.1], 0.1).shown
    assert equivalence.not_higher([-3.0, -3.0], 0.1).shown
    assert not equivalence.equivalent([-3.0, -3.0], 0.1).shown
    assert "not shown to be within ±0.1" in str(equivalence.equivalent([0.1, 0.2], 0.1))
    with pytest.raises(ValueError, match="margin = 0"):
        equivalence.equivalent([0.1, 0.2], 0)


@pytest.mark.parametrize(("replicas", "compared"), [(4, 2), (8, 2), (8, 6), (16, 20)])
def test_what_replicas_tell_is_found_with_the_power_asked_for(replicas, compared):
    effect = equivalence.told(replicas, 0.05, compared)
    level = 1 - 0.05 / (compared * (compared - 1) // 2)
    freedom = (replicas - 1) * (compared - 1)
    limit = stats.t.ppf((1 + level) / 2, freedom)
    power = stats.nct.sf(limit, freedom, effect / 0.05 * math.sqrt(replicas))
    assert power == pytest.approx(0.8, abs=1e-6)


def test_told_edges():
    assert equivalence.told(1, 0.1) == math.inf
    assert equivalence.told(8, 0.0) == 0
    assert equivalence.told(8, 0.02) == pytest.approx(0.0233, abs=5e-4)
    with pytest.raises(ValueError, match="sd = -1"):
        equivalence.told(8, -1)


@pytest.mark.parametrize(
    ("margin", "sd"), [(0.02, 0.02), (0.01, 0.02), (0.03, 0.02), (0.018, 0.01)]
)
def test_so_many_replicas_show_that_nothing_differs_with_the_power_asked_for(margin, sd):
    found = equivalence.enough(margin, sd)
    random, shown = np.random.default_rng(8), {}
    for replicas in (found - 1, found):
        values = sd * random.normal(size=(20_000, replicas))
        half = stats.t.ppf(0.95, replicas - 1) * values.std(axis=1, ddof=1) / math.sqrt(replicas)
        shown[replicas] = float((np.abs(values.mean(axis=1)) + half < margin).mean())
    assert shown[found] >= 0.8 - 0.01
    assert shown[found - 1] < 0.8 + 0.01


def test_enough_is_a_number_of_a_table_and_has_edges():
    assert equivalence.enough(0.02, 0.02) == 11  # Julious 2004, one standard deviation: 10.3 by z
    assert equivalence.enough(0.02, 0) == 2
    assert equivalence.enough(0.001, 0.02, most=1000) is None
    assert equivalence.enough(0.001, 0.02) == pytest.approx((1.6449 + 1.2816) ** 2 * 400, rel=0.01)
    assert equivalence.enough(0.02, 0.02, power=0.9) > 11
    assert equivalence.enough(0.02, 0.02, alpha=0.01) > 11
    for margin in (0, -1, math.inf):
        with pytest.raises(ValueError, match="margin"):
            equivalence.enough(margin, 0.02)
    with pytest.raises(ValueError, match="alpha"):
        equivalence.enough(0.02, 0.02, alpha=0.5)
    with pytest.raises(ValueError, match="power"):
        equivalence.enough(0.02, 0.02, power=1)
    with pytest.raises(ValueError, match="sd = inf"):
        equivalence.enough(0.02, math.inf)
