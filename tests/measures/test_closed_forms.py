"""Measures beside independent code and closed forms: scipy's tests and intervals, textbooks' formulas, hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from engram.measures import (
    between_nights,
    capacity,
    comparison,
    convergence,
    intervals,
    membership,
    memorization,
)

FEW = np.array([0.31, 0.28, 0.35, 0.30, 0.33])
MANY = np.array([0.42, 0.31, 0.36, 0.29, 0.50, 0.44, 0.33, 0.38])


def ends(found: intervals.Interval) -> tuple[float, float]:
    return found.low, found.high


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_intervals_are_scipys(level):
    one = intervals.t_interval(MANY, level)
    theirs = stats.ttest_1samp(MANY, 0).confidence_interval(level)
    assert ends(one) == pytest.approx((theirs.low, theirs.high))
    assert one.se == pytest.approx(stats.sem(MANY))
    pair = intervals.paired(MANY[:5], FEW, level)
    theirs = stats.ttest_rel(MANY[:5], FEW).confidence_interval(level)
    assert ends(pair) == pytest.approx((theirs.low, theirs.high))
    two = intervals.welch(MANY, FEW, level)
    theirs = stats.ttest_ind(MANY, FEW, equal_var=False).confidence_interval(level)
    assert ends(two) == pytest.approx((theirs.low, theirs.high))
    assert two.se == pytest.approx(math.hypot(stats.sem(MANY), stats.sem(FEW)))
    turned = intervals.welch(FEW, MANY, level)
    assert ends(turned) == pytest.approx((-theirs.high, -theirs.low))


def test_welch_at_its_edges():
    same = intervals.welch([0.5, 0.5], [0.25, 0.25, 0.25], 0.9)
    assert same == intervals.Interval(0.25, 0.25, 0.25, 0.0, 2, 0.9)
    for unknown in (intervals.welch([0.3], MANY, 0.9), intervals.welch(MANY, [0.3], 0.9)):
        assert (unknown.n, unknown.level) == (1, 0.9)
        assert all(map(math.isnan, (unknown.low, unknown.high, unknown.se)))


def test_spread_is_that_of_the_chi_square_distribution():
    found = intervals.sd_interval(MANY, 0.9)
    squares = MANY.var(ddof=1) * 7
    wanted = [math.sqrt(squares / stats.chi2.ppf(share, 7)) for share in (0.95, 0.05)]
    assert ends(found) == pytest.approx(wanted)
    assert found.se == pytest.approx(MANY.std(ddof=1) / math.sqrt(14))
    assert (found.n, found.level) == (8, 0.9)
    alone = intervals.sd_interval([0.3], 0.9)
    assert (alone.n, alone.level) == (1, 0.9)
    assert all(map(math.isnan, (alone.mean, alone.low, alone.high, alone.se)))
    assert intervals.sd_interval([0.3, 0.4]).known


def test_the_bootstrap_resamples_whole_draws_and_expands_its_percentiles():
    draws = np.random.default_rng(5)
    chosen = [draws.integers(4, size=4) for _ in range(400)]
    pairs = MANY.reshape(4, 2)
    means = np.array([pairs[rows].mean() for rows in chosen])
    found = intervals.bootstrap(np.mean, MANY, 0.9, samples=400, seed=5, inits=2)
    edge = stats.norm.cdf(-math.sqrt(4 / 3) * stats.t.ppf(0.95, 3))
    assert ends(found) == pytest.approx(tuple(np.quantile(means, [edge, 1 - edge])))
    assert found.mean == pytest.approx(MANY.mean())
    assert found.se == pytest.approx(means.std(ddof=1))
    assert (found.n, found.level) == (4, 0.9)
    both = intervals.bootstrap(lambda a, b: float((a * b).mean()), (MANY, np.ones(8)), samples=50)
    plain = intervals.bootstrap(np.mean, MANY, samples=50)
    assert ends(both) == pytest.approx(ends(plain))


def test_percentiles_leave_undefined_draws_out_and_need_two():
    found = intervals.percentile_interval(1.0, [1.0, np.nan, 3.0], 5, 0.9)
    edge = stats.norm.cdf(-math.sqrt(5 / 4) * stats.t.ppf(0.95, 4))
    assert ends(found) == pytest.approx((1 + 2 * edge, 3 - 2 * edge))
    for draws, n in (([1.0, np.nan], 5), ([1.0, 3.0], 1)):
        unknown = intervals.percentile_interval(1.0, draws, n, 0.9)
        assert (unknown.mean, unknown.n, unknown.level) == (1.0, n, 0.9)
        assert all(map(math.isnan, (unknown.low, unknown.high, unknown.se)))
    assert intervals.percentile_interval(1.0, [1.0, 3.0], 2).known


def test_an_interval_by_the_spread_of_draws():
    draws = [1.0, 2.0, np.nan, 4.0]
    found = intervals.spread_interval(2.0, draws, 5, 0.9)
    half = math.sqrt(5 / 4) * stats.t.ppf(0.95, 4) * np.std([1.0, 2.0, 4.0], ddof=1)
    assert ends(found) == pytest.approx((2 - half, 2 + half))
    assert (found.mean, found.n, found.level) == (2.0, 5, 0.9)
    assert not intervals.spread_interval(2.0, draws, 1).known


def test_sampling_error_is_the_standard_error_of_the_mean_over_examples():
    values = np.random.default_rng(0).normal(size=(5, 30))
    assert intervals.test_sampling_se(values[0]) == pytest.approx(stats.sem(values[0]))
    assert intervals.test_sampling_se(values) == pytest.approx(stats.sem(values.mean(axis=0)))
    assert intervals.test_sampling_se([1.0, 2.0]) == pytest.approx(0.5)
    assert math.isnan(intervals.test_sampling_se([1.0]))
    with pytest.raises(ValueError, match="1 or 2 dimensions"):
        intervals.test_sampling_se(values[None])


@pytest.mark.parametrize(("above", "below"), [(6, 0), (5, 2), (1, 7), (3, 3), (0, 1)])
def test_the_sign_test_is_the_binomial_test(above, below):
    wanted = stats.binomtest(above, above + below).pvalue
    assert intervals.sign_test(above, below) == pytest.approx(wanted)
    assert intervals.sign_test(0, 0) == 1.0
    with pytest.raises(ValueError, match="-1"):
        intervals.sign_test(above, -1)


def test_the_fewest_are_found_by_asking_for_few():
    for wanted in (5, 6, 7, 11, 64, 100):
        asked = []

        def enough(n, wanted=wanted, asked=asked):
            asked.append(n)
            return n >= wanted

        assert intervals.fewest(enough, 5, 100) == wanted
        assert len(asked) <= 2 * math.ceil(math.log2(100)) + 1
        assert all(5 <= n <= 100 for n in asked)
    assert intervals.fewest(lambda n: n > 100, 5, 100) is None
    assert intervals.fewest(lambda n: n >= 5, 5, 5) == 5
    assert intervals.fewest(lambda n: False, 5, 5) is None


def test_replicas_needed_stop_where_they_are_asked_to():
    values = np.tile([-1.0, 1.0], 4) * math.sqrt(7 / 8)  # sd 1
    found = intervals.replicas_needed(values + 0.9, 0.999)
    assert found is not None
    high = found.high
    assert intervals.replicas_needed(values + 0.9, 0.999, most=high) == found
    assert intervals.replicas_needed(values + 0.9, 0.999, most=high - 1) is None
    for power in (0, 1):
        with pytest.raises(ValueError, match="power"):
            intervals.replicas_needed(values, power=power)
    assert intervals.replicas_needed(values[:1]) is None


def test_an_interval_of_two_values_and_its_ends():
    two = intervals.Interval(0.5, 0.2, 0.8, 0.1, 2)
    assert not two.excludes(0.2)
    assert not two.excludes(0.8)
    assert two.excludes(0.81)
    assert two.excludes(0.19)
    assert two.excludes()
    assert not intervals.Interval(0.5, 0.2, math.nan, 0.1, 2).known
    assert not intervals.Interval(0.5, -math.inf, 0.8, 0.1, 2).excludes(1)
    assert str(intervals.Interval(0.5, 0.5 - 2e-7, 0.5 + 2e-7, 1e-7, 8)) == "0.500000 ± 0.000000"
    assert str(intervals.Interval(1234.0, 1200.0, 1268.0, 9.0, 8)) == "1234 ± 34"


def test_moderated_variances_are_those_of_a_pooled_prior():
    """Smyth 2004, by its own formulas: moments of log variances, solved with scipy."""
    variances = np.array([1.0, 3.0, 0.4, 8.0, 0.05, 2.0])
    freedom = 3
    logs = np.log(variances) - special.digamma(1.5) + math.log(1.5)
    excess = logs.var(ddof=1) - special.polygamma(1, 1.5)
    low, high = 1e-3, 1e3
    for _ in range(200):  # bisection of trigamma(x) = excess
        middle = math.sqrt(low * high)
        low, high = (middle, high) if special.polygamma(1, middle) > excess else (low, middle)
    weight, common = comparison.prior_of(variances, freedom)
    assert weight == pytest.approx(2 * low)
    assert common == pytest.approx(math.exp(logs.mean() + special.digamma(low) - math.log(low)))
    pulled, total = between_nights.moderated(list(variances), freedom)
    assert pulled == pytest.approx((3 * variances + weight * common) / (3 + weight))
    assert total == pytest.approx(3 + weight)
    some, _ = between_nights.moderated([0.0, *variances], freedom)
    assert some[0] == 0
    assert some[1:] == pytest.approx(pulled)


def test_moderation_borrows_only_so_much_and_nothing_where_nothing_is_known():
    alike = [1.0, 1.01, 0.99, 1.0, 1.02]
    pulled, total = between_nights.moderated(alike, 3)
    assert total == 3 + 40
    assert pulled == pytest.approx((3 * np.array(alike) + 40 * np.mean(alike)) / 43)
    assert between_nights.moderated(alike, 12)[1] == 12 + 48
    same, none = between_nights.moderated([1, 2], 0)
    assert (same.tolist(), none) == ([1.0, 2.0], 0.0)
    few, own = between_nights.moderated([1.0, 2.0], 3)
    assert (few.tolist(), own) == ([1.0, 2.0], 3)
    assert between_nights.moderated([], 3)[1] == 3


def test_priors_of_few_or_of_alike_variances():
    assert comparison.prior_of([1.0, 2.0], 5) == (0.0, 0.0)
    assert comparison.prior_of([0.0, 1.0, 2.0], 5) == (0.0, 0.0)
    weight, common = comparison.prior_of([1.0, 2.0, 3.0], 5)
    assert math.isinf(weight)
    assert common == pytest.approx(2)


def test_widened_is_welch_and_satterthwaite():
    plain = intervals.t_interval(MANY, 0.9)
    found = between_nights.widened(plain, 0.01, 5)
    total = plain.se**2 + 0.01
    freedom = total**2 / (plain.se**4 / 7 + 0.01**2 / 5)
    half = stats.t.ppf(0.95, freedom) * math.sqrt(total)
    assert ends(found) == pytest.approx((plain.mean - half, plain.mean + half))
    assert (found.n, found.level) == (8, 0.9)
    assert found.se == pytest.approx(math.sqrt(total))
    known = between_nights.widened(plain, 0.01, 0)
    freedom = total**2 / (plain.se**4 / 7)
    assert known.half_width == pytest.approx(stats.t.ppf(0.95, freedom) * math.sqrt(total))
    exact = intervals.Interval(0.5, 0.5, 0.5, 0.0, 8, 0.9)
    assert between_nights.widened(exact, 0.01, 0).half_width == pytest.approx(
        stats.norm.ppf(0.95) * 0.1
    )


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")
def test_the_median_of_censored_runs_is_kaplan_and_meiers():
    """Its curve and log-log band are scipy's, where the times are not those of half."""
    times = np.array([3.0, 5, 5, 8, 12, np.nan, 17, 21, np.nan, 30, 34])
    last = np.where(np.isnan(times), 14.0, 40.0)
    last[8] = 25.0
    found = convergence.summarize(times, last, 0.9)
    seen = np.where(np.isnan(times), last, times)
    sample = stats.CensoredData.right_censored(seen, np.isnan(times))
    curve = stats.ecdf(sample).sf
    band = curve.confidence_interval(0.9, method="log-log")
    median = curve.quantiles[curve.probabilities <= 0.5][0]
    low = band.low.quantiles[band.low.probabilities <= 0.5][0]
    high = band.high.quantiles[band.high.probabilities < 0.5]
    assert found.median == median
    assert found.low == low
    assert found.high == (high[0] if len(high) else math.inf)
    assert found.level == found.restricted.level == 0.9
    assert found.restricted.mean == pytest.approx(seen.mean())


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")
@pytest.mark.parametrize("seed", range(12))
def test_medians_of_drawn_runs_are_scipys_too(seed):
    random = np.random.default_rng(seed)
    times = np.ceil(random.exponential(10, 12 + seed))
    stop = 12.0 + seed
    found = convergence.summarize(np.where(times <= stop, times, np.nan), stop)
    sample = stats.CensoredData.right_censored(np.minimum(times, stop), times > stop)
    curve = stats.ecdf(sample).sf
    band = curve.confidence_interval(0.95, method="log-log")

    def first(part, below) -> float:
        # Where nobody is left the band has no width.
        ends = np.where(curve.probabilities <= 0, 0.0, part.probabilities)
        there = part.quantiles[below(ends) & (np.diff(curve.probabilities, prepend=1) < 0)]
        return float(there[0]) if len(there) else math.inf

    assert found.median == first(curve, lambda p: p <= 0.5 + 1e-12)
    assert found.low == first(band.low, lambda p: p <= 0.5)
    if found.high != math.inf:
        assert found.high == first(band.high, lambda p: p < 0.5)


