"""How much of the differences between trials each setting explains, by Optuna's fANOVA.

A random forest learns the objective from the settings; a share is the variance of its mean prediction along one setting,
over all its variance, uniformly over the space that was tried, however often a search tried what: shares are at most
1, and add up to at most 1. Whether a setting did anything at all, `measures.importance` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator

optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of each study that it makes

TREES, DEPTH = 32, 64
FORESTS, THEIR_TREES = 8, 8  # on trials drawn again, for the spread
MOST_LEVELS = 8  # of a number that is taken as categories, each as weighty as the others
FEWEST = 4  # trials
MOST = (
    1000  # that a forest sees, chosen at random: its time and memory grow faster than their number
)


@dataclass(frozen=True)
class Share:
    """low, high: the middle nine tenths over forests that saw other trials of the same ones (bootstrap)."""

    mean: float
    low: float
    high: float


def shares(
    settings: Mapping[str, Sequence[Any]], values: Sequence[float], seed: int = 0
) -> dict[str, Share]:
    """The share of each setting [T] in the differences of values [T]; 0 where nothing differs.

    Source: Hutter, Hoos & Leyton-Brown 2014 (fANOVA), as Optuna has it. Of more than 1,000 trials forests see a random
    choice of as many. Refuses fewer than 4 trials."""
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} trials; importance needs at least {FEWEST}")
    known = {name: _distribution(list(setting)) for name, setting in settings.items()}
    space = {name: one for name, one in known.items() if one is not None}
    if not space or len({*values}) < 2:
        return {name: Share(0.0, 0.0, 0.0) for name in settings}
    generator = np.random.default_rng(seed)
    whole = np.arange(len(values))
    if len(whole) > MOST:
        whole = np.sort(generator.choice(whole, MOST, replace=False))
    first = _of(settings, space, values, whole, TREES, seed)
    again = [
        _of(settings, space, values, generator.choice(whole, len(whole)), THEIR_TREES, seed + 1 + k)
        for k in range(FORESTS)
    ]
    found = {}
    for name in settings:
        some = [one.get(name, 0.0) for one in again]
        low, high = np.quantile(some, [0.05, 0.95])
        mean = float(first.get(name, 0.0))
        found[name] = Share(mean, min(mean, float(low)), max(mean, float(high)))
    return found


def _of(
    settings: Mapping[str, Sequence[Any]],
    space: Mapping[str, BaseDistribution],
    values: Sequence[float],
    chosen: np.ndarray,
    trees: int,
    seed: int,
) -> dict[str, float]:
    """Shares by one forest of the chosen trials."""
    some = [float(values[k]) for k in chosen]
    if len(set(some)) < 2:
        return {}
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    for k, value in zip(chosen, some, strict=True):
        params = {name: _plain(settings[name][k], one) for name, one in space.items()}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=dict(space), value=value)
        )
    evaluator = FanovaImportanceEvaluator(n_trees=trees, max_depth=DEPTH, seed=seed)
    return evaluator.evaluate(study, params=list(space))


def _distribution(values: list[Any]) -> BaseDistribution | None:
    """Between the least and the largest of the values that were tried; None where there is one."""
    kinds = {repr(v): v for v in values}
    if len(kinds) < 2:
        return None
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numeric and len(kinds) > MOST_LEVELS:
        low, high = min(values), max(values)
        return FloatDistribution(float(low), float(high), log=low > 0 and high / low > 20)
    return CategoricalDistribution(list(kinds))


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    return repr(value) if isinstance(distribution, CategoricalDistribution) else float(value)
