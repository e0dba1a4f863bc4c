"""What those who train are given to do, and whom they tell of it: the one thing that Ray's side knows of an execution."""

from __future__ import annotations

from typing import Any, Protocol

from engram.sweeps.study.configuration import Study
from engram.sweeps.trial.messages import Finished, Progress, Saved


class Work(Protocol):
    """Trials to train, and ears for what becomes of them. A trial is known by its number.

    stopping: no new trial is wanted, running ones are to be saved. at_once: nor is anything saved any more.
    waiting: there are trials for which it is too soon to be tried again.
    """

    @property
    def stopping(self) -> bool: ...

    @property
    def at_once(self) -> bool: ...

    @property
    def waiting(self) -> bool: ...

    def next(self) -> dict[str, Any] | None:
        """What the next trial is trained with (see CohortTrainable; `restore` and `earlier` with the bytes of each piece), and
        `failed_on`: ids of nodes that it failed on, in earlier runs too."""

    def tick(self, running: int) -> None:
        """Called a few times a second, with the number of trials in training."""

    def say(self, line: str) -> None:
        """A line that people should see."""

    def refuse(self, why: str, reason: str) -> None:
        """Nothing can be trained here: why, for people, and in a few words."""

    def shared(self, study: Study, said: str) -> None:
        """Trials that start from here on take another share of a GPU: the study's. said: why, for people."""

    def started(self, trial: int) -> None: ...

    def reported(self, trial: int, news: list[Progress], last: bool) -> None:
        """Evaluations since the last time; last: the trial ends with them, whatever it ends in."""

    def saved(self, trial: int, saved: Saved) -> None: ...

    def measured(self, trial: int, finished: Finished) -> None:
        """It was trained to its end."""

    def pruned(self, trial: int) -> None:
        """The scheduler stopped it."""

    def failed(self, trial: int, why: str) -> None:
        """An attempt raised; why: the traceback."""

    def lost(self, trial: int, why: str, node: bool) -> None:
        """An attempt ended without a word, with its worker, or with its whole node."""

    def faulted(self, trial: int, why: str) -> None:
        """An attempt ended by an error of its device, which is no fault of the trial."""

    def blamed(self, trial: int, node: str) -> None:
        """An attempt failed on the node with this id."""

    def set_aside(self, spot: str, why: str) -> None:
        """Nothing more is trained on a node or device: why, the last error there."""

    def hopeless(self, why: str) -> None:
        """Nothing can be trained any more, on any device."""
