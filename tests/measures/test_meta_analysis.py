"""Effects over datasets: a published meta-analysis, closed forms, and coverage where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import meta_analysis

# The log risk ratios of 13 trials of the BCG vaccine (Colditz 1994) and their variances.
EFFECTS = [-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713, -0.3394, 0.4459, -0.0173]  # fmt: skip
VARIANCES = [0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124, 0.5325, 0.0714]  # fmt: skip


def test_a_published_meta_analysis_comes_out_as_published():
    """Viechtbauer 2010 (Journal of Statistical Software 36): τ² 0.3132, mean -0.7145, I² 92.22 %."""
    found = meta_analysis.pool(EFFECTS, np.sqrt(VARIANCES))
    assert found.spread**2 == pytest.approx(0.3132, abs=2e-4)
    assert found.mean.mean == pytest.approx(-0.7145, abs=2e-4)
    assert found.heterogeneity == pytest.approx(0.9222, abs=3e-4)
    assert found.datasets == 13


def test_equal_errors_give_the_t_test_of_the_effects():
    """With one standard error for all, the mean and its interval are Student's own."""
    effects, error = np.array([0.1, 0.35, 0.5, 0.8, 0.25]), 0.02
    found = meta_analysis.pool(effects, [error] * 5)
    low, high = stats.t.interval(0.95, 4, effects.mean(), stats.sem(effects))
    assert found.mean.mean == pytest.approx(effects.mean())
    assert (found.mean.low, found.mean.high) == pytest.approx((low, high), abs=1e-6)
    assert found.spread**2 == pytest.approx(effects.var(ddof=1) - error**2, rel=1e-5)
    half = stats.t.ppf(0.975, 3) * math.sqrt(found.spread**2 + found.mean.se**2)
    assert found.another.half_width == pytest.approx(half)


def test_effects_alike_have_no_spread_and_no_narrower_an_interval_than_their_own_errors_allow():
    found = meta_analysis.pool([0.2, 0.2, 0.2], [0.1, 0.1, 0.1])
    assert found.spread == 0
    assert found.heterogeneity == 0
    assert found.mean.se == pytest.approx(0.1 / math.sqrt(3))


@pytest.mark.parametrize(
    ("effects", "errors", "word"),
    [
        ([0.1, 0.2], [0.1, 0.1], "at least 3"),
        ([0.1, 0.2, 0.3], [0.1, 0.0, 0.1], "zero"),
        ([0.1, 0.2, 0.3], [0.1, 0.1], "errors"),
        ([0.1, math.nan, 0.3], [0.1, 0.1, 0.1], "effects"),
    ],
)
def test_what_cannot_be_pooled_is_refused(effects, errors, word):
    with pytest.raises(ValueError, match=word):
        meta_analysis.pool(effects, errors)


def test_both_intervals_cover_where_the_truth_is_known():
    """Five datasets of unequal errors, 400 times: the mean's interval and the next dataset's effect."""
    random = np.random.default_rng(3)
    errors, truth, tau = np.array([0.02, 0.05, 0.03, 0.08, 0.04]), 0.3, 0.1
    mean, another = 0, 0
    for _ in range(400):
        effects = random.normal(truth, np.hypot(tau, errors))
        found = meta_analysis.pool(effects, errors)
        mean += found.mean.low <= truth <= found.mean.high
        another += found.another.low <= random.normal(truth, tau) <= found.another.high
    # 95 % of 400 is 380; three binomial standard errors are 13.
    assert mean >= 367
    assert another >= 360