def test_own_levels_at_the_edge_of_having_moved():
    curves = np.array([[10.0, 9.0], [10.0, 9.01], [20.0, 18.0], [0.0, 0.0], [4.0, 3.0]])
    found = convergence.own_levels(curves)
    assert found == pytest.approx([9.1, np.nan, 18.2, np.nan, 3.1], nan_ok=True)
    assert convergence.own_levels([[0.5, np.nan, 0.1]]) == pytest.approx([0.14])
    assert convergence.own_levels([[0.2, 0.8, 0.6]], "above") == pytest.approx([0.74])
    assert np.isnan(convergence.own_levels([[np.nan, np.nan]])).all()


def test_growth_is_a_regression_of_logarithms():
    counts = np.array([1e3, 3e3, 1e4, 6e4])
    held = np.array([[300.0, 500], [800, 1000], [2100, 2500], [9000, 12000]])
    found = capacity.growth(counts, held, 0.9)
    x, y = np.log(counts), np.log(held.mean(axis=1))
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - intercept - slope * x
    error = math.sqrt((residual**2).sum() / 2 / ((x - x.mean()) ** 2).sum())
    half = stats.t.ppf(0.95, 2) * error
    assert ends(found.exponent) == pytest.approx((slope - half, slope + half))
    assert found.exponent.se == pytest.approx(error)
    assert (found.exponent.n, found.exponent.level) == (4, 0.9)
    assert found.factor == pytest.approx(math.exp(intercept))
    two = capacity.growth(counts, [0, 0, 2000, 9000], 0.9).exponent
    assert (two.n, two.level) == (2, 0.9)
    assert all(map(math.isnan, (two.low, two.high, two.se)))


