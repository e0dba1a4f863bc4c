"""Where in the network memorization sits: what is lost when one layer at a time is taken back.

Re-initializing puts a layer's initial values back, re-randomizing draws new ones; either way the network is
evaluated without retraining. A layer whose loss costs noisy labels more than clean ones holds memorization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Drops:
    """Accuracy lost per layer, from the input (index 0) to the output.

    clean, noisy: [R, L], accuracy intact - accuracy with that layer taken back, on the replica's own training
    examples with right and with wrong labels (NaN without any); clean_intervals, noisy_intervals,
    excess_intervals: L intervals each, excess = noisy - clean, paired within replicas; trends: [R], excess in the
    last half of the layers minus the first half (the middle one left out), per replica: above zero,
    earlier layers memorize less; trend: their mean with its interval."""

    clean: Floats
    noisy: Floats
    clean_intervals: list[Interval]
    noisy_intervals: list[Interval]
    excess_intervals: list[Interval]
    trends: Floats
    trend: Interval
    rank_correlation: float

    @property
    def excess(self) -> Floats:
        """noisy - clean: [R, L]."""
        return self.noisy - self.clean


def drops(
    intact: Any, taken_back: Any, noisy: Any = None, member: Any = None, level: float = 0.95
) -> Drops:
    """Accuracy lost per layer on clean and on noisy training examples.

    intact: [R, N] right or wrong on the given labels; taken_back: [R, L, N] the same with layer l alone
    re-initialized or re-randomized; noisy: [N] bool, examples with a wrong label (None: none);
    member: [R, N], the examples each replica trained on (None: all). Drops are in [-1, 1].
    rank_correlation: Spearman's between depth and mean excess (or mean clean drop, without noisy examples),
    NaN for fewer than 3 layers.
    Source: Zhang, Bengio & Singer 2022, arXiv:1902.01996; clean against noisy as in
    Maini et al. 2023, arXiv:2307.09542."""
    before = arrays.booleans(intact, "intact", ndim=2)
    after = arrays.booleans(taken_back, "taken_back", ndim=3)
    runs, examples = before.shape
    layers = after.shape[1]
    arrays.same("taken_back", after.shape, "intact, with layers between", (runs, layers, examples))
    inside = (
        np.ones_like(before) if member is None else arrays.members(member, "member", before.shape)
    )
    wrong = np.zeros(examples, bool) if noisy is None else arrays.booleans(noisy, "noisy", ndim=1)
    arrays.same("noisy", wrong.shape, "intact (examples)", (examples,))
    clean_drop = _drop(before, after, inside & ~wrong)
    noisy_drop = _drop(before, after, inside & wrong)
    excess = noisy_drop - clean_drop
    profile = clean_drop if np.isnan(excess).all() else excess
    half = layers // 2
    trends = (
        profile[:, layers - half :].mean(axis=1) - profile[:, :half].mean(axis=1)
        if half
        else np.full(runs, math.nan)
    )
    return Drops(
        clean_drop,
        noisy_drop,
        _per_layer(clean_drop, level),
        _per_layer(noisy_drop, level),
        _per_layer(excess, level),
        trends,
        intervals.t_interval(trends, level, omit_nan=True),
        _rank_correlation(profile),
    )


def _drop(before: Bools, after: Bools, side: Bools) -> Floats:
    """Accuracy before - after on one side: [R, N], [R, L, N] -> [R, L]."""
    count = side.sum(axis=1).astype(np.float64)
    count[count == 0] = math.nan
    old = (before & side).sum(axis=1) / count
    return old[:, None] - (after & side[:, None]).sum(axis=2) / count[:, None]


def _per_layer(values: Floats, level: float) -> list[Interval]:
    return [intervals.t_interval(column, level, omit_nan=True) for column in values.T]


def _rank_correlation(profile: Floats) -> float:
    from scipy import stats

    mean = profile[~np.isnan(profile).any(axis=1)]
    if profile.shape[1] < 3 or not len(mean) or np.ptp(mean.mean(axis=0)) == 0:
        return math.nan
    return float(stats.spearmanr(np.arange(profile.shape[1]), mean.mean(axis=0)).statistic)
