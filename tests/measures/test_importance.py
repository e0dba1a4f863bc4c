"""Whether a setting did anything: against independent F tests, and where a search moved settings together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from engram.measures import importance


def test_categories_alone_are_a_one_way_analysis_of_variance():
    random = np.random.default_rng(0)
    kinds, values = np.repeat(["a", "b", "c"], 8), random.normal(size=24)
    groups = values.reshape(3, 8)
    found = importance.effects({"kind": kinds.tolist()}, values)["kind"]
    assert found.alone == pytest.approx(stats.f_oneway(*groups).pvalue)
    assert found.beside == found.alone


def test_a_number_is_a_parabola_of_its_rank():
    random = np.random.default_rng(1)
    x = random.permutation(20) ** 3.0
    values = np.argsort(np.argsort(x)) * 0.1 + random.normal(size=20)
    ranks = np.argsort(np.argsort(x))
    full = np.polyfit(ranks, values, 2, full=True)[1][0]
    total = ((values - values.mean()) ** 2).sum()
    f = (total - full) / 2 / (full / 17)
    assert importance.effects({"x": x}, values)["x"].alone == pytest.approx(stats.f.sf(f, 2, 17))
    assert importance.effects({"x": -x}, values)["x"].alone == pytest.approx(stats.f.sf(f, 2, 17))


def test_two_settings_beside_each_other_are_type_three():
    random = np.random.default_rng(2)
    a, b = np.tile([0, 1, 2], 8), np.repeat([0, 1], 12)
    values = a * 0.3 + b + 0.2 * random.normal(size=24)
    found = importance.effects({"a": a.tolist(), "b": b.tolist()}, values)
    # Balanced: what a explains beside b is what it explains of what b leaves, with b's degree of freedom used.
    rest = values - np.array([values[b == k].mean() for k in b])
    within = rest - np.array([rest[a == k].mean() for k in a])
    gained = (rest**2).sum() - (within**2).sum()
    f = gained / 2 / ((within**2).sum() / 20)
    assert found["a"].beside == pytest.approx(stats.f.sf(f, 2, 20))
    assert found["a"].word == found["b"].word == "told"


def test_a_setting_that_follows_another_is_confounded():
    random = np.random.default_rng(3)
    a = random.normal(size=60)
    shadow = a + 0.5 * random.normal(size=60)
    found = importance.effects({"a": a, "shadow": shadow}, a + 0.1 * random.normal(size=60))
    assert found["a"].word == "told"
    assert found["shadow"].word == "confounded by the search"
    copy = importance.effects({"a": a, "copy": 2 * a}, a + 0.1 * random.normal(size=60))
    assert {e.word for e in copy.values()} == {"confounded by the search"}


def test_a_setting_that_does_nothing_is_told_in_one_study_of_twenty():
    random, rounds = np.random.default_rng(4), 400
    told = 0
    for _ in range(rounds):
        settings = {"x": random.random(30), "kind": random.integers(3, size=30).tolist()}
        found = importance.effects(settings, random.normal(size=30))
        told += any(effect.word == "told" for effect in found.values())
    assert stats.binom.ppf(0.001, rounds, 0.04) <= told <= stats.binom.ppf(0.999, rounds, 0.05)


def test_exact_effects_equal_values_and_too_few_trials():
    exact = importance.effects({"a": [0, 1] * 6}, [0.1, 0.3] * 6)["a"]
    assert (exact.alone, exact.word) == (0.0, "told")
    same = importance.effects({"a": [0, 1] * 6}, np.ones(12))["a"]
    assert (same.alone, same.word) == (1.0, "not told")
    one = importance.effects({"a": [1] * 8}, np.arange(8.0))["a"]
    assert one.beside == 1.0
    few = importance.effects({"a": [0, 1, 0, 1, 0]}, [0.0, 1, 0, 1, 0.1])["a"]
    assert few.word == "not told"  # three degrees of freedom are left
    with pytest.raises(ValueError, match="3 trials; importance needs at least 4"):
        importance.effects({"a": [1, 2, 3]}, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="a has shape"):
        importance.effects({"a": [1, 2]}, [0.1, 0.2, 0.3, 0.4])
