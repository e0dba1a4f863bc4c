"""Whether a setting moved a measure at all, with what the other settings did taken into account.

How large its share is, is another question: `sweeps.search.shares` has it from Optuna's fANOVA. A search that adapts tries
good values more often, in all settings at once, so that a setting that does nothing looks as if it did: alone it is
told from nothing, beside the others it is not. Knows arrays, not studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from engram.measures import arrays
from engram.measures.arrays import Floats

ALPHA = 0.05  # of all settings of a study together
MOST_LEVELS = 4  # of a number that is taken as categories; above, as a curve
FEWEST_LEFT = 4  # degrees of freedom that the settings leave to noise

Word = Literal["told", "not told", "confounded by the search"]


@dataclass(frozen=True)
class Effect:
    """p-values that a setting does nothing: alone, and beside all the others; word: at one level for all settings."""

    alone: float
    beside: float
    word: Word


def effects(settings: Mapping[str, Any], values: Any, alpha: float = ALPHA) -> dict[str, Effect]:
    """What each setting [T] does to values [T]: F tests with and without the others, alpha divided among the settings.

    A number with more than MOST_LEVELS values enters as a parabola of its rank, anything else by its values. `told`:
    beside the others; confounded: alone only, since the search moved it together with others that matter. 1 where
    too few trials are left to tell. Refuses fewer than 4 trials. Source: Fisher 1925; the type III sums of squares of linear models."""
    value = arrays.floats(values, "values", ndim=1)
    if value.size < 4:
        raise ValueError(f"{value.size} trials; importance needs at least 4")
    arrays.within("alpha", alpha, 0, 1)
    columns = {}
    for name, setting in settings.items():
        arrays.same(name, np.shape(setting), "values (one a trial)", value.shape)
        columns[name] = _columns(setting)
    level = alpha / max(1, len(columns))
    found = {}
    for name, own in columns.items():
        others = [c for other, c in columns.items() if other != name]
        alone, beside = _p_value(value, own, []), _p_value(value, own, others)
        word: Word = "not told"
        if beside < level:
            word = "told"
        elif alone < level:
            word = "confounded by the search"
        found[name] = Effect(alone, beside, word)
    return found


def _columns(setting: Any) -> Floats:
    """A setting as columns of a linear model, without the mean: [T, k]."""
    listed = list(setting)
    kinds = list({repr(v): None for v in listed})
    numeric = all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in listed
    )
    if numeric and len(kinds) > MOST_LEVELS:
        _, place = np.unique(np.array(listed, np.float64), return_inverse=True)
        ranks = 2 * place / place.max() - 1
        made = np.stack([ranks, ranks**2], axis=1)
    else:
        made = np.eye(len(kinds))[[kinds.index(repr(v)) for v in listed]]
    return made - made.mean(axis=0)


def _p_value(values: Floats, own: Floats, others: list[Floats]) -> float:
    """p of an F test that the own columns add nothing to the others."""
    before = np.column_stack([np.ones(len(values)), *others])
    without, used = _residual(values, before)
    rest, all_used = _residual(values, np.column_stack([before, own]))
    gained, left = all_used - used, len(values) - all_used
    scale = float(((values - values.mean()) ** 2).sum())
    if not gained or left < FEWEST_LEFT or without <= 1e-18 * scale or not scale:
        return 1.0
    if rest <= 1e-18 * scale:
        return 0.0
    f = (without - rest) / gained / (rest / left)
    return float(special.fdtrc(gained, left, max(f, 0.0)))


def _residual(values: Floats, columns: Floats) -> tuple[float, int]:
    """Sum of squares that columns leave, and their rank."""
    coefficients, _, rank, _ = np.linalg.lstsq(columns, values, rcond=1e-10)
    return float(((values - columns @ coefficients) ** 2).sum()), int(rank)
