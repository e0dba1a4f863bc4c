"""What a training function is handed: the examples of one replica, its settings, and a way to report.

Knows nothing of studies, trials or how the function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Examples as numpy arrays, a copy that may be changed; false where there are none.

    inputs: [N, ...] as the dataset has them, several of an example by their names; targets: [N] labels from 0 on, or [N] or [N, K] values, or bool [N, L] where
    a row may have several labels; ids: [N],
    the person's own names of the rows.
    """

    inputs: Any  # an array, or {name: array}
    targets: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Task:
    """One replica to train.

    train: its own subset, sorted as the rows stand in the data; validation: what was held out, without rows where
    nothing was. config: every key of the study as a dotted key ("training.lr"); options: those of
    model.options. seed: the replica's own, in [0, 2^31); torch, numpy and Python's random are already set to it.
    device: "cpu" or "cuda". folder: to write in, empty at first, the same when the trial is taken up again, and
    removed once it is over. classes: None for a regression; outputs: classes, or values to predict; shape: of one
    example, of several inputs {name: shape}; replica: its number.
    """

    train: Rows
    validation: Rows
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    seed: int
    device: str
    folder: Path
    classes: int | None
    outputs: int
    shape: Any
    replica: int
    image: bool = False
    _report: Callable[[int, dict[str, float]], None] = field(
        default=lambda epoch, values: None, repr=False
    )

    @property
    def labels(self) -> bool:
        """Whether an example may have any number of labels, `outputs` of them in all."""
        return self.train.targets.dtype == np.bool_

    def report(self, epoch: int, **values: float) -> None:
        """Say how training stands after an epoch, counted from 1: validation_error=0.2, or any other numbers.

        train_error, validation_error, validation_loss and their kind are the learning curves, and a scheduler
        prunes by them; NaN is left out. It may not return: a trial that is stopped ends here, by an exception
        that is no Exception."""
        if isinstance(epoch, bool) or int(epoch) != epoch or epoch < 0:
            raise ValueError(f"task.report: epoch = {epoch!r} is no whole number from 0 on")
        numbers = {}
        for name, value in values.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError):
                raise ValueError(f"task.report: {name} = {value!r} is no number") from None
        self._report(int(epoch), numbers)

    def logits(self, predict: Callable[..., Any]) -> Said:
        """A predictor whose numbers are logits, where they could be mistaken for probabilities."""
        return Said(predict, "logits")

    def probabilities(self, predict: Callable[..., Any]) -> Said:
        """A predictor whose numbers are probabilities, to be scaled to a sum of 1 in each row."""
        return Said(predict, "probabilities")


@dataclass(frozen=True)
class Said:
    """A predictor, what its numbers are ("logits" or "probabilities"; None: to be told from them), and its size."""

    predict: Any
    gives: str | None = None
    parameters: int | None = None


class Stopped(BaseException):
    """Raised in a training function whose trial is over. No Exception, so that `except Exception` lets it pass."""
