"""Rules at their limits: which side a value exactly at a threshold falls on, and what one or two replicas give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import (
    advice,
    bias_variance,
    comparison,
    ensemble,
    equivalence,
    forgetting,
    importance,
    intervals,
    layers,
    membership,
    memorization,
    metrics,
    noise,
    pareto,
    shadows,
)
from engram.measures import verdict as rules
from engram.measures.intervals import Interval, Needed
from engram.measures.verdict import Best, Labels, verdict

# Shares of these are exact in floating point.
HALF = Labels(0.5)
IMBALANCED = Labels(0.25, balanced_error=0.45, classes=2)


def around(mean: float, half: float = 0.0) -> Interval:
    return Interval(mean, mean - half, mean + half, half / 2, 8)


def word(train: Interval, gap: Interval | None = None, labels: Labels = HALF, **more) -> str:
    return verdict(train, gap or around(0.0), labels, **more).verdict


def test_not_learned_from_nine_tenths_of_chance_on():
    limit = rules.NOT_LEARNED_SHARE * 0.5
    assert word(around(limit)) == "did not learn"
    assert word(around(np.nextafter(limit, 0))) == "underfit"
    wide = Interval(0.4, 0.2, 0.6, 0.1, 8)  # reaches chance, and half of it
    assert word(wide, around(0.3)) != "did not learn"
    noisy = Labels(0.75, noise=0.25)
    assert word(around(0.2501 + limit), labels=noisy) == "did not learn"
    assert word(around(0.25 + limit - 0.01), labels=noisy) == "underfit"


def test_unbalanced_classes_and_the_constant_answer():
    constant = 0.5
    assert word(around(0.01), labels=IMBALANCED) == "did not learn"
    below = Labels(0.25, balanced_error=0.9 * constant - 1e-9, classes=2)
    assert word(around(0.01), labels=below) == "good"
    alike = Labels(rules.IMBALANCED_SHARE * constant, balanced_error=0.45, classes=2)
    assert word(around(0.01), labels=alike) == "good", "classes are alike from three quarters on"
    one = Labels(0.25, balanced_error=0.45, classes=1)
    assert word(around(0.01), labels=one) == "good"
    two = Labels(0.2, balanced_error=0.45, classes=3)
    assert word(around(0.01), labels=two) == "good", "0.45 is below nine tenths of two thirds"
    reason = verdict(around(0.01), around(0), IMBALANCED).reason
    assert (
        "averaged over classes its held-out error is 0.45, that of a constant answer 0.5" in reason
    )


def test_unstable_by_shares_of_what_can_be_learned():
    def said(*errors: float, labels: Labels = HALF) -> str:
        return word(around(0.2), around(0.01), labels, train_errors=errors)

    assert said(0.45, 0.1) == "unstable"
    assert said(0.4499, 0.1) != "unstable"
    assert said(0.45, 0.375) != "unstable", "three quarters left is not learned"
    assert said(0.45, 0.3749) == "unstable"
    assert said(0.45) != "unstable"
    noisy = Labels(0.75, noise=0.25)
    assert said(0.7001, 0.3, labels=noisy) == "unstable"
    assert said(0.69, 0.3, labels=noisy) != "unstable"
    reason = verdict(around(0.2), around(0), HALF, train_errors=[0.45, 0.1, 0.48]).reason
    assert reason.startswith("2 of 3 replicas did not learn (train error 0.48, chance 0.5)")
    assert "reach 0.1" in reason


def test_the_noise_floor_and_what_is_near_it():
    labels = Labels(0.75, noise=0.25, held_out_noise=0.25)
    limit = 0.25 + rules.FLOOR_SHARE * 0.5
    floor = "at the noise floor"
    assert word(around(0.2), labels=labels, error=around(limit)) == floor
    assert word(around(0.2), labels=labels, error=around(limit + 1e-9)) != floor
    assert word(around(0.2), labels=labels, error=around(limit - 0.01, 0.02)) != floor
    assert word(around(0.2), labels=labels) != floor
    clean_test = Labels(0.75, noise=0.25)
    assert word(around(0.2), labels=clean_test, error=around(0.1)) != floor
    tied = Best(True, around(0.01, 0.01), around(0.2), around(0.0))
    behind = Best(False, around(0.01, 0.01), around(0.2), around(0.0))
    assert word(around(0.2), labels=labels, error=around(0.25), best=tied) == floor
    assert word(around(0.2), labels=labels, error=around(0.25), best=behind) != floor
    assert word(around(0.0), labels=Labels(0.5, random=True)) == floor


def test_underfit_above_half_of_chance_and_who_is_to_blame():
    assert word(around(0.25), around(0.0)) != "underfit"
    assert word(around(0.2501), around(0.0)) == "underfit"
    assert word(around(0.3, 0.06), around(0.0)) != "underfit", "its lower end counts"
    assert word(Interval(0.3, math.nan, math.nan, math.nan, 1), around(0.1)) == "underfit"
    assert word(around(0.3), around(0.3)) != "underfit", "the gap is as large"
    more = {"bias2": around(0.2), "variance": around(0.2)}
    assert word(around(0.3), around(0.1), **more) != "underfit"
    assert word(around(0.3), around(0.1), **{**more, "bias2": around(0.21)}) == "underfit"
    assert word(around(0.3), around(0.1), bias2=around(0.1)) == "underfit", "one alone says nothing"
    plain = verdict(around(0.3), around(0.1), HALF).reason
    assert plain.endswith(
        "is itself above 50% of chance (0.5), and it outweighs the gap 0.100 ± 0.000"
    )
    noisy = verdict(around(0.6), around(0.1), Labels(0.75, noise=0.25)).reason
    assert "of chance (0.75) beside 0.25 of wrong labels, and" in noisy
    # Blame is of what can be learned: 0.05 beyond the wrong labels, against a gap of 0.2.
    assert word(around(0.51), around(0.3), Labels(0.75, noise=0.25)) != "underfit"


def test_ties_gaps_and_resolution_at_their_limits():
    limit, blunt = rules.LARGE_GAP_SHARE * 0.5, rules.RESOLUTION_SHARE * 0.5

    def tied(half: float) -> Best:
        return Best(True, around(0.0, half), around(0.0), around(0.0))

    assert word(around(0.0), around(limit)) == "good"
    assert word(around(0.0), around(limit + 1e-9)) == "data-limited"
    assert word(around(0.0), around(limit + 0.01, 0.01)) == "inconclusive", (
        "its end is at the limit"
    )
    assert word(around(0.0), around(limit - 0.001, 0.04)) == "good"
    assert word(around(0.0), around(0.01), best=tied(blunt)) == "good"
    assert word(around(0.0), around(0.01), best=tied(blunt + 1e-9)) == "inconclusive"
    said = verdict(around(0.0), around(0.01), HALF, best=tied(0.2)).reason
    assert said.endswith("is too wide to call a tie; more replicas would decide")
    needed = verdict(around(0), around(0.01), HALF, best=tied(0.2), needed=Needed(1, 2, 3)).reason
    assert needed.endswith("about 2 (1 to 3) more replicas would decide")


def test_worse_and_by_what():
    def worse(train: Interval, gap: Interval) -> str:
        best = Best(False, around(0.1, 0.02), around(0.1, 0.03), around(0.1, 0.03))
        return word(train, gap, best=best)

    assert worse(around(0.15, 0.01), around(0.15, 0.01)) == "overfit", "as much by the gap"
    assert worse(around(0.15, 0.01), around(0.15, 0.15)) == "inconclusive", "0 is in the gap's end"
    assert worse(around(0.16, 0.03), around(0.12, 0.01)) == "underfit"
    # Combined half-widths: hypot(0.03, 0.04) = 0.05.
    assert worse(around(0.1501, 0.04), around(0.1, 0.01)) == "underfit"
    assert worse(around(0.1499, 0.04), around(0.1, 0.01)) == "inconclusive"


def test_learning_at_three_quarters_of_chance():
    assert rules.learns(around(0.3749), 0.5)
    assert not rules.learns(around(0.375), 0.5)
    assert not rules.learns(around(0.37, 0.01), 0.5), "by its upper end"
    assert rules.learns(Interval(0.37, math.nan, math.nan, math.nan, 1), 0.5)
    assert rules.learns(around(0.6), 0.75, noise=0.25)
    assert not rules.learns(around(0.625), 0.75, noise=0.25)
    assert rules.learns(around(0.2), 0.5, share=0.5)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="share"):
            rules.learns(around(0.2), 0.5, share=share)
    for chance in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="chance"):
            rules.learns(around(0.2), chance)
    assert Labels(0.5, noise=0.5).learnable == 0.5, "noise leaves nothing: all of chance"


def test_one_replica_has_no_variance_and_no_arithmetic_on_nothing():
    p = np.array([[[0.7, 0.3], [0.2, 0.8]]])
    with np.errstate(all="raise"):
        one = bias_variance.squared(p, [0, 1])
        entropy = bias_variance.cross_entropy(np.log(p), [0, 1])
        vote = bias_variance.zero_one(p.argmax(-1), [0, 1])
    for undefined in (one.variance, one.bias2, entropy.variance, entropy.bias):
        assert math.isnan(undefined)
    assert math.isnan(vote.kw_variance_unbiased)
    assert math.isnan(vote.kw_bias2_unbiased)
    assert (vote.risk, vote.bias, vote.variance, vote.kw_variance) == (0, 0, 0, 0)
    assert one.risk == pytest.approx((2 * 0.3**2 + 2 * 0.2**2) / 2)
    assert one.per_example["bias2_plugin"] == pytest.approx([0.18, 0.08])


def test_draws_by_inits_at_their_edges():
    values = np.random.default_rng(0).normal(size=(6, 5))
    parts = bias_variance.components(values.reshape(3, 2, 5))
    two = bias_variance.squared(values, np.zeros(5), inits=2)
    assert two.variance == pytest.approx(parts.variance_data + parts.variance_init)
    means = values.reshape(3, 2, 5).mean(axis=1)
    assert two.bias2 == pytest.approx(
        (values.mean(0) ** 2 - means.var(axis=0, ddof=1) / 3).mean()
    ), "the variance between draws corrects it"
    with pytest.raises(ValueError, match="6 replicas, inits = 4"):
        bias_variance.squared(values, np.zeros(5), inits=4)
    one_draw = bias_variance.components(values.reshape(1, 6, 5))
    assert one_draw.variance_init == pytest.approx(values.var(axis=0, ddof=1).mean())
    assert math.isnan(one_draw.variance_data)
    one_init = bias_variance.components(values.reshape(6, 1, 5))
    assert math.isnan(one_init.variance_init)
    assert math.isnan(one_init.variance_data)
    with pytest.raises(ValueError, match="must be"):
        bias_variance.components(values)


def test_log_probabilities_have_to_sum_to_one_within_a_thousandth():
    p = np.log(np.array([[[0.5, 0.5]], [[0.5, 0.5]]]))
    bias_variance.cross_entropy(p + 0.0009, [0])
    for shift in (0.0011, -0.0011, 800.0):
        with pytest.raises(ValueError, match="must sum to 1"):
            bias_variance.cross_entropy(p + shift, [0])
    with pytest.raises(ValueError, match=r"\[1, 0\] sum to 2 in probability"):
        bias_variance.cross_entropy(p + np.array([[[0.0]], [[math.log(2)]]]), [0])
    with pytest.raises(ValueError, match="finite"):
        bias_variance.cross_entropy([[[0.0, -np.inf]]], [0])


def test_an_ensemble_keeps_what_each_example_got():
    p = np.array([[[0.9, 0.1], [0.3, 0.7], [0.6, 0.4]], [[0.2, 0.8], [0.4, 0.6], [0.8, 0.2]]])
    found = ensemble.ensemble(p, [0, 0, 1])
    assert found.per_example["error"].tolist() == [0, 1, 1]
    assert found.per_example["member_error"].tolist() == [0.5, 1, 1]
    assert found.error == pytest.approx(2 / 3)
    assert found.gain == pytest.approx(1 / 6)
    assert found.prediction == pytest.approx(p.mean(axis=0))
    ensemble.ensemble(p + np.array([1e-7, 0]), [0, 0, 1])
    with pytest.raises(ValueError, match=r"holds 1.1"):
        ensemble.ensemble(np.full((2, 1, 2), 1.1), [0])
    with pytest.raises(ValueError, match=r"holds -0.1"):
        ensemble.ensemble(np.full((2, 1, 2), -0.1), [0])


def test_forgetting_of_one_example_known():
    found = forgetting.retention([[1, 0], [1, 1], [0, 0]], [[0, 1], [1, 0], [1, 1]], 0.9)
    assert found.lost == pytest.approx([1.0, 0.5, np.nan], nan_ok=True)
    assert found.drop == pytest.approx([0.0, 0.5, -1.0])
    assert found.lost_interval.level == found.drop_interval.level == 0.9
    seen = forgetting.events([[1, 0, np.nan], [0, 1, np.nan], [1, 1, np.nan]])
    assert seen.forgotten.tolist() == [1, 0, 0]
    assert seen.forgotten.dtype == np.int64
    assert seen.unforgettable_share == 0.5
    assert math.isnan(forgetting.events([[np.nan]]).unforgettable_share)
    assert seen.learned_at[:2].tolist() == [0, 1]


def test_the_trend_over_layers_leaves_the_middle_one_out():
    intact = np.ones((2, 4), bool)

    def lost(*shares: float) -> np.ndarray:
        """Of four examples each layer loses this many, in both replicas."""
        return np.array([[[k >= share for k in range(4)] for share in shares]] * 2)

    five = layers.drops(intact, lost(0, 1, 4, 2, 4))
    assert five.trend.mean == pytest.approx((2 + 4) / 8 - (0 + 1) / 8)
    assert five.trend.n == 2
    two = layers.drops(intact, lost(1, 3))
    assert two.trend.mean == pytest.approx(0.5)
    assert math.isnan(two.rank_correlation)
    one = layers.drops(intact, lost(1))
    assert one.trend.n == 0
    three = layers.drops(intact, lost(1, 3, 2))
    assert three.rank_correlation == pytest.approx(0.5)
    flat = layers.drops(intact, lost(1, 1, 1))
    assert math.isnan(flat.rank_correlation)
    # A replica without wrong labels has no excess, and is left out of its intervals and of the trend.
    member = np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    some = layers.drops(intact, lost(1, 3, 2, 4), [1, 1, 0, 0], member, 0.9)
    assert np.isnan(some.noisy[1]).all()
    assert some.trend.n == 1
    assert [one.n for one in some.noisy_intervals] == [1] * 4
    assert [one.n for one in some.clean_intervals] == [2] * 4
    assert some.trend.level == 0.9


def test_delays_are_in_the_epochs_given():
    shares = noise.Fitted(np.array([[0.0, 0.2, 0.6]] * 2), np.array([[0.1, 0.5, 0.9]] * 2))
    found = noise.delay(shares, [1, 5, 20], level=0.9)
    assert found.per_replica.tolist() == [15, 15]
    assert (found.clean.median, found.wrong.median) == (5, 20)
    assert found.clean.level == found.wrong.level == 0.9
    sooner = noise.delay(noise.Fitted(shares.clean, shares.wrong))
    assert (sooner.later, sooner.sooner) == (0, 2)
    assert noise.delay(shares, share=0.2).per_replica.tolist() == [0, 0]
    level = noise.delay(shares, share=0.2)
    assert (level.later, level.sooner, level.p_value) == (0, 0, 1.0)


def test_effects_where_noise_is_nothing_or_too_few_are_left():
    a = [0, 0, 0, 1, 1, 1, 0, 1]
    exact = importance.effects({"a": a}, np.array(a, float))["a"]
    assert (exact.alone, exact.word) == (0.0, "told")
    assert importance.effects({"a": a}, np.full(8, 0.3))["a"].alone == 1.0
    five = importance.effects({"a": a[:5]}, [0.1, 0.2, 0.1, 0.9, 0.8])["a"]
    assert five.alone == 1.0, "three degrees of freedom are too few"
    six = importance.effects({"a": a[:6]}, [0.1, 0.2, 0.1, 0.9, 0.8, 0.9])["a"]
    assert 0 < six.alone < 0.01
    assert importance.effects({"a": [1] * 8}, np.arange(8.0))["a"].alone == 1.0
    flags = importance.effects({"a": [True, False] * 4}, [1, 2, 1.1, 2.1, 0.9, 2.2, 1, 1.9])["a"]
    assert flags.word == "told"
    with pytest.raises(ValueError, match="3 trials; importance needs at least 4"):
        importance.effects({"a": [1, 2, 3]}, [1, 2, 3])
    for alpha in (0, 1):
        with pytest.raises(ValueError, match="alpha"):
            importance.effects({"a": a}, np.arange(8.0), alpha)


def test_four_levels_are_categories_and_five_a_curve():
    values = np.array([0.1, 0.9, 0.1, 0.9] * 5) + np.tile(np.linspace(0, 0.05, 5), 4)
    four = importance.effects({"x": [1, 2, 3, 4] * 5}, values)["x"]
    five = importance.effects({"x": [1, 2, 3, 4] * 4 + [1, 2, 3, 5]}, values)["x"]
    assert four.alone < 1e-9
    assert five.alone > 1e-3, "a parabola does not follow it up and down"


def test_rows_of_unequal_length_are_told_apart_in_pairs():
    random = np.random.default_rng(1)
    near = 0.3 + 0.01 * random.normal(size=8)
    rows = [near, near[:5] + 0.004, None, near + 0.2, near[:6] + 0.21]
    found = comparison.groups_of_pairs(rows)
    assert found.tolist() == [1, 1, 1, 2, 2]
    assert found.dtype == np.int64
    # The level is divided among the pairs: t = 3.7 with 7 degrees of freedom holds alone, not among ten.
    noise_ = np.tile([-1.0, 1.0], 4)
    apart = 3.7 * noise_.std(ddof=1) / math.sqrt(8)
    base = np.zeros(8)
    assert comparison.groups_of_pairs([base, noise_ + apart]).tolist() == [1, 2]
    assert comparison.groups_of_pairs([base, noise_ + apart, None, None, None]).tolist() == [1] * 5


def test_balanced_error_and_calibration_by_hand():
    p = np.array([[[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]])
    assert metrics.balanced_error(p, [0, 1, 1, 1]) == pytest.approx([1 - (1 + 1 / 3) / 2])
    # Bins of 1/15: 0.8 twice in (11/15, 12/15], 0.4 in (5/15, 6/15], 0.6 in (8/15, 9/15].
    wanted = abs(2 - 1.6) + abs(0 - 0.4) + abs(0 - 0.6)
    assert metrics.calibration_error(p, [0, 1, 1, 1]) == pytest.approx([wanted / 4])
    sure = np.array([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]])
    assert metrics.calibration_error(sure, [0, 1, 0]) == pytest.approx([(1 + 0.5) / 3])
    # (13/15, 14/15] and (14/15, 1] are apart: errors of opposite sign do not cancel across them.
    edge = np.array([[[0.93, 0.07], [0.94, 0.06]]])
    assert metrics.calibration_error(edge, [0, 1]) == pytest.approx([(0.07 + 0.94) / 2])
    assert metrics.balanced_error(p.tolist(), [0, 1, 1, 1]).dtype == np.float64
    with pytest.raises(ValueError, match="4 targets"):
        metrics.balanced_error(p[0], [0, 1, 1, 1])


def test_advice_states_gain_cost_and_context():
    def trial(params: dict, **means: float) -> advice.Record:
        own = 0.01 * np.array([1, -1, 2, -2, 0.5, -0.5, 1.5, -1.5])
        scale = 1 + params.get("a", 0)
        return advice.Record(params, {k: v + scale * own for k, v in means.items()})

    records = [
        trial({"a": 1, "b": "x"}, variance=0.4, bias2=0.2),
        trial({"a": 2, "b": "x"}, variance=0.2, bias2=0.5),
        trial({"a": 1, "b": "y"}, variance=0.4, bias2=0.2),
    ]
    found = next(f for f in advice.advise(records, 0.9) if f.measure == "variance")
    wanted = intervals.paired(records[0].measures["variance"], records[1].measures["variance"], 0.9)
    assert found.gain.mean == pytest.approx(wanted.mean)
    assert (found.gain.low, found.gain.high) == pytest.approx((wanted.low, wanted.high))
    assert (found.gain.se, found.gain.n, found.gain.level) == (pytest.approx(wanted.se), 8, 0.9)
    assert found.cost is not None
    assert found.cost.mean == pytest.approx(0.3)
    assert found.cost.level == 0.9
    assert (found.key, found.value, found.instead, found.context) == ("a", 2, 1, {"b": "x"})
    assert found.sentence.startswith("at b x, a 2 instead of 1 lowers variance by 0.2")
    plain = advice.advise([records[0], records[1]])
    assert plain[0].sentence.startswith("a ")
    assert all(f.context == {} for f in plain)
    for level in (0, 1):
        with pytest.raises(ValueError, match="level"):
            advice.advise(records, level)


def test_advice_needs_two_draws_and_known_values():
    def pair(first, second) -> list:
        return [
            advice.Record({"a": 1}, {"variance": first}),
            advice.Record({"a": 2}, {"variance": second}),
        ]

    low, high = [0.10, 0.11, 0.12, 0.10], [0.50, 0.52, 0.51, 0.50]
    assert len(advice.advise(pair(low, high))) == 1
    assert len(advice.advise(pair(low, high), inits=2)) == 1, "two draws are two"
    assert advice.advise(pair(low, high), inits=4) == []
    assert advice.advise(pair(low, high), inits=3) == []
    assert advice.advise(pair(low[:1], high[:1])) == []
    assert advice.advise(pair(low, high[:3])) == []
    assert advice.advise(pair(low, [*high[:3], math.nan])) == []
    assert advice.advise(pair([], [])) == []
    assert advice.advise(pair([low], [high])) == []
    assert advice.advise(pair(low, None)) == []
    two = advice.advise(
        [
            *pair(low, high),
            advice.Record({"a": 3}, {"variance": np.add(high, [0.4, 0.41, 0.4, 0.42])}),
        ]
    )
    assert len(two) == 3
    certain = [one.gain.mean / one.gain.se if one.gain.se else math.inf for one in two]
    assert certain == sorted(certain, reverse=True), "the most certain first"
    assert len(advice.advise(pair(low, high), most=0)) == 0


def test_a_front_keeps_equal_points_and_orders_them():
    assert pareto.front([[2, 1], [1, 2], [1, 2], [2, 2], [3, 0]]) == [1, 2, 0, 4]
    assert pareto.front([[1, 5], [1, 4]]) == [1]


def test_rows_of_a_board_have_their_variances_in_common():
    """Residuals of a two-way table, scaled for what the mean of all rows takes from each."""
    table = np.random.default_rng(2).normal(size=(6, 5)) * np.array([[1, 2, 1, 3, 0.5, 1]]).T
    board = comparison._Board(table, 0.05, 0)
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    variances = (rest**2).sum(axis=1) / 4 * 6 / 5
    weight, variance = comparison.prior_of(variances, 4)
    assert board._prior(np.arange(6)) == pytest.approx((weight, 2 * variance))
    assert board._prior(np.arange(4)) == (0.0, 0.0), "four rows say too little"
    assert board._prior(np.arange(5)) != (0.0, 0.0)


def test_what_is_left_of_small_things():
    assert str(equivalence.equivalent([0.01, 0.012, 0.011], 0.1)).startswith("within ±0.1 (")
    alone = equivalence.equivalent([0.0], 0.1)
    assert (alone.p_value, alone.margin) == (1.0, 0.1)
    assert 0 < equivalence.told(2, 0.1) < math.inf
    same = intervals.paired([0.5, 0.75], [0.25, 0.5])
    assert all(map(math.isnan, (same.low, same.high, same.se)))
    assert intervals.group_count(33) == 32
    assert intervals.group_count(66) == 22
    assert intervals.group_count(34) == 17
    assert intervals.group_count(39) == 32, "13 groups would be far below"
    mixed = importance.effects({"x": [1, 2, "a", 3, 4, 5, 6, 7] * 2}, np.arange(16.0))["x"]
    assert 0 <= mixed.alone <= 1
    flat = metrics.mean_absolute_error(np.zeros((2, 3, 1)), np.array([1.0, 2.0, 3.0]))
    assert flat.tolist() == [2, 2]
    one = memorization.summary([[1.0], [0.0], [1.0]], [[1], [0], [0]])
    assert one.standard_error.shape == (1,)
    assert math.isnan(one.standard_error[0])
    with np.errstate(all="raise"):
        error = memorization.influence_standard_error([[1.0], [0.0], [1.0]], [[1], [0], [0]])
    assert math.isnan(error[0, 0])


def test_an_attack_on_means_keeps_its_way():
    random = np.random.default_rng(5)
    member = random.random((7, 20)) < 0.5
    scores = random.normal(size=member.shape) + member
    by_mean = membership.lira(scores, member, center="mean")
    left = [
        membership.lira(np.delete(scores, r, 0), np.delete(member, r, 0), center="mean").auc
        for r in range(7)
    ]
    pseudo = 7 * by_mean.auc - 6 * np.array(left)
    assert by_mean.pseudo_values() == pytest.approx(pseudo - pseudo.mean() + by_mean.auc)
    by_row = membership.lira(scores, member, fixed_variance=False)
    wanted = [
        membership.lira(np.delete(scores, r, 0), np.delete(member, r, 0), fixed_variance=False).auc
        for r in range(7)
    ]
    pseudo = 7 * by_row.auc - 6 * np.array(wanted)
    assert by_row.pseudo_values() == pytest.approx(pseudo - pseudo.mean() + by_row.auc)
    density = membership._log_density(np.array([[0.5]]), np.array([[0.2]]), np.array([[2.0]]))
    assert density[0, 0] == pytest.approx(stats.norm.logpdf(0.5, 0.2, 2.0))
    alone = shadows.Side(scores[:1].T, np.ones((20, 1), bool), "median", pooled=True)
    assert np.isnan(alone.seen_by(np.ones(1, bool))[0]).all()


def test_settings_share_one_level():
    """p = 0.04 of a setting alone is told, and is not beside a second that could have been told too."""
    a, random = [0, 1] * 10, np.random.default_rng(3)
    values = random.normal(size=20)
    values -= np.where(np.array(a) == 1, values[1::2].mean(), values[::2].mean())
    within = (values**2).sum() / 18
    values += np.array(a) * math.sqrt(stats.f.isf(0.04, 1, 18) * within / 5)
    alone = importance.effects({"a": a}, values)["a"]
    assert alone.alone == pytest.approx(0.04)
    assert alone.word == "told"
    both = importance.effects({"a": a, "b": [0] * 10 + [1] * 10}, values)
    assert both["a"].word == "not told"
