"""What a search chooses from, and what chooses: a study's sweep and sampler in Optuna's terms.

A sampler keeps no state of its own between questions: it is made afresh from (seed, trial number).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import optuna
from optuna import samplers
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import Axis, Values


def distribution(axis: Axis) -> BaseDistribution:
    """A sweep axis as an Optuna distribution: listed values are categories, a range has bounds."""
    if isinstance(axis, Values):
        return CategoricalDistribution(list(axis.values))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def suggest(trial: optuna.Trial, name: str, axis: Axis) -> Any:
    """The value that the trial's sampler gives to one axis."""
    if isinstance(axis, Values):
        return trial.suggest_categorical(name, list(axis.values))
    if axis.whole:
        return trial.suggest_int(name, int(axis.low), int(axis.high), log=axis.log)
    return trial.suggest_float(name, float(axis.low), float(axis.high), log=axis.log)


def holds(axis: Axis, value: Any) -> bool:
    """Whether a value can be chosen on an axis."""
    if isinstance(axis, Values):
        # true is not 1 here, though Python says that they are equal.
        kind = isinstance(value, bool)
        return any(v == value and isinstance(v, bool) == kind for v in axis.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return axis.low <= value <= axis.high and (not axis.whole or float(value).is_integer())


def sampler(study: Study, number: int) -> BaseSampler:
    """What chooses the values of one trial, but for a grid."""
    seed = (study.search.seed * 1_000_003 + number * 7919) % 2**31
    name = study.search.sampler
    if name not in SAMPLERS:
        raise ValueError(f"search.sampler = {name!r} is no known sampler: {', '.join(SAMPLERS)}")
    return SAMPLERS[name](seed)


class _Independent(BaseSampler):
    """Chooses each value by itself."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}


class Point(_Independent):
    """The values of one point of a grid."""

    def __init__(self, point: dict[str, Any]):
        self.point = point

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.point[param_name]


class _Random(_Independent):
    """Each value from a stream of its own: a trial whose creation was cut short gets the same ones."""

    def __init__(self, seed: int):
        self.seed = seed

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        sampler = samplers.RandomSampler((self.seed + zlib.crc32(param_name.encode())) % 2**31)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


# All but the grid, which is a list of points and not a sampler.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": _Random,
    "tpe": lambda seed: samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "gp": lambda seed: samplers.GPSampler(seed=seed),
    "cmaes": lambda seed: samplers.CmaEsSampler(seed=seed),
    "nsga2": lambda seed: samplers.NSGAIISampler(seed=seed),
}
