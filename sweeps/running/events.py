"""What happens to trials, told in one direction: from those who train them to whoever listens."""

from __future__ import annotations

from typing import Any

from engram.sweeps.search.search import Proposal
from engram.sweeps.study.configuration import Study
from engram.sweeps.trial.messages import Progress

Record = dict[str, Any]


class Listener:
    """Hears what happens to the trials of an execution, in order. Each event is lost on who does not override it.

    What is told has happened: when a record is heard of, it is in the ledger.
    """

    def started(self, trial: Proposal) -> None:
        """An attempt begins."""

    def reported(self, trial: Proposal, progress: Progress) -> None:
        """An evaluation; after an interruption a trial tells of all of them again."""

    def left(self, trial: Proposal) -> None:
        """An attempt ended without a result; there will be another."""

    def committed(self, trial: Proposal, record: Record) -> None:
        """The trial is over: it completed, diverged, was pruned, or failed for good."""

    def set_aside(self, spot: str, why: str) -> None:
        """Nothing more is trained on a node or device, named; why: the last error there."""

    def shared(self, study: Study) -> None:
        """Trials take another share of a GPU from here on."""

    def last_run(self) -> None:
        """No further trial will start."""

    def ticked(self, running: int) -> None:
        """Some time has passed, with so many trials in training."""
