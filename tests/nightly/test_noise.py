"""A night's intervals beside closed forms: what replicas say, what nights add to it, how a rate of false alarms is divided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from engram.measures import between_nights, intervals
from engram.sweeps.nightly import noise
from engram.sweeps.nightly.series import BETTER, FEW, NOISY, REGRESSION, STEADY, Change, Series

R, B = 8, 5
ALARMS = 0.01
RANDOM = np.random.default_rng(0)
ROW = 0.4 + 0.03 * RANDOM.normal(size=R)
OWN = 0.02 * RANDOM.normal(size=R)


def series(
    tonight: np.ndarray,
    nights: np.ndarray,
    *,
    eras: list[int] | None = None,
    suspects: list[bool] | None = None,
    paired: bool = True,
    sampling: float = 0.0,
) -> Series:
    count = len(nights)
    return Series(
        {"a": 1}, "test_error", tonight, nights, eras or [0] * count, suspects or [False] * count,
        paired, sampling,
    )  # fmt: skip


def still(tonight: np.ndarray, **more) -> Series:
    """Nights that are all alike."""
    return series(tonight, np.tile(ROW, (B, 1)), **more)


def one(found: Series, margin: float = 0.0) -> Change:
    (change,) = noise.judged([found], ALARMS, margin)
    return change


def ends(change: Change) -> tuple[float, float]:
    assert change.low is not None
    assert change.high is not None
    return change.low, change.high


@pytest.mark.parametrize("count", [1, 2])
def test_quiet_nights_leave_a_t_interval_at_a_level_divided_among_the_series(count):
    found = noise.judged([still(ROW + OWN + 0.01)] * count, ALARMS, 0.0)
    level = 1 - 2 * ALARMS * 0.6 / count
    paired = intervals.paired(ROW + OWN + 0.01, ROW, level)
    for change in found:
        assert change.change == pytest.approx(paired.mean)
        assert ends(change) == pytest.approx((paired.low, paired.high))
        assert (change.nights, change.paired) == (B, True)
        assert (change.before, change.now) == pytest.approx((ROW.mean(), (ROW + OWN + 0.01).mean()))
    free = one(still(ROW + OWN, paired=False))
    welch = intervals.welch(ROW + OWN, ROW, 1 - 2 * ALARMS * 0.6)
    assert free.change == pytest.approx(welch.mean)
    # Degrees of freedom are those of the smaller of the two, which is less than Welch's.
    half = stats.t.ppf((2 - 2 * ALARMS * 0.6) / 2, 7) * welch.se
    assert ends(free)[1] - free.change == pytest.approx(half)


@pytest.mark.parametrize("luck", [0.03, 0.005, 0.0])
def test_nights_add_what_replicas_do_not_explain_times_one_plus_one_over_n(luck):
    random = np.random.default_rng(1)
    nights = ROW + luck * random.normal(size=B)[:, None] + 0.02 * random.normal(size=(B, R))
    tonight = ROW + OWN
    found = one(series(tonight, nights))
    difference = tonight - nights.mean(axis=0)
    replicas = difference.var(ddof=1) / R
    share = replicas / (1 + 1 / B)
    means = nights.mean(axis=1)
    extra = max(0.0, means.var(ddof=1) - share) * (1 + 1 / B)
    freedom = float(B - 1)
    together = stats.chi2.sf((B - 1) * means.var(ddof=1) / share, B - 1) < 0.1
    if together and extra:
        freedom *= (extra / (extra + replicas)) ** 2
    level = 1 - 2 * ALARMS * 0.6
    half = stats.t.ppf((1 + level) / 2, R - 1) * math.sqrt(replicas)
    plain = intervals.Interval(
        difference.mean(), difference.mean() - half, difference.mean() + half,
        math.sqrt(replicas), R, level,
    )  # fmt: skip
    wanted = between_nights.widened(plain, extra, freedom)
    assert ends(found) == pytest.approx((wanted.low, wanted.high))
    assert (luck == 0.03) == bool(together and extra)


def test_another_test_sample_adds_its_own_error_where_nights_do_not_show_more():
    tonight = ROW + OWN
    plain = intervals.paired(tonight, ROW, 1 - 2 * ALARMS * 0.6)
    found = one(still(tonight, sampling=0.02**2))
    wanted = between_nights.widened(plain, 0.02**2, 0)
    assert ends(found) == pytest.approx((wanted.low, wanted.high))
    luck = np.array([0.1, -0.1, 0.15, -0.2, 0.05])
    restless = ROW + luck[:, None]
    without, with_it = one(series(tonight, restless)), one(series(tonight, restless, sampling=1e-6))
    assert ends(without) == ends(with_it), "what nights show is more, and holds it"


def test_a_single_replica_has_no_interval():
    found = one(series(np.array([0.5]), np.full((B, 1), 0.4)))
    assert (found.low, found.high) == (None, None)
    assert found.kind == NOISY
    assert not noise.Noise(1.0, 0.0, 1.0, 3.0).interval(0.1, 0.95).known
    assert noise.judged([], ALARMS, 0.0) == []


def test_the_interval_of_a_noise_is_of_whole_degrees_of_freedom():
    found = noise.Noise(4e-4, 6.6, 0.0, 0.0).interval(0.1, 0.9)
    assert (found.n, found.level, found.se) == (8, 0.9, pytest.approx(0.02))
    assert found.half_width == pytest.approx(stats.t.ppf(0.95, 7) * 0.02)
    assert noise.Noise(4e-4, 0.2, 0.0, 0.0).interval(0.1, 0.9).n == 2
    wide = noise.Noise(4e-4, 7.0, 9e-4, 0.0).interval(0.1, 0.9)
    assert wide.se == pytest.approx(math.sqrt(13e-4))


def limit(level: float, replicas: int = R) -> float:
    return float(stats.t.ppf((1 + level) / 2, replicas - 1))


@pytest.mark.parametrize(("beyond", "kind"), [(1.02, REGRESSION), (0.98, NOISY)])
def test_a_rise_is_called_beyond_its_level_and_suspect_before(beyond, kind):
    noise_ = np.tile([-0.01, 0.01], R // 2)
    se = noise_.std(ddof=1) / math.sqrt(R)
    change = one(still(ROW + noise_ + beyond * limit(1 - 2 * ALARMS * 0.6) * se))
    assert change.kind == kind
    assert change.suspect == (kind == NOISY)
    quiet = one(still(ROW + noise_ + 0.98 * limit(0.95) * se))
    assert (quiet.kind, quiet.suspect) == (NOISY, False)
    loud = one(still(ROW + noise_ + 1.02 * limit(0.95) * se))
    assert (loud.kind, loud.suspect) == (NOISY, True)
    wanted = intervals.replicas_needed(noise_ + 1.02 * limit(0.95) * se, 1 - 2 * ALARMS * 0.6)
    assert loud.needs == (wanted.estimate if wanted else None)
    fall = one(still(ROW + noise_ - beyond * limit(1 - 2 * ALARMS * 0.6) * se))
    assert fall.kind == (BETTER if kind == REGRESSION else STEADY)


def test_the_margin_has_to_be_exceeded():
    rise = one(still(ROW + 0.01), margin=0.0101)
    assert rise.kind == STEADY
    assert one(still(ROW + 0.01), margin=0.0099).kind == REGRESSION
    assert one(still(ROW - 0.01), margin=0.0101).kind == STEADY
    assert one(still(ROW - 0.01), margin=0.0099).kind == BETTER
    assert one(still(ROW + 1e-10)).kind == STEADY, "rounding"
    assert one(still(ROW + 1e-8)).kind == REGRESSION


def test_one_earlier_night_is_too_few_and_two_are_not():
    assert one(series(ROW + 0.1, ROW[None])).kind == FEW
    assert one(series(ROW + 0.1, np.tile(ROW, (2, 1)))).kind == REGRESSION


def test_a_series_that_moved_last_night_is_held_against_the_nights_before_too():
    nights = np.stack([ROW - 0.1, ROW, ROW])
    back = series(ROW, nights, eras=[0, 1, 1])
    assert back.current == [0]
    assert one(back).kind == STEADY
    assert one(series(ROW + 0.1, nights, eras=[0, 1, 1])).kind == REGRESSION
    down = series(ROW - 0.2, nights, eras=[0, 1, 1])
    assert one(down).kind == BETTER
    long_ago = series(ROW, np.stack([ROW - 0.1, ROW - 0.1, ROW]), eras=[0, 0, 1])
    assert one(long_ago).kind == REGRESSION, "two nights are a baseline of their own"


def test_which_nights_make_the_baseline():
    nights = np.stack([ROW + k for k in range(4)])
    plain = series(ROW, nights)
    assert plain.current == [0, 1, 2, 3]
    assert plain.baseline == pytest.approx(ROW + 1.5)
    assert plain.recent is None
    doubtful = series(ROW, nights, suspects=[True, True, False, False])
    assert doubtful.current == [2, 3]
    assert not doubtful.exhausted
    assert doubtful.recent == pytest.approx(ROW + 1 / 3)  # tonight and the two before it
    spent = series(ROW, nights, suspects=[True, True, True, False])
    assert spent.current == [3]
    assert spent.exhausted
    assert spent.recent is None
    all_of_them = series(ROW, nights, suspects=[True] * 4)
    assert all_of_them.current == [0, 1, 2, 3]
    assert all_of_them.exhausted
    single = series(ROW, nights[:2], suspects=[True, False])
    assert not single.exhausted, "one suspect night is no shift"
    earlier = series(ROW, nights, eras=[0, 0, 1, 1], suspects=[False, True, False, False])
    assert earlier.current == [0]
    late = series(ROW, nights, suspects=[False, True, False, False])
    assert late.recent is None


def test_nights_differ_about_the_mean_of_their_era_without_suspects():
    nights = np.stack([ROW + k for k in (0.0, 0.3, 1.0, 1.2, 9.0)])
    found = series(ROW, nights, eras=[0, 0, 1, 1, 1], suspects=[False] * 4 + [True])
    variance, freedom = found.between()
    assert freedom == 2
    assert variance == pytest.approx((0.15**2 * 2 + 0.1**2 * 2) / 2)


def test_suspect_nights_together_are_called_at_their_own_level():
    """Tonight alone is within its level; with the two suspect nights before it, it is not."""
    noise_ = np.tile([-0.01, 0.01], R // 2)
    se = noise_.std(ddof=1) / math.sqrt(R)
    rise = 0.95 * limit(1 - 2 * ALARMS * 0.6) * se
    level = limit(1 - 2 * ALARMS * 0.1)
    nights = np.tile(ROW, (B, 1))
    suspects = [True, True, False, False, False]

    def kind(mean_of_all: float) -> str:
        """Two nights before, so that the three together have this mean."""
        worse = nights.copy()
        worse[:2] = ROW + noise_ + (3 * mean_of_all - rise) / 2
        return one(series(ROW + noise_ + rise, worse, suspects=suspects)).kind

    assert kind(1.02 * level * se) == REGRESSION
    assert kind(0.98 * level * se) == NOISY


def test_on_spent_nights_a_suspect_rise_is_called():
    noise_ = np.tile([-0.01, 0.01], R // 2)
    se = noise_.std(ddof=1) / math.sqrt(R)
    nights = np.tile(ROW, (3, 1))
    suspects = [True, True, False]
    for beyond, kind in ((1.02, REGRESSION), (0.98, NOISY)):
        tonight = ROW + noise_ + beyond * limit(0.95) * se
        assert one(series(tonight, nights, suspects=suspects)).kind == kind


def rising(count: int, rise: float, seed: int = 2) -> list[Series]:
    """Series with noise of their own, all of which rose."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        row = 0.4 + 0.03 * random.normal(size=R)
        found.append(series(row + 0.02 * random.normal(size=R) + rise, np.tile(row, (B, 1))))
    return found


