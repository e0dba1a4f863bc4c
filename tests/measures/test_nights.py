"""Noise between nights: its estimate, and the width that it gives an interval."""

from __future__ import annotations

import numpy as np
import pytest

from engram.measures import between_nights, intervals


def test_between_pools_the_eras_and_counts_their_freedom():
    variance, freedom = between_nights.between([1.0, 3.0, 11.0, 13.0], [0, 0, 1, 1])
    assert (variance, freedom) == (2.0, 2)
    assert between_nights.between([0.5] * 7, [0] * 7) == (0.0, 6)
    assert between_nights.between([0.4, 0.9], [0, 1]) == (0.0, 0)


def test_nothing_more_leaves_an_interval_alone():
    found = intervals.t_interval([1.0, 2.0, 4.0])
    assert between_nights.widened(found, 0.0, 5) == found
    unknown = intervals.t_interval([1.0])
    assert between_nights.widened(unknown, 1.0, 5) is unknown


def test_more_noise_widens_and_keeps_the_mean():
    found = intervals.t_interval(np.arange(8.0))
    widths = [between_nights.widened(found, v, 0).half_width for v in (0.1, 1.0, 10.0)]
    assert widths == sorted(widths)
    assert widths[0] > 0
    assert between_nights.widened(found, 1.0, 0).mean == found.mean
    assert (
        between_nights.widened(found, 1.0, 2).half_width
        > between_nights.widened(found, 1.0, 0).half_width
    )


def test_noise_far_above_the_replicas_is_a_t_interval_of_the_nights():
    tiny = intervals.t_interval(1e-9 * np.arange(8.0))
    wide = between_nights.widened(tiny, 4.0, 6)
    assert wide.half_width == pytest.approx(2.4469 * 2.0, rel=1e-3)


def test_coverage_of_a_new_night():
    """A night from the same distribution as seven others is covered 95 % of the time, or a little more."""
    random, covered = np.random.default_rng(0), 0
    for _ in range(600):
        luck = 0.02 * random.normal(size=8)
        values = 0.4 + luck[:, None] + 0.03 * random.normal(size=(8, 8))
        change = intervals.welch(values[0], values[1:].mean(axis=0))
        variance, freedom = between_nights.between(values[1:].mean(axis=1), [0] * 7)
        covered += not between_nights.widened(change, variance * (1 + 1 / 7), freedom).excludes(0)
    assert covered / 600 >= 0.95