def test_capacity_at_its_edges():
    found = capacity.largest_fitted([1, 2], [[1.0], [0.99]], 0.99, 0.9)
    assert found.per_replica.tolist() == [2]
    assert found.interval.level == 0.9
    assert capacity.largest_fitted([1], [[0.0]], 0.0).per_replica.tolist() == [1]
    assert capacity.largest_fitted([1], [[1.0]], 1.0).per_replica.tolist() == [1]
    for threshold in (-0.1, 1.1):
        with pytest.raises(ValueError, match="threshold"):
            capacity.largest_fitted([1], [[1.0]], threshold)
    with pytest.raises(ValueError, match="positive and increase"):
        capacity.largest_fitted([0, 1], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="positive and increase"):
        capacity.largest_fitted([1, 1], [[1.0], [1.0]])


def test_a_true_positive_rate_is_resampled_by_model():
    """Beside a plain loop that repeats whole models."""
    random = np.random.default_rng(3)
    member = random.random((6, 12)) < 0.5
    scores = np.round(random.normal(size=member.shape) + member, 1)  # with ties
    attack = membership.lira(scores, member, "global")
    chosen = np.random.default_rng(7)
    draws = []
    for _ in range(80):
        rows = np.bincount(chosen.integers(6, size=6), minlength=6)
        rows = np.repeat(np.arange(6), rows)
        draws.append(membership.roc(scores[rows], member[rows]).at(0.2))
    found = attack.tpr_interval(0.2, 0.9, samples=80, seed=7)
    wanted = intervals.percentile_interval(attack.tpr(0.2), draws, 6, 0.9)
    assert found == wanted
    assert attack.tpr_interval(0.0, samples=20).known
    assert attack.tpr_interval(1.0, samples=20).mean == 1
    for fpr in (-0.1, 1.1):
        with pytest.raises(ValueError, match="fpr"):
            attack.tpr_interval(fpr)
    nothing = membership.lira(scores, np.ones_like(member), "global").tpr_interval(0.2, 0.9)
    assert (nothing.n, nothing.level) == (6, 0.9)
    assert all(map(math.isnan, (nothing.mean, nothing.low, nothing.high, nothing.se)))


