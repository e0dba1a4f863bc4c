"""Power laws: exact recovery, intervals that cover, honesty about what is not identified, crossings."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engram.measures import misfit, scaling

SIZES = np.array([100, 200, 400, 800, 1600, 3200, 6400])


def law(alpha, beta, gamma, n=SIZES):
    return alpha * n ** float(beta) + gamma


def noisy(seed, line, replicas=8, sd=0.03):
    return line[:, None] * (1 + sd * np.random.default_rng(seed).normal(size=(len(line), replicas)))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(0.5, 20), st.floats(-1.5, -0.1), st.floats(0, 0.3))
def test_recovers_exact_laws(alpha, beta, gamma):
    fit = scaling.power_law(SIZES, law(alpha, beta, gamma))
    assert fit.alpha == pytest.approx(alpha, rel=1e-4)
    assert fit.beta == pytest.approx(beta, rel=1e-4)
    assert fit.gamma == pytest.approx(gamma, abs=1e-4)
    np.testing.assert_allclose(fit(SIZES), law(alpha, beta, gamma), rtol=1e-6)
    assert fit.identified, fit.reason


def test_intervals_cover():
    truth = (3.0, -0.5, 0.1)
    hits, ahead = np.zeros(3), []
    for seed in range(120):
        fit = scaling.power_law(SIZES, noisy(seed, law(*truth)), samples=100)
        spans = fit.alpha_interval, fit.beta_interval, fit.gamma_interval
        hits += [i.low <= t <= i.high for i, t in zip(spans, truth, strict=True)]
        found = fit.predict(25_600)
        assert found.known == fit.identified
        if found.known:
            ahead.append(found.low <= law(*truth, np.array(25_600)) <= found.high)
    assert ((hits / 120 >= 0.88) & (hits / 120 <= 0.99)).all(), hits / 120
    assert len(ahead) > 90, "a true law passes its checks"
    assert np.mean(ahead) >= 0.88


TRUTHS = {
    "broken": lambda n: np.where(n < 800, 0.9 * (n / 100) ** -0.15, 0.66 * (n / 800) ** -0.6),
    "logarithmic": lambda n: 0.9 - 0.08 * np.log(n / 50),
    "exponential": lambda n: 0.6 * np.exp(-n / 1500) + 0.1,
    "bump": lambda n: law(3, -0.5, 0.1, n) * (1 + 0.3 * np.exp(-2 * np.log(n / 800) ** 2)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_other_truths_are_not_identified_and_foretell_nothing(name):
    passed = 0
    for seed in range(20):
        fit = scaling.power_law(SIZES, noisy(seed, TRUTHS[name](SIZES), sd=0.02), samples=100)
        passed += fit.identified
        assert fit.identified or not fit.predict(25_600).known
        assert fit.predict(1600).known, "the sizes measured are still described"
    assert passed <= 2


def test_a_prediction_allows_for_curves_that_explain_as_much():
    """Mildly wrong truths: where the fit passes, its interval covers what is true four times further."""

    def truth(n):
        return law(3, -0.5, 0.1, n) * (1 + 0.03 * np.sin(np.log(n)))

    covered = []
    for seed in range(60):
        fit = scaling.power_law(SIZES, noisy(seed, truth(SIZES), sd=0.05), samples=100)
        if fit.identified:
            ahead = fit.predict(25_600)
            covered.append(ahead.low <= truth(25_600.0) <= ahead.high)
    assert len(covered) > 20
    assert np.mean(covered) >= 0.85


def test_the_reach_is_what_smaller_sizes_were_shown_to_foretell():
    fit = scaling.power_law(SIZES, noisy(1, law(3, -0.5, 0.1), sd=0.01))
    assert fit.identified, fit.reason
    assert fit.reach == 6400 * 4  # 1600 foretold 6400
    assert fit.predict(25_600).known
    assert not fit.predict(25_601).known


def test_lack_of_fit_is_the_f_test():
    """Residuals of noise alone reject at the stated rate; the noise is that of a two-way layout."""
    random = np.random.default_rng(4)
    rejected = []
    for _ in range(400):
        block = random.normal(size=8)
        table = 1 + 0.05 * random.normal(size=(9, 8)) + 0.3 * block
        known = misfit.noise(table, np.ones(9))
        mean = table.mean(axis=1)
        terms = np.stack([np.ones(9), np.arange(9), np.arange(9) ** 2], axis=1)
        residuals = mean - terms @ np.linalg.lstsq(terms, mean, rcond=None)[0]
        rejected.append(misfit.lack_of_fit(residuals, known) < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.09
    assert known.freedom == 56
    assert known.variance[0] * 8 == pytest.approx(0.05**2, rel=0.4)


def test_a_rise_is_tested_at_a_level_divided_among_the_steps():
    table = np.tile([[0.5], [0.4], [0.4], [0.3]], (1, 8)) + np.zeros((4, 8))
    noise = np.tile([-0.01, 0.01], 4)
    t = {p: stats.t.ppf(1 - p, 7) * 0.01 * math.sqrt(8 / 7) / math.sqrt(8) for p in (0.015, 0.018)}
    for p, words in ((0.015, "rises from n = 200 to 400"), (0.018, "")):
        moved = table.copy()
        moved[2] += noise + t[p]
        assert words in misfit.rise(moved, SIZES[:4])
        assert bool(misfit.rise(moved, SIZES[:4])) == bool(words)


def test_residual_intervals_cover_without_replicas():
    hits = 0
    for seed in range(200):
        errors = noisy(seed, law(3, -0.5, 0.1), replicas=1, sd=0.01)[:, 0]
        fit = scaling.power_law(SIZES, errors, samples=100)
        hits += fit.beta_interval.low <= -0.5 <= fit.beta_interval.high
    assert 0.9 <= hits / 200 <= 0.99


@pytest.mark.parametrize(
    ("sizes", "errors", "words"),
    [
        (SIZES[:5], law(3, -0.5, 0.1)[:5], "5 sizes.*at least 6"),
        (SIZES[:2], law(3, -0.5, 0.1)[:2], "2 sizes"),
        (SIZES, np.full(7, 0.5), "does not fall"),
        (SIZES, law(3, -0.5, 0.1)[::-1], "does not fall"),
        (SIZES, 0.9 - 0.05 * np.log(SIZES), "end of the range|anywhere|logarithmic"),
        (SIZES, abs(noisy(1, law(3, -0.5, 0.1), 4, sd=0.5)), "anywhere"),
    ],
)
def test_unidentified_says_why(sizes, errors, words):
    fit = scaling.power_law(sizes, errors)
    assert not fit.identified
    assert re.search(words, fit.reason), fit.reason


def test_floor_is_never_negative():
    errors = 0.9 - 0.08 * np.log(SIZES)
    assert scaling.power_law(SIZES, errors).gamma >= 0


def test_missing_replicas_are_allowed():
    table = noisy(2, law(3, -0.5, 0.1))
    table[-1, 1:] = np.nan
    fit = scaling.power_law(SIZES, table)
    assert fit.beta_interval.known
    assert fit.errors[-1] == table[-1, 0]
    ragged = np.full((7, 1), np.nan)
    ragged[:, 0] = law(3, -0.5, 0.1)
    assert scaling.power_law(SIZES, ragged).beta == pytest.approx(-0.5)


def test_replicas_may_be_permuted():
    table = noisy(3, law(3, -0.5, 0.1))
    order = np.random.default_rng(0).permutation(8)
    first, second = scaling.power_law(SIZES, table), scaling.power_law(SIZES, table[:, order])
    assert second.beta == pytest.approx(first.beta, rel=1e-6)


def test_crossing_of_exact_laws():
    plain, decayed = (
        scaling.power_law(SIZES, law(6, -0.65, 0.1)),
        scaling.power_law(SIZES, law(3, -0.5, 0.1)),
    )
    (found,) = scaling.crossings(plain, decayed, ("weight decay 0", "weight decay 0.1"))
    n = 2 ** (1 / 0.15)  # 6 n^-.65 = 3 n^-.5
    assert found.n == pytest.approx(n, rel=1e-3)
    assert (found.below, found.above) == ("weight decay 0.1", "weight decay 0")
    assert found.extrapolated == (n < SIZES[0])
    assert scaling.crossings(plain, plain) == []
    assert "wins below n = 102" in str(found)


def test_two_crossings_and_none():
    a, b = scaling.power_law(SIZES, law(3, -0.5, 0.1)), scaling.power_law(SIZES, law(3, -0.5, 0.2))
    assert scaling.crossings(a, b) == []
    steep = scaling.power_law(SIZES, law(200, -1.2, 0.13))
    found = scaling.crossings(a, steep, ("a", "steep"))
    assert [c.below for c in found] == ["a", "steep"][: len(found)]


def test_crossing_interval_covers():
    truth = 2 ** (1 / 0.15)
    hits, seen = 0, 0
    for seed in range(60):
        a = scaling.power_law(SIZES, noisy(seed, law(6, -0.65, 0.1)), samples=100)
        b = scaling.power_law(SIZES, noisy(seed + 1000, law(3, -0.5, 0.1)), samples=100)
        for crossing in scaling.crossings(a, b, low=20):
            if crossing.interval.known:
                seen += 1
                hits += crossing.interval.low <= truth <= crossing.interval.high
    assert seen > 30
    assert 0.88 <= hits / seen <= 1.0


def test_uncertain_crossing_is_called_so():
    a = scaling.power_law(SIZES, noisy(0, law(3, -0.5, 0.1), sd=0.2))
    b = scaling.power_law(SIZES, noisy(1, law(3, -0.5, 0.1), sd=0.2))
    for crossing in scaling.crossings(a, b):
        assert crossing.interval.known or "not certain" in str(crossing)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: scaling.power_law([2, 1], [0.5, 0.4]), "increase"),
        (lambda: scaling.power_law([1, 2], [0.5, -0.4]), "at least 0"),
        (lambda: scaling.power_law([1, 2], [0.5, np.nan]), "at least 0"),
        (lambda: scaling.power_law([1], [0.5]), "at least 2"),
        (lambda: scaling.power_law([1, 2, 3], [0.5, 0.4]), r"\(2,\).*\(3,\)"),
        (lambda: scaling.power_law(SIZES, law(3, -0.5, 0)).predict(0), "n = 0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_prediction_without_spread_is_unknown():
    fit = scaling.power_law([100, 200, 400], law(3, -0.5, 0.1, np.array([100, 200, 400])))
    assert math.isnan(fit.predict(1000).low)
