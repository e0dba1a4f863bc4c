"""The shadow models of a membership attack: what the others' confidence in an example is like, itself left out.

One side of them (those trained on the example, or those not) is sorted once; whatever group of models is left out
besides, its centers and spreads come from sums less some terms and from ranks that are stepped over."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from engram.measures.arrays import Bools, Floats, Ints

# A side whose shadows all agree would make any other confidence infinitely surprising.
SD_FLOOR_SHARE = 1e-3


class Side:
    """One side of the shadows of R models. Examples come first here: values [N, R], inside [N, R]: who is on it.

    center: "median" or "mean"; pooled: one sd for all examples, from the residuals about each one's mean."""

    def __init__(self, values: Floats, inside: Bools, center: str, pooled: bool):
        self.values, self.inside = values, inside
        self.by_median, self.pooled = center == "median", pooled
        count = inside.sum(axis=1, keepdims=True)
        self._mean = np.where(inside, values, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
        self._residual = np.where(inside, values - self._mean, 0)

    @cached_property
    def _order(self) -> Ints:
        """[N, R]: models by their confidence, those not on this side last."""
        found = np.argsort(np.where(self.inside, self.values, np.inf), axis=1)
        return found.astype(np.int32 if found.shape[1] > np.iinfo(np.int16).max else np.int16)

    def seen_by(self, kept: Bools) -> tuple[Floats, Floats]:
        """Center and sd as each model that is kept sees them: [N, kept] each, NaN where it has no shadow here."""
        everyone = bool(kept.all())
        inside = self.inside if everyone else self.inside[:, kept]
        residual = self._residual if everyone else self._residual[:, kept]
        count = inside.sum(axis=1, keepdims=True)  # [N, 1]
        left = count - inside
        shift = residual.sum(axis=1, keepdims=True) / np.maximum(count, 1)
        if not everyone:  # about the mean of those kept
            residual = np.where(inside, residual - shift, 0)
        middle = (
            self._median(kept, inside, count)
            if self.by_median
            else self._mean + shift - residual / np.maximum(left, 1)
        )
        sd = self._sd(residual, count, left)
        return np.where(left > 0, middle, math.nan), sd

    def _sd(self, residual: Floats, count: Ints, left: Ints) -> Floats:
        some = np.maximum(left, 1)
        squares = residual**2
        # About the mean of the rest, one left out.
        squares = squares.sum(axis=1, keepdims=True) - squares * (count / some)
        squares = np.where(left > 0, np.maximum(squares, 0), 0)  # below 0 by round-off only
        common = np.sqrt(squares.sum(axis=0) / np.maximum(left.sum(axis=0), 1))  # [kept]
        floor = np.maximum(common * SD_FLOOR_SHARE, 1e-12)
        return np.maximum(common if self.pooled else np.sqrt(squares / some), floor)

    def _median(self, kept: Bools, inside: Bools, count: Ints) -> Floats:
        """Median of those kept on this side, without the model itself: one of four values an example.

        Of c models the rest has the ranks about (c-2)/2: which they are depends on where the one left out stands."""
        order = (
            self._order if kept.all() else self._order[kept[self._order]].reshape(len(inside), -1)
        )

        def at(rank: Ints) -> Floats:
            place = np.clip(rank, 0, order.shape[1] - 1)
            return np.take_along_axis(
                self.values, np.take_along_axis(order, place, 1).astype(np.intp), 1
            )

        values = self.values if kept.all() else self.values[:, kept]
        low, high = (count - 2) // 2, (count - 1) // 2  # ranks of the middle of count - 1
        lower, upper = at(low), at(high)
        below, above = at(low + 1), at(high + 1)
        whole = at((count - 1) // 2) / 2 + at(count // 2) / 2
        # A model up to rank `low` moves both up by one; between the two, the upper one alone.
        first = np.where(values <= lower, below, lower)
        second = np.where(values <= upper, above, upper)
        return np.where(inside, first / 2 + second / 2, whole)