def test_pseudo_values_of_an_attack_need_three_units():
    random = np.random.default_rng(4)
    member = np.tile([[True, False], [False, True]], (3, 5))
    scores = random.normal(size=member.shape) + member
    attack = membership.lira(scores, member, "global")
    assert not np.isnan(attack.pseudo_values(inits=2)).any()
    assert np.isnan(attack.pseudo_values(inits=3)).all()
    assert len(attack.pseudo_values(inits=3)) == 6
    three = membership.lira(scores[:3], member[:3], "global")
    assert not np.isnan(three.pseudo_values()).any()
    assert len(attack.pseudo_values(3)) == 3
    span = attack.auc_interval(0.9, inits=2)
    assert (span.n, span.level) == (3, 0.9)
    unknown = membership.lira(scores[:2], member[:2], "global").auc_interval(0.9)
    assert (unknown.n, unknown.level) == (2, 0.9)
    assert unknown.mean == membership.roc(scores[:2], member[:2]).auc
    assert all(map(math.isnan, (unknown.low, unknown.high, unknown.se)))
    boot = attack.auc_bootstrap(0.9, samples=40)
    assert (boot.n, boot.level) == (6, 0.9)
    assert boot == attack.auc_bootstrap(0.9, samples=40, seed=0)
    assert boot != attack.auc_bootstrap(0.9, samples=40, seed=1)