def test_all_series_together_are_one_series_in_units_of_their_noise():
    some = rising(6, 0.02)
    found = noise._noises(some)
    sizes = [math.sqrt(n.replicas + n.nights) for n in found]
    tonight = np.mean([s.tonight / size for s, size in zip(some, sizes, strict=True)], axis=0)
    before = np.mean([s.baseline / size for s, size in zip(some, sizes, strict=True)], axis=0)
    t = intervals.paired(tonight, before)
    p = stats.t.sf(t.mean / t.se, R - 1)
    assert p < 0.003
    assert noise._together(some, found, p * 1.02)
    assert not noise._together(some, found, p * 0.98)
    fallen = rising(6, -0.02)
    assert not noise._together(fallen, noise._noises(fallen), 0.5)
    assert not noise._together(some[:2], found[:2], 0.5), "two are not many"
    assert noise._together(some[:3], found[:3], 0.2)


def test_of_many_small_rises_all_are_regressions_though_none_is_one_alone():
    some = rising(8, 0.02)
    kinds = [change.kind for change in noise.judged(some, ALARMS, 0.001)]
    assert REGRESSION in kinds
    alone = [noise.judged([one_], ALARMS / 8, 0.001)[0].kind for one_ in some]
    assert alone.count(REGRESSION) < kinds.count(REGRESSION)
    assert all(
        not change.suspect
        for change in noise.judged(some, ALARMS, 0.001)
        if change.kind == REGRESSION
    )


