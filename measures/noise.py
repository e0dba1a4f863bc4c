"""Wrong labels: how many a network fits, and how much later than the right ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, convergence, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.convergence import Convergence
from engram.measures.intervals import Interval


@dataclass(frozen=True)
class Fitted:
    """Share of training examples whose given label is predicted, [R, E] over epochs; NaN without examples.

    wrong: of examples whose label was corrupted (fitting them is memorization: nothing else leads there);
    clean: of the others; true: of corrupted examples given their true class, when it is known, else None."""

    wrong: Floats
    clean: Floats
    true: Floats | None = None


@dataclass(frozen=True)
class Delay:
    """Epochs at which a share of clean and of wrong labels is fitted, and wrong - clean per replica.

    Where the wrong ones are never fitted the delay of that replica is NaN and `interval` leaves it out, so
    it understates the delay; `later` counts the replicas with the wrong ones after the clean ones, or never,
    `sooner` those the other way round, and p_value is the sign test's (two-sided) between them."""

    clean: Convergence
    wrong: Convergence
    per_replica: Floats
    interval: Interval
    later: int
    sooner: int
    p_value: float


def fitted(predicted: Any, given: Any, wrong: Any, member: Any = None, true: Any = None) -> Fitted:
    """Share of wrong and of clean training labels that are fitted at each epoch.

    predicted: [R, E, N] classes; given: [N] labels as trained on; wrong: [N] bool, corrupted or not;
    member: [R, N], the replica's own subset (all when None); true: [N] labels before corruption.
    Source: Arpit et al. 2017, arXiv:1706.05394; Liu et al. 2020, arXiv:2007.00151."""
    votes = arrays.integers(predicted, "predicted", ndim=3)
    runs, _, examples = votes.shape
    label = arrays.labels(given, "given", examples=examples)
    corrupted = arrays.booleans(wrong, "wrong", ndim=1)
    arrays.same("wrong", corrupted.shape, "predicted (examples)", (examples,))
    inside = (
        np.ones((runs, examples), bool)
        if member is None
        else arrays.members(member, "member", (runs, examples))
    )
    agree = votes == label
    back = None
    if true is not None:
        original = arrays.labels(true, "true", examples=examples)
        back = _share(votes == original, inside & corrupted)
    return Fitted(_share(agree, inside & corrupted), _share(agree, inside & ~corrupted), back)


def delay(shares: Fitted, epochs: Any = None, share: float = 0.5, level: float = 0.95) -> Delay:
    """When half (or another share) of the clean and of the wrong labels are fitted, and the difference.

    shares: from `fitted`; epochs: [E], 1..E when None. Supported is "signal before noise" when the
    interval lies above zero, or, where wrong labels are never fitted, by the sign test."""
    arrays.within("share", share, 0, 1)
    clean = convergence.epochs_to(shares.clean, epochs, share, direction="above", level=level)
    wrong = convergence.epochs_to(shares.wrong, epochs, share, direction="above", level=level)
    difference = wrong.per_replica - clean.per_replica
    later = int((~clean.censored & (wrong.censored | (difference > 0))).sum())
    sooner = int((~wrong.censored & (clean.censored | (difference < 0))).sum())
    return Delay(
        clean,
        wrong,
        difference,
        intervals.t_interval(difference, level, omit_nan=True),
        later,
        sooner,
        intervals.sign_test(later, sooner),
    )


def _share(agree: Bools, side: Bools) -> Floats:
    """Share of each replica's side that agrees: [R, E, N], [R, N] -> [R, E]."""
    count = side.sum(axis=1).astype(np.float64)
    return (
        np.einsum("ren,rn->re", agree, side, dtype=np.float64)
        / np.where(count > 0, count, math.nan)[:, None]
    )
