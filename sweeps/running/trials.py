"""The trials of an execution: what each is started with, and how it ends.

A trial is committed when its record is in the ledger; what follows from the record is the listeners'. Knows
neither Ray nor MLflow nor how anything is shown.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engram import files, program
from engram.sweeps.running.checkpoints import Store
from engram.sweeps.running.events import Listener
from engram.sweeps.running.failed_on import FailedOn
from engram.sweeps.running.stopping import Stop
from engram.sweeps.search.search import Proposal, Search
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Configuration, Study
from engram.sweeps.trial import checkpoint, datasets, outcomes
from engram.sweeps.trial.messages import Finished, Progress, Saved

LONGEST_WHY = 2000
MOST_NODES = 20  # that a trial may lose before it is suspected itself
MOST_FAULTS = 6  # of devices, that a trial may meet before it is
WAIT_S, LONGEST_WAIT_S = (
    1.0,
    60.0,
)  # before the second attempt of a trial; doubled with each further one
log = logging.getLogger(__name__)


class Trials:
    """Trials for those who train (cluster.Work); what they tell is written down first, and then told on.

    folder: of the study; digests: {key of a dataset: its digest}.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        search: Search,
        checkpoints: Store,
        digests: dict[str, str],
        stop: Stop,
        listeners: Sequence[Listener],
    ):
        self.study, self.folder, self.search, self.checkpoints = study, folder, search, checkpoints
        self.digests, self.stop, self.listeners = digests, stop, listeners
        self.training: dict[int, Proposal] = {}
        self.committed: set[int] = set()  # by this process
        self.last: dict[int, Progress] = {}  # what each running trial told last
        self.nodes_lost: Counter[int] = Counter()  # under each trial
        self.faults: Counter[int] = Counter()  # of devices, under each trial
        self.failed_on = FailedOn(folder)
        self.left: Counter[int] = Counter()  # attempts without a result, of each trial
        self.later: list[tuple[float, int]] = []  # (when, trial) of those to be tried again

    # -- what those who train ask ---------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self.stop.requested

    @property
    def at_once(self) -> bool:
        return self.stop.now

    @property
    def waiting(self) -> bool:
        return bool(self.later)

    def next(self) -> dict[str, Any] | None:
        """What the next trial is trained with, an interrupted one first; None where there is none to start now."""
        with self.stop.when_full():
            for due, number in sorted(self.later, reverse=True):
                if due <= time.monotonic():
                    self.later.remove((due, number))
                    self.search.retry(number)
            proposal = self.search.ask()
            if proposal is None and self.later:
                return None
            if proposal is None:
                for listener in self.listeners:
                    listener.last_run()
                return None
            config = self._config(proposal)
            self.training[proposal.number] = proposal
            return config
        return None

    def _config(self, proposal: Proposal) -> dict[str, Any]:
        """What the actor needs to know of a trial; `restore` and `earlier` are pieces of checkpoints, or None."""
        configuration, resources = proposal.configuration, self.study.resources
        dataset = datasets.key(configuration.data)
        about: dict[str, Any] = {
            "config": configuration.hash,
            "data": self.digests[dataset],
            "first": 0,
        }
        earlier = None
        if proposal.earlier is not None:
            wanted = {"config": proposal.earlier["config_hash"], "data": about["data"]}
            earlier = self.checkpoints.finals(proposal.number, **wanted)
            patience = configuration.training.early_stopping
            each = [checkpoint.joinable(piece.data, patience) for piece in earlier]
            about["first"] = sum(each) if all(each) else 0
            earlier = earlier if about["first"] else None
        restore = self.checkpoints.newest(proposal.number, **about)
        if restore:
            log.info("trial %d goes on from a checkpoint", proposal.number)
        return {
            "trial": proposal.number,
            "configuration": configuration.model_dump(),
            "about": about,
            "measures": self.study.measured.model_dump(),
            "checkpoint": self.study.checkpoint.model_dump(),
            "dataset": dataset,
            "cache": str(paths.cache_dir()),
            "scratch": str(self._scratch(proposal.number)),
            "device": _device(self.study),
            "deterministic": resources.deterministic,
            "gpu": resources.gpu,
            "failed_on": self.failed_on.nodes(configuration.hash),
            "threads": max(1, int(resources.cpu)),
            "stack": proposal.setbacks.stack,
            "workers": self._workers,
            "held": None,
            "in_turns": self._in_turns(configuration),
            "restore": restore or None,
            "earlier": earlier,
        }

    def _in_turns(self, configuration: Configuration) -> bool:
        """Whether nothing needs all replicas of a trial at once, before they are trained."""
        return configuration.training.early_stopping is None and not self.study.prunes

    @property
    def _workers(self) -> int:
        workers = self.study.resources.workers
        return 1 if workers == "auto" else workers  # until it is settled

    def _scratch(self, trial: int) -> Path:
        """Where a training function may write while its trial is not over."""
        return (self.folder / "scratch" / f"trial-{trial}").resolve()

    # -- what they tell -------------------------------------------------------------------------

    def tick(self, running: int) -> None:
        with self.stop.when_full():
            for listener in self.listeners:
                listener.ticked(running)

    def say(self, line: str) -> None:
        program.warn(line)

    def refuse(self, why: str, reason: str) -> None:
        program.warn(why)
        self.stop.ask(reason, program.BAD_INPUT)

    def shared(self, study: Study, said: str) -> None:
        self.study = study
        self.say(said)
        for listener in self.listeners:
            listener.shared(study)

    def started(self, trial: int) -> None:
        proposal = self.training[trial]
        log.info("trial %d starts, attempt %d", trial, proposal.attempt)
        with self.stop.when_full():
            for listener in self.listeners:
                listener.started(proposal)

    def reported(self, trial: int, news: list[Progress], last: bool = False) -> None:
        """What a trial told since the last time. The last report of one that ends with it is in its record."""
        proposal = self.training[trial]
        with self.stop.when_full():
            for progress in news:
                if not last:
                    self.search.report(trial, progress.epoch, progress.metrics)
                for listener in self.listeners:
                    listener.reported(proposal, progress)
                self.last[trial] = progress

    def saved(self, trial: int, saved: Saved) -> None:
        """Keep a piece of a checkpoint."""
        with self.stop.when_full():
            if not self.checkpoints.save(trial, saved):
                size = len(saved.data) / 2**20
                log.warning("trial %d: %.0f MiB are over checkpoint.max_mb", trial, size)

    def measured(self, trial: int, finished: Finished) -> None:
        with self.stop.when_full():
            proposal = self.training[trial]
            self._commit(proposal, finished.record, finished.arrays, finished.final)

    def pruned(self, trial: int) -> None:
        with self.stop.when_full():
            record = outcomes.pruned(self.last[trial], self.study.replicas.count)
            self._commit(self.training[trial], record)

    def failed(self, trial: int, why: str) -> None:
        """An attempt raised: try again, or give up."""
        proposal = self.training[trial]
        log.error("trial %d, attempt %d failed:\n%s", trial, proposal.attempt, why)
        with self.stop.when_full():
            self._set_back(proposal, why, None)

    def lost(self, trial: int, why: str, node: bool = False) -> None:
        """An attempt ended without a word: try again, with fewer replicas at a time where memory may be the reason.

        A node that is taken away is no fault of the trial: it does not count as an attempt.
        """
        proposal = self.training[trial]
        log.warning("trial %d, attempt %d: %s", trial, proposal.attempt, why)
        with self.stop.when_full():
            if node and trial not in self.committed and self.nodes_lost[trial] < MOST_NODES:
                self.nodes_lost[trial] += 1
                self._leave(proposal)
                return
            stack = (proposal.setbacks.stack or proposal.configuration.replicas.count) // 2
            if "memory" in why.lower():
                self._set_back(proposal, why, max(1, stack))
            else:
                # Only suspected, so nothing that could change the result: fully connected nets agree to the last
                # bit in stacks of two and more, on a CPU; one replica alone runs other kernels (test_cohort.py).
                self._set_back(proposal, why, max(2, stack) if proposal.setbacks.count else None)

    def faulted(self, trial: int, why: str) -> None:
        """An attempt met a fault of its device: it is made again elsewhere, and does not count."""
        proposal = self.training[trial]
        log.error("trial %d, attempt %d met a fault:\n%s", trial, proposal.attempt, why)
        with self.stop.when_full():
            self.faults[trial] += 1
            if trial not in self.committed and self.faults[trial] <= MOST_FAULTS:
                self._leave(proposal)
            else:
                self._set_back(proposal, why, None)

    def blamed(self, trial: int, node: str) -> None:
        with self.stop.when_full():
            self.failed_on.add(self.training[trial].configuration.hash, node)

    def set_aside(self, spot: str, why: str) -> None:
        log.error("%s is set aside: %s", spot, why)
        with self.stop.when_full():
            for listener in self.listeners:
                listener.set_aside(spot, why)

    def hopeless(self, why: str) -> None:
        reason = f"every attempt ends in an error of its device ({why})"
        self.stop.ask(reason, program.FAILED)

    # -- how trials end -------------------------------------------------------------------------

    def _set_back(self, proposal: Proposal, why: str, stack: int | None) -> None:
        number = proposal.number
        if number in self.committed:
            return  # its worker died after it had handed in the result
        last = self.last.get(number)
        setbacks = self.search.set_back(number, last.epoch if last else 0, stack)
        if setbacks.count <= self.study.faults.retries:
            self._leave(proposal)
            return
        attempts = f"after {setbacks.count} attempts: " if setbacks.count > 1 else ""
        self._commit(proposal, outcomes.failed(attempts + why[-LONGEST_WHY:]))
        if self.study.faults.on_failure == "stop":
            reason = f"trial {number} failed, and faults.on_failure is stop"
            self.stop.ask(reason, program.FAILED)

    def _leave(self, proposal: Proposal) -> None:
        """Put a trial back: there will be another attempt, after a longer wait each time."""
        number = proposal.number
        self.last.pop(number, None)
        for listener in self.listeners:
            listener.left(proposal)
        wait_s = min(LONGEST_WAIT_S, WAIT_S * 2.0 ** self.left[number])
        self.left[number] += 1
        self.later.append((time.monotonic() + wait_s, number))

    def _commit(
        self,
        proposal: Proposal,
        record: dict,
        arrays: bytes | None = None,
        final: list[Saved] | None = None,
    ) -> None:
        """Make a trial's record durable, and tell of it. From here on it is never run again."""
        number = proposal.number
        record = {
            "trial": number,
            "params": proposal.params,
            "config_hash": proposal.configuration.hash,
            **record,
        }
        if arrays:
            files.write(paths.arrays_file(self.folder, number), arrays)
        self.search.commit(number, record)
        self.committed.add(number)
        log.info("trial %d is committed: %s", number, record["status"])
        self.checkpoints.finish(number, final)
        shutil.rmtree(self._scratch(number), ignore_errors=True)
        self.last.pop(number, None)
        for listener in self.listeners:
            listener.committed(proposal, record)
        # Once all that follows from it is on its way: after a crash in between it is told of again.
        self.search.settle(number)


def _device(study: Study) -> str:
    if study.resources.device != "auto":
        return study.resources.device
    return "cpu" if study.resources.gpu in (0, "auto") else "cuda"
