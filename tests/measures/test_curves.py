"""Curves beside closed forms: what other curves find, lack of fit as an F test, where draws cross, what predictions hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import intervals, misfit, scaling


def ends(found: intervals.Interval) -> tuple[float, float]:
    return found.low, found.high


SIZES = np.array([100.0, 200, 400, 800, 1600, 3200])


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("logarithmic", lambda n: 0.9 - 0.08 * np.log(n / 50)),
        ("exponential", lambda n: 0.6 * np.exp(-n / 1500) + 0.1),
        ("broken", lambda n: np.where(n < 400, 3 * n**-0.2, 3 * 400**0.5 * n**-0.7)),
        (misfit.FLOORLESS, lambda n: 3 * n**-0.4),
    ],
)
def test_other_curves_find_themselves(name, truth):
    errors = truth(SIZES)
    residuals = 0.1 * np.ones(6)
    known = misfit.Noise(0.01 * np.ones(6), 20)
    found = {c.name: c for c in misfit.others(SIZES, errors, errors, residuals, known)}
    parameters = {"logarithmic": 2, "exponential": 3, "broken": 4, misfit.FLOORLESS: 2}
    assert found.keys() == parameters.keys()
    curve = found[name]
    tolerance = {"exponential": 0.02, "broken": 0.02}.get(name, 1e-9)
    for n in (150.0, 700.0, 3200.0):
        assert curve.at(n) == pytest.approx(float(truth(n)), rel=tolerance)
    # AIC: chi-square + 2k of it, against 6 + 2 · 3 of the power law.
    assert curve.delta == pytest.approx(2 * parameters[name] - 12, abs=0.1)
    assert curve.rival == (name != misfit.FLOORLESS)
    unknown = {c.name: c for c in misfit.others(SIZES, errors, errors, residuals, None)}
    worst = 6 * math.log(0.01) + 6
    left = np.array([curve.at(n) for n in SIZES]) / errors - 1
    mean = max(float((left**2).mean()), 1e-12)
    assert unknown[name].delta == pytest.approx(6 * math.log(mean) + 2 * parameters[name] - worst)
    ranked = misfit.others(SIZES, errors, errors, residuals, known)
    assert [c.delta for c in ranked] == sorted(c.delta for c in ranked)


def test_few_sizes_leave_no_room_for_other_curves():
    errors = 3 * SIZES**-0.4
    for count, names in ((2, 0), (3, 2), (4, 3), (5, 4)):
        some = misfit.others(SIZES[:count], errors[:count], errors[:count], np.ones(count), None)
        assert len(some) == names


def test_a_rival_is_clearly_better_and_the_plausible_are_near_the_best():
    def made(*deltas: float) -> list[misfit.Other]:
        return [misfit.Other(f"c{k}", d, lambda n: 0.0, k != 0) for k, d in enumerate(deltas)]

    assert misfit.rival(tuple(made(-9.0, -2.0))) is None
    better = misfit.rival(tuple(made(-9.0, -2.1, -2.2)))
    assert better is not None
    assert better.name == "c1"
    assert misfit.rival(()) is None
    assert [c.delta for c in misfit.plausible(made(3.9, 4.0, 4.1))] == [3.9, 4.0]
    assert [c.delta for c in misfit.plausible(made(-3.0, 1.0, 1.1))] == [-3.0, 1.0]
    assert misfit.plausible([]) == []


def test_noise_of_replicas_is_that_of_a_two_way_table():
    random = np.random.default_rng(9)
    table = random.normal(size=(4, 5)) + 10
    spread = np.array([1.0, 2.0, 0.5, 1.0])
    relative = table / spread[:, None]
    rest = relative - relative.mean(1, keepdims=True) - relative.mean(0) + relative.mean()
    found = misfit.noise(table, spread)
    assert found is not None
    assert found.freedom == 12
    assert found.variance == pytest.approx(np.full(4, (rest**2).sum() / 12 / 5))
    ragged = table.copy()
    ragged[3, 2:] = np.nan
    parts = [relative[s, :5] for s in range(3)] + [relative[3, :2]]
    pooled = sum(((p - p.mean()) ** 2).sum() for p in parts) / 13
    missing = misfit.noise(ragged, spread)
    assert missing is not None
    assert missing.freedom == 13
    assert missing.variance == pytest.approx(pooled / np.array([5, 5, 5, 2]))
    assert misfit.noise(table[:, :1], spread) is None
    assert misfit.noise(np.ones((4, 5)), np.ones(4)) is None
    assert misfit.noise(table[:, :2], spread).freedom == 3


def test_lack_of_fit_is_fs_upper_tail():
    known = misfit.Noise(np.array([0.01, 0.02, 0.01, 0.03, 0.01]), 9)
    residuals = np.array([0.1, -0.2, 0.05, 0.3, -0.1])
    f = (residuals**2 / known.variance).sum() / 2
    assert misfit.lack_of_fit(residuals, known) == pytest.approx(stats.f.sf(f, 2, 9))
    short = misfit.Noise(known.variance[:3], 9)
    assert misfit.lack_of_fit(residuals[:3], short) == 1.0
    four = misfit.Noise(known.variance[:4], 9)
    f = (residuals[:4] ** 2 / known.variance[:4]).sum()
    assert misfit.lack_of_fit(residuals[:4], four) == pytest.approx(stats.f.sf(f, 1, 9))


def curve(alpha: float, beta: float, gamma: float, **more) -> scaling.PowerLaw:
    unknown = intervals.Interval(0.0, math.nan, math.nan, math.nan, 1)
    sizes = np.array([100.0, 200, 400, 800])
    given = {
        "identified": True,
        "reason": "",
        "sizes": sizes,
        "errors": alpha * sizes**beta + gamma,
    }
    return scaling.PowerLaw(alpha, beta, gamma, unknown, unknown, unknown, **{**given, **more})


@pytest.mark.parametrize("turned", [False, True])
def test_where_curves_cross_and_between_which_sizes_draws_do(turned):
    """α n^β with β = -0.5 and 0.1: the draws cross at (0.2/α)^-2 exactly, rising and falling."""
    alphas = np.array([1.8, 1.9, 2.0, 2.1, 2.2, 2.3])
    draws = np.stack([alphas, np.full(6, -0.5), np.zeros(6)], axis=1)
    flat = np.stack([np.full(6, 0.1), np.full(6, -1e-9), np.zeros(6)], axis=1)
    steep = curve(2.0, -0.5, 0.0, draws=draws, units=6, level=0.9)
    level = curve(0.1, -1e-9, 0.0, draws=flat, units=6, level=0.9)
    pair = (level, steep) if turned else (steep, level)
    names = ("level", "steep") if turned else ("steep", "level")
    (found,) = scaling.crossings(*pair, names)
    assert found.n == pytest.approx(400, rel=1e-4)
    assert (found.below, found.above) == ("level", "steep")
    places = np.log((alphas / 0.1) ** 2)
    span = intervals.percentile_interval(math.log(400), places, 6, 0.9)
    assert ends(found.interval) == pytest.approx(
        (math.exp(span.low), math.exp(span.high)), rel=2e-3
    )
    assert found.interval.se == pytest.approx(400 * span.se, rel=2e-3)
    assert (found.interval.n, found.interval.level) == (6, 0.9)
    assert not found.extrapolated
    assert str(found).endswith("steep above")
    assert " (" in str(found)
    assert scaling.crossings(*pair, names, low=500) == []
    assert scaling.crossings(*pair, names, high=300) == []
    assert len(scaling.crossings(*pair, names, low=300, high=500)) == 1
    with pytest.raises(ValueError, match="low must be below high"):
        scaling.crossings(*pair, names, low=500, high=500)
    with pytest.raises(ValueError, match="low = -1"):
        scaling.crossings(*pair, names, low=-1)
    with pytest.raises(ValueError, match="high = -1"):
        scaling.crossings(*pair, names, high=-1)


def test_a_crossing_beyond_the_sizes_or_of_few_draws_says_so():
    far = curve(2.0, -0.5, 0.0), curve(0.05, -1e-9, 0.0)
    (found,) = scaling.crossings(*far)
    assert found.extrapolated
    assert not found.interval.known
    assert str(found).endswith("above; the crossing is not certain; extrapolated")
    assert (found.below, found.above) == ("the second", "the first")
    alphas = np.array([2.0, 2.0, 2.0, 2.0, 0.01])
    draws = np.stack([alphas, np.full(5, -0.5), np.zeros(5)], axis=1)
    flat = np.stack([np.full(5, 0.1), np.full(5, -1e-9), np.zeros(5)], axis=1)

    def known(level: float) -> bool:
        pair = (
            curve(2.0, -0.5, 0.0, draws=draws, units=5, level=level),
            curve(0.1, -1e-9, 0.0, draws=flat, units=5, level=level),
        )
        (one,) = scaling.crossings(*pair)
        return one.interval.known

    assert known(0.75)
    assert not known(0.85), "a fifth of the draws do not cross"


def test_predictions_hold_what_plausible_curves_say():
    draws = np.stack([np.linspace(1.9, 2.1, 50), np.full(50, -0.5), np.zeros(50)], axis=1)
    law = curve(2.0, -0.5, 0.0, draws=draws, units=8, reach=3200.0)
    within = law.predict(800)
    wanted = intervals.percentile_interval(2 * 800**-0.5, draws[:, 0] * 800**-0.5, 8)
    assert ends(within) == pytest.approx(ends(wanted))
    plain = law.predict(1600)
    half = math.sqrt(8 / 7) * stats.t.ppf(0.975, 7) * (draws[:, 0] * 1600**-0.5).std(ddof=1)
    assert ends(plain) == pytest.approx((0.05 - half, 0.05 + half))
    wild = np.stack([np.linspace(0.1, 9.0, 50), np.full(50, -0.5), np.zeros(50)], axis=1)
    assert curve(2.0, -0.5, 0.0, draws=wild, units=8, reach=3200.0).predict(1600).low == 0
    high = misfit.Other("logarithmic", 3.0, lambda n: 0.2)
    unlikely = misfit.Other("exponential", 5.0, lambda n: 0.9)
    low = misfit.Other("broken", 1.0, lambda n: 0.001)
    wide = curve(2.0, -0.5, 0.0, draws=draws, units=8, reach=3200.0, others=(low, high, unlikely))
    assert ends(wide.predict(1600)) == (0.001, 0.2)
    assert wide.predict(1600).mean == plain.mean
    assert ends(wide.predict(800)) == pytest.approx(ends(wanted)), "measured: nothing to allow for"
    assert law.predict(3200).known
    assert not law.predict(3201).known
    assert not curve(2.0, -0.5, 0.0, draws=draws, reach=3200.0, identified=False).predict(900).known
    bare = misfit.Other(misfit.FLOORLESS, 0.0, lambda n: 0.05)
    cloud = np.stack([np.linspace(1.0, 3.0, 50), np.full(50, -0.5), np.zeros(50)], axis=1)
    floorless = curve(
        2.0, -0.5, 0.0, draws=draws, units=8, reach=3200.0, others=(bare,), floorless=cloud
    ).predict(1600)
    half = math.sqrt(8 / 7) * stats.t.ppf(0.975, 7) * (cloud[:, 0] * 1600**-0.5).std(ddof=1)
    assert ends(floorless) == pytest.approx((0.05 - half, 0.05 + half))


def test_curves_are_compared_from_the_smallest_size_to_ten_times_the_largest():
    def short(*sizes: float, **more) -> scaling.PowerLaw:
        return curve(2.0, -0.5, 0.0, sizes=np.array(sizes), **more)

    def flat(height: float, *sizes: float) -> scaling.PowerLaw:
        return curve(height, -1e-9, 0.0, sizes=np.array(sizes))

    # 2 n^-0.5 meets a line of this height at n = (2 / height)^2.
    assert len(scaling.crossings(short(100, 200), flat(0.25, 50, 80))) == 1  # n = 64
    assert len(scaling.crossings(short(50, 80), flat(0.25, 100, 200))) == 1
    assert scaling.crossings(short(100, 200), flat(0.25, 80, 90)) == []
    assert len(scaling.crossings(short(100, 200), flat(0.02, 100, 1100))) == 1  # n = 10000
    assert len(scaling.crossings(short(100, 1100), flat(0.02, 100, 200))) == 1
    assert scaling.crossings(short(100, 900), flat(0.02, 100, 200)) == []
    (near,) = scaling.crossings(short(100, 200), flat(0.16, 50, 400))
    assert near.n == pytest.approx(156.25, rel=1e-6)
    assert not near.extrapolated
    (below,) = scaling.crossings(short(160, 200), flat(0.16, 50, 400))
    assert below.extrapolated, "only one of them was measured there"
    assert near.interval.mean == near.n
    assert (near.interval.n, near.interval.level) == (1, 0.95)


def test_an_unknown_prediction_still_names_the_curve():
    found = curve(2.0, -0.5, 0.0, level=0.9).predict(400)
    assert (found.mean, found.n, found.level) == (pytest.approx(0.1), 1, 0.9)
    assert all(map(math.isnan, (found.low, found.high, found.se)))