def told(*kinds: tuple[str, bool]) -> list[tuple[str, bool]]:
    changes = [
        Change({}, "m", kind, 0, 0, 0, 0, 0, B, True, None, suspect) for kind, suspect in kinds
    ]
    return [(change.kind, change.suspect) for change in noise._told_together(changes)]


def test_together_those_that_show_it_by_themselves_are_called_or_else_all_that_rose():
    assert told((NOISY, True), (NOISY, False), (STEADY, False)) == [
        (REGRESSION, False), (NOISY, False), (STEADY, False),
    ]  # fmt: skip
    assert told((NOISY, False), (NOISY, False), (BETTER, False)) == [
        (REGRESSION, False), (REGRESSION, False), (BETTER, False),
    ]  # fmt: skip
    assert told((REGRESSION, False), (NOISY, False)) == [(REGRESSION, False), (NOISY, False)]


def test_nights_that_move_all_series_are_seen():
    random = np.random.default_rng(3)
    luck = 0.05 * random.normal(size=B)

    def made(shared: float, count: int) -> list[Series]:
        return [
            series(ROW, 0.4 + shared * luck[:, None] + 0.03 * random.normal(size=(B, R)))
            for _ in range(count)
        ]

    variance = [0.03**2 / R * (1 + 1 / B)] * 6
    assert noise._move_together(made(1.0, 6), variance)
    assert not noise._move_together(made(0.0, 6), variance)
    assert noise._move_together(made(1.0, 2), variance[:2])
    assert not noise._move_together(made(1.0, 6), [0.0, *variance[1:]])
    other = [*made(0.0, 5), series(ROW, np.tile(ROW, (2, 1)))]
    assert noise._move_together(other, variance), "nights that cannot be laid beside each other"


def test_the_f_test_of_night_means_is_scipys():
    """Of rows = series and columns = nights, in units of what replicas explain: columns against the rest."""
    random = np.random.default_rng(4)
    means = 0.4 + 0.012 * random.normal(size=(4, B)) + 0.012 * random.normal(size=B)
    made = [series(ROW, np.tile(row[:, None], (1, R))) for row in means]
    rows = means - means.mean(axis=1, keepdims=True)
    common = 4 * (rows.mean(axis=0) ** 2).sum() / (B - 1)
    rest = ((rows - rows.mean(axis=0)) ** 2).sum() / ((B - 1) * 3)
    p = stats.f.sf(common / rest, B - 1, (B - 1) * 3)
    for evident, seen in ((p * 1.01, True), (p * 0.99, False)):
        original = noise.EVIDENT
        noise.EVIDENT = evident
        try:
            assert noise._move_together(made, [1.2] * 4) == seen
        finally:
            noise.EVIDENT = original
