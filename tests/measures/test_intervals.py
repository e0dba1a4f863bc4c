"""Intervals: tabulated constants, coverage by simulation, pairing, jackknife, how many replicas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from engram.measures import bias_variance, intervals

quick = settings(max_examples=30, deadline=None, derandomize=True)
ROUNDS = 400


def coverage(interval_of, truth, rounds=ROUNDS, seed=0):
    generator = np.random.default_rng(seed)
    found = [interval_of(generator) for _ in range(rounds)]
    return np.mean([i.low <= truth <= i.high for i in found])


def test_constants(vector):
    v = vector("v14_stat_constants")
    for row in v["expected_max_of_N_std_normals"]:
        assert intervals.expected_best(row["N"]) == pytest.approx(row["E_max_sd"], abs=1e-9)
    for row in v["replicas"]:
        values = np.random.default_rng(row["R"]).normal(size=row["R"])
        sd = values.std(ddof=1)
        assert intervals.t_interval(values).half_width == pytest.approx(
            row["mean_halfwidth_over_sd"] * sd, abs=1e-9
        )
        spread = intervals.sd_interval(values)
        assert spread.mean == pytest.approx(sd)
        assert (spread.low, spread.high) == pytest.approx(
            (row["sd_ci_lo"] * sd, row["sd_ci_hi"] * sd), abs=1e-9
        )


@pytest.mark.parametrize("n", [3, 8, 32])
def test_t_covers(n):
    assert 0.9 <= coverage(lambda g: intervals.t_interval(g.normal(1, 2, n)), 1.0) <= 0.99


def test_few_differences_that_agree_by_chance_have_no_interval():
    unknown = intervals.paired([0.30, 0.34], [0.26, 0.30])
    assert unknown.mean == pytest.approx(0.04)
    assert not unknown.known
    assert not unknown.excludes(0)
    assert intervals.paired([0.5] * 2, [0.5] * 2).half_width == 0  # the same network twice
    assert not intervals.paired([0.30] * 4, [0.26] * 4).known
    assert intervals.paired([0.30] * 5, [0.26] * 5).excludes(0)
    assert intervals.paired([0.30, 0.35], [0.26, 0.30]).known


def test_paired_covers_and_is_narrower_than_welch():
    def pair(g, method):
        shared = g.normal(0, 3, 8)
        return method(shared + g.normal(0.5, 0.3, 8), shared + g.normal(0, 0.3, 8))

    assert 0.9 <= coverage(lambda g: pair(g, intervals.paired), 0.5) <= 0.99
    g = np.random.default_rng(3)
    assert pair(g, intervals.paired).half_width < pair(g, intervals.welch).half_width / 3


def test_welch_covers():
    def sample(g):
        return intervals.welch(g.normal(1, 1, 6), g.normal(0, 3, 12))

    assert 0.9 <= coverage(sample, 1.0) <= 0.99


def test_bootstrap_covers_with_few_replicas():
    def sample(g):
        return intervals.bootstrap(np.mean, g.normal(1, 2, 8), samples=200, seed=1)

    assert 0.9 <= coverage(sample, 1.0) <= 0.99


def test_jackknifed_variance_covers():
    """Variance over replicas, averaged over 50 examples: the case per-replica values cannot serve."""
    targets = np.zeros(50)

    def variance(p):
        return bias_variance.squared(p, targets).variance

    def sample(g):
        return intervals.t_interval(intervals.jackknife(variance, g.normal(0, 1, (16, 50))))

    assert 0.9 <= coverage(sample, 1.0) <= 0.99


def test_draws_by_inits_covers_where_replicas_alone_do_not():
    def sample(g, inits):
        values = np.repeat(g.normal(0, 1, 8), 4) + g.normal(0, 0.2, 32)
        return intervals.t_interval(values, inits=inits)

    assert 0.9 <= coverage(lambda g: sample(g, 4), 0.0) <= 0.99
    assert coverage(lambda g: sample(g, 1), 0.0) < 0.8


def test_test_set_sampling_covers():
    def sample(g):
        x = g.exponential(size=200)
        se = intervals.test_sampling_se(x)
        return intervals.Interval(x.mean(), x.mean() - 1.96 * se, x.mean() + 1.96 * se, se, 200)

    assert 0.9 <= coverage(sample, 1.0) <= 0.99


@quick
@given(st.integers(0, 10_000), st.integers(3, 12))
def test_pseudo_values_average_to_the_estimate(seed, replicas):
    predictions = np.random.default_rng(seed).normal(size=(replicas, 6))

    def variance(p):
        return bias_variance.squared(p, np.zeros(6)).variance

    pseudo = intervals.jackknife(variance, predictions)
    assert pseudo.shape == (replicas,)
    assert pseudo.mean() == pytest.approx(variance(predictions), abs=1e-9)
    # a U-statistic needs no shift: leaving one out averages to itself
    left = np.mean([variance(np.delete(predictions, r, axis=0)) for r in range(replicas)])
    assert left == pytest.approx(variance(predictions), abs=1e-9)


def test_pseudo_values_of_a_mean_are_the_values():
    values = np.random.default_rng(0).normal(size=10)
    np.testing.assert_allclose(intervals.jackknife(np.mean, values), values, atol=1e-12)
    shuffled = np.random.default_rng(1).permutation(10)
    np.testing.assert_allclose(
        intervals.jackknife(np.mean, values[shuffled]), values[shuffled], atol=1e-12
    )


@pytest.mark.parametrize(
    ("units", "groups"), [(8, 8), (32, 32), (64, 32), (50, 25), (37, 32), (96, 32)]
)
def test_groups(units, groups):
    assert intervals.group_count(units) == groups
    values = np.random.default_rng(0).normal(size=units)
    pseudo = intervals.jackknife(np.mean, values)
    assert pseudo.shape == (groups,)
    assert pseudo.mean() == pytest.approx(values.mean(), abs=1e-9)


def test_jackknife_leaves_whole_draws_out():
    seen = []

    def note(values):
        seen.append(len(values))
        return float(values.mean())

    assert intervals.jackknife(note, np.arange(12.0), inits=3).shape == (4,)
    assert seen == [12, 9, 9, 9, 9]


def test_jackknife_takes_several_arrays():
    a, b = np.arange(6.0), np.ones(6)
    pseudo = intervals.jackknife(lambda x, y: float((x * y).mean()), (a, b))
    np.testing.assert_allclose(pseudo, a, atol=1e-12)


def differences_of(effect: float, count: int = 8) -> np.ndarray:
    """Differences with sd 1 and this mean."""
    values = np.random.default_rng(0).normal(size=count)
    return (values - values.mean()) / values.std(ddof=1) + effect


def test_replicas_needed_have_the_power_asked_for():
    differences = differences_of(1.0)
    strict = 0.999  # as on a board of ten
    found = intervals.replicas_needed(differences, strict)
    assert found is not None
    fewer = intervals.replicas_needed(differences, strict, power=0.5)
    assert fewer is not None
    assert fewer.estimate < found.estimate
    generator = np.random.default_rng(1)
    rejected = [
        intervals.t_interval(generator.normal(1, 1, 8 + found.estimate), strict).excludes(0)
        for _ in range(ROUNDS)
    ]
    assert 0.72 <= np.mean(rejected) <= 0.88  # the power asked for is 0.8


def test_replicas_needed_come_with_the_range_that_the_effect_leaves():
    """The ends are those of the noncentral t interval of the effect."""
    found = intervals.replicas_needed(differences_of(1.0), 0.999)
    assert found is not None
    t = math.sqrt(8)
    ends = [
        optimize.brentq(lambda nc, p=p: stats.nct.cdf(t, 7, nc) - p, 0.01, 12) / t
        for p in (0.025, 0.975)
    ]
    wanted = [
        intervals._enough(effect, 8, 0.999, 0.8, 100_000) for effect in (ends[0], 1.0, ends[1])
    ]
    assert [n + 8 for n in found] == wanted
    power = stats.nct.sf(stats.t.ppf(0.9995, wanted[1] - 1), wanted[1] - 1, math.sqrt(wanted[1]))
    assert power == pytest.approx(0.8, abs=0.06)
    assert str(intervals.Needed(10, 43, 1907)) == "about 43 (10 to 1,907)"


def test_the_range_covers_the_true_number():
    generator = np.random.default_rng(2)
    true = intervals._enough(1.2, 8, 0.9999, 0.8, 10_000)
    assert true is not None
    found = [intervals.replicas_needed(generator.normal(1.2, 1, 8), 0.9999) for _ in range(400)]
    told = [f for f in found if f is not None]
    covered = np.mean([f.low <= true - 8 <= f.high for f in told])
    assert len(told) > 300
    assert covered > 0.93


def test_no_number_where_nothing_shows_a_difference_or_it_is_there_already():
    assert intervals.replicas_needed(differences_of(0.2)) is None
    assert intervals.replicas_needed(differences_of(0.2), 0.999) is None
    assert intervals.replicas_needed(differences_of(5.0)) is None
    assert intervals.replicas_needed(differences_of(0.0)) is None
    assert intervals.replicas_needed([0.1]) is None
    assert intervals.replicas_needed([0.1, 0.1, 0.1]) is None


def test_one_replica_excludes_nothing():
    alone = intervals.t_interval([0.3])
    assert alone.mean == 0.3
    assert math.isnan(alone.low)
    assert not alone.excludes(0)
    assert "unknown" in str(alone)


def test_reads_well():
    assert str(intervals.Interval(0.0912, 0.0712, 0.1112, 0.01, 8)) == "0.091 ± 0.020"
    assert str(intervals.Interval(12.0, 9.0, 15.0, 1.0, 8)) == "12.0 ± 3.0"
    assert str(intervals.Interval(1.5, 1.5, 1.5, 0.0, 8)) == "1.500 ± 0.000"
    assert str(intervals.t_interval([0.1 + 0.2, 0.3, 0.3])) == "0.300 ± 0.000"


def test_nan_is_refused_unless_asked_for():
    with pytest.raises(ValueError, match=r"values\[1\] = nan; every value must be finite"):
        intervals.t_interval([1.0, np.nan, 2.0])
    assert intervals.t_interval([1.0, np.nan, 2.0], omit_nan=True).n == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: intervals.t_interval([1, 2], level=95), "level = 95 is outside"),
        (lambda: intervals.paired([1, 2], [1, 2, 3]), r"\(3,\).*\(2,\)"),
        (lambda: intervals.t_interval([1, 2, 3], inits=2), "3 replicas, inits = 2"),
        (lambda: intervals.jackknife(np.mean, np.arange(2.0)), "2 independent.*at least 3"),
        (lambda: intervals.jackknife(np.mean, np.arange(9.0), groups=2), "groups = 2"),
        (lambda: intervals.expected_best(0), "n = 0"),
        (lambda: intervals.t_interval(["a"]), "must hold numbers"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
