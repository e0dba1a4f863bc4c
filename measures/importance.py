"""How much of the spread between trials each swept setting explains by itself.

First-order effects only: what two settings do together is in nobody's share. Knows arrays, not studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays
from engram.measures.arrays import Floats

MOST_BINS = 6  # of a continuous setting; a bin wants four trials or more


@dataclass(frozen=True)
class Importance:
    """share: of the variance between trials, by setting, 1 at most, 0 where nothing is found; chance: the
    95th percentile of a setting that does nothing, by shuffling; rest: what no setting explains alone."""

    share: dict[str, float]
    chance: dict[str, float]
    rest: float

    def significant(self, name: str) -> bool:
        """Whether a share is above what shuffled trials show."""
        return self.share[name] > self.chance[name]


def importance(
    settings: Mapping[str, Any], values: Any, *, shuffles: int = 400, seed: int = 0
) -> Importance:
    """Share of the variance of `values` [T] that the groups of each setting [T] explain.

    Settings with few values are grouped by value, continuous ones by up to six quantile bins. The share is
    ε² = 1 - (1 - η²)(T - 1)/(T - K), K groups, which is 0 on average for a setting that does nothing; a
    negative estimate is shown as 0. Refuses fewer than 4 trials. Source: Kelley 1935, PNAS 21(9)."""
    value = arrays.floats(values, "values", ndim=1)
    if value.size < 4:
        raise ValueError(f"{value.size} trials; importance needs at least 4")
    generator = np.random.default_rng(seed)
    shuffled = np.stack([value, *(generator.permutation(value) for _ in range(shuffles))])
    share, chance = {}, {}
    for name, setting in settings.items():
        arrays.same(name, np.shape(setting), "values (one a trial)", value.shape)
        found = _share(shuffled, _groups(setting, value.size))
        share[name] = float(np.clip(found[0], 0, 1))
        chance[name] = float(max(0.0, np.quantile(found[1:], 0.95)))
    return Importance(share, chance, max(0.0, 1 - sum(share.values())))


def _groups(setting: Any, trials: int) -> np.ndarray:
    """The group of each trial: [T] in [0, K)."""
    listed = list(setting)
    kinds = {repr(v): None for v in listed}
    numeric = all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in listed
    )
    if not numeric or len(kinds) <= max(MOST_BINS, trials // 4):
        return np.array([list(kinds).index(repr(v)) for v in listed])
    bins = max(2, min(MOST_BINS, trials // 4))
    ranks = np.argsort(np.argsort(np.array(listed, dtype=np.float64), kind="stable"))
    return ranks * bins // trials


def _share(values: Floats, groups: np.ndarray) -> Floats:
    """ε² of each row of values [S, T]; 0 where there is no variance, or a group for every trial."""
    trials, count = values.shape[1], groups.max() + 1
    total = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    if count < 2 or count >= trials or not (total > 0).all():
        return np.zeros(len(values))
    onehot = np.eye(count)[groups]  # [T, K]
    means = values @ onehot / onehot.sum(axis=0)  # [S, K]
    within = ((values - means[:, groups]) ** 2).sum(axis=1)
    return 1 - (within / total) * (trials - 1) / (trials - count)
