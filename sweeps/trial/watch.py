"""What training passes through: which examples each replica has right at every evaluation.

Used for forgetting, and for when wrong labels are fitted. Classification only: it counts right and wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.models.training import Trainer

# Examples that measures per example look at: all of a pool up to this, a random choice of a larger one.
MOST_MEASURED = 20_000


def measured(
    members: np.ndarray, pool_ids: np.ndarray, seed: int, most: int = MOST_MEASURED
) -> np.ndarray:
    """The pool examples that measures per example look at, sorted.

    members: [R, m]. Of a pool larger than `most`, a random choice among those that some replica was
    trained on and some was not: the others have no memorization. Where there are none (one replica, or
    m = n), among those that any was trained on."""
    if len(pool_ids) <= most:
        return pool_ids
    inside = np.zeros(int(pool_ids.max()) + 1, np.uint16)
    for row in members:
        seen = np.zeros(len(inside), bool)
        seen[row] = True
        inside += seen
    count = inside[pool_ids]
    chosen = pool_ids[(count > 0) & (count < len(members))]
    chosen = chosen if len(chosen) else pool_ids[count > 0]
    generator = np.random.Generator(np.random.PCG64([seed, len(pool_ids)]))
    return np.sort(generator.choice(chosen, min(most, len(chosen)), replace=False))


def predicted(trainer: Trainer, inputs: Tensor) -> np.ndarray:
    """Classes [R, N], in eval mode."""
    return trainer.classes(inputs).numpy()


class Watch:
    """Right or wrong of each measured example in each replica, at every evaluation.

    ids: [N] pool examples; given: their labels as trained on; true: before noise, or None where there is
    none. Memory: R·N/8 bytes an evaluation, twice that with noise."""

    def __init__(self, ids: np.ndarray, given: np.ndarray, true: np.ndarray | None):
        self.ids, self.given, self.true = ids, given, true
        self._index: Tensor | None = None  # the ids, where the examples are
        self.given_right: list[np.ndarray] = []  # bits [R, N / 8] each
        self.true_right: list[np.ndarray] = []

    def look(self, trainer: Trainer) -> None:
        """One evaluation."""
        if self._index is None:
            self._index = torch.from_numpy(self.ids).to(trainer.device)
        classes = predicted(trainer, trainer.pool.inputs[self._index])
        self.given_right.append(np.packbits(classes == self.given, axis=1))
        if self.true is not None:
            self.true_right.append(np.packbits(classes == self.true, axis=1))

    def right(self, replica: int, true: bool = False) -> np.ndarray:
        """One replica's history: bool [E, N], by the given labels or by the true ones."""
        rows = [seen[replica] for seen in (self.true_right if true else self.given_right)]
        return np.unpackbits(np.stack(rows), axis=1, count=len(self.ids)).astype(bool)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen, for a checkpoint."""
        kept = {"given_right": self.given_right, "true_right": self.true_right}
        return {name: np.stack(seen) for name, seen in kept.items() if seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state made by `state_dict`."""
        for name in ("given_right", "true_right"):
            setattr(self, name, [np.asarray(seen) for seen in state.get(name, ())])