def test_influence_and_its_error_are_those_of_two_means():
    """Beside scipy's standard errors of the two sides."""
    random = np.random.default_rng(6)
    member = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    score = random.normal(size=(6, 4))
    found = memorization.influence(score, member)
    error = memorization.influence_standard_error(score, member)
    for t in range(4):
        for n in range(3):
            inside, outside = score[member[:, n], t], score[~member[:, n], t]
            assert found[t, n] == pytest.approx(inside.mean() - outside.mean())
            if len(inside) > 1:
                wanted = math.hypot(stats.sem(inside), stats.sem(outside))
                assert error[t, n] == pytest.approx(wanted)
            else:
                assert math.isnan(error[t, n])
    own = memorization.standard_error(score[:, :3], member)
    assert own == pytest.approx([error[n, n] for n in range(3)], nan_ok=True)


def test_memorization_of_too_few_replicas_has_no_interval():
    score, member = np.array([[1.0, 0.0], [0.0, 1.0]]), np.eye(2)
    found = memorization.summary(score, member, 0.9)
    assert (found.mean.mean, found.mean.n, found.mean.level, found.defined) == (1.0, 2, 0.9, 2)
    assert all(map(math.isnan, (found.mean.low, found.mean.high, found.mean.se)))
    nothing = memorization.summary(score, np.ones((2, 2)), 0.9)
    assert (nothing.mean.n, nothing.mean.level, nothing.defined) == (0, 0.9, 0)
    assert all(
        map(math.isnan, (nothing.mean.mean, nothing.mean.low, nothing.mean.high, nothing.mean.se))
    )
    assert np.isnan(nothing.per_replica).all()
    assert nothing.per_replica.shape == (2,)
    four = memorization.summary(np.repeat(score, 2, 0), np.repeat(member, 2, 0), inits=2)
    assert not four.mean.known
    six = np.random.default_rng(0)
    some = memorization.summary(six.normal(size=(6, 9)), six.random((6, 9)) < 0.5, inits=2)
    assert some.mean.known
    assert some.mean.n == 3
