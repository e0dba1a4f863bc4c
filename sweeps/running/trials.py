"""The trials of an execution: what each is started with, and how it ends.

A trial is committed when its record is in the ledger; what follows from the record (metrics, artifacts, the end
of its MLflow run) is repeated where a crash came in between. Knows neither Ray nor Tune.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps import state
from sweeps.definition.configuration import Study, label
from sweeps.running import checkpoint, outcomes, study_data
from sweeps.running.messages import Finished, Progress, Saved
from sweeps.running.stopping import FAILED
from sweeps.search.search import Proposal

if TYPE_CHECKING:
    from sweeps.runner import Execution

LONGEST_WHY = 2000
MOST_NODES = 20  # that a trial may lose before it is suspected itself
log = logging.getLogger(__name__)


class Trials:
    """What training tells of its trials, written down: the ledger first, then MLflow and the display."""

    def __init__(self, execution: Execution):
        self.execution = execution
        self.committed: set[int] = set()  # by this process
        self.last: dict[int, Progress] = {}  # what each running trial told last
        self.nodes_lost: Counter[int] = Counter()  # under each trial

    def config(self, proposal: Proposal) -> dict[str, Any]:
        """What the actor needs to know of a trial; `restore` and `earlier` are checkpoints as bytes, or None."""
        configuration, resources = proposal.configuration, self.execution.study.resources
        dataset = study_data.key(configuration.data)
        about: dict[str, Any] = {
            "config": configuration.hash,
            "data": self.execution.datasets[dataset].digest,
            "first": 0,
        }
        earlier = None
        if proposal.earlier is not None:
            wanted = {"config": proposal.earlier["config_hash"], "data": about["data"]}
            earlier = self.execution.checkpoints.final(proposal.number, **wanted)
            if earlier is not None:
                about["first"] = checkpoint.joinable(earlier, configuration.training.early_stopping)
                earlier = earlier if about["first"] else None
        restore = self.execution.checkpoints.newest(proposal.number, **about)
        if restore is not None:
            log.info("trial %d goes on from a checkpoint", proposal.number)
        return {
            "trial": proposal.number,
            "configuration": configuration.model_dump(),
            "about": about,
            "measures": self.execution.study.measures.model_dump(),
            "checkpoint": self.execution.study.checkpoint.model_dump(),
            "dataset": dataset,
            "cache": str(state.cache_dir()),
            "device": _device(self.execution.study),
            "threads": max(1, int(resources.cpu)),
            "stack": proposal.setbacks.stack,
            "restore": restore,
            "earlier": earlier,
        }

    def started(self, proposal: Proposal) -> None:
        configuration = proposal.configuration
        number, name = proposal.number, label(proposal.params)
        tags = {
            "engram.config_hash": configuration.hash,
            "engram.status": "running",
            "engram.attempt": str(proposal.attempt),
        }
        log.info("trial %d starts, attempt %d", number, proposal.attempt)
        self.execution.recorder.trial(number, name, tags, configuration.dotted())
        self.execution.review.trial_started(number, configuration)
        self.execution.display.trial_started(number, name, configuration.epochs)

    def reported(self, proposal: Proposal, news: list[Progress], ledger: bool = True) -> None:
        """What a trial told since the last time. After an interruption it tells everything again."""
        for progress in news:
            self.execution.recorder.metrics(proposal.number, progress.epoch, progress.metrics)
            if ledger:
                self.execution.search.report(proposal.number, progress.epoch, progress.metrics)
            self.execution.display.trial_reported(proposal.number, progress.epoch, progress.metrics)
            self.last[proposal.number] = progress

    def saved(self, proposal: Proposal, saved: Saved) -> None:
        """Keep a checkpoint."""
        if not self.execution.checkpoints.save(proposal.number, saved.step, saved.data):
            log.warning(
                "trial %d: a checkpoint of %.0f MiB is over checkpoint.max_mb",
                proposal.number,
                len(saved.data) / 2**20,
            )

    # -- how trials end -------------------------------------------------------------------------

    def measured(self, proposal: Proposal, finished: Finished) -> None:
        self._commit(proposal, finished.record, finished.arrays, finished.final)

    def pruned(self, proposal: Proposal) -> None:
        self._commit(
            proposal,
            outcomes.pruned(self.last[proposal.number], self.execution.study.replicas.count),
        )

    def failed(self, proposal: Proposal, why: str) -> None:
        """An attempt raised: try again, or give up."""
        log.error("trial %d, attempt %d failed:\n%s", proposal.number, proposal.attempt, why)
        self._set_back(proposal, why, None)

    def lost(self, proposal: Proposal, why: str, node: bool = False) -> None:
        """An attempt ended without a word: try again, with fewer replicas at a time where memory may be the reason.

        A node that is taken away is no fault of the trial: it does not count as an attempt.
        """
        number = proposal.number
        log.warning("trial %d, attempt %d: %s", number, proposal.attempt, why)
        if node and number not in self.committed and self.nodes_lost[number] < MOST_NODES:
            self.nodes_lost[number] += 1
            self.last.pop(number, None)
            self.execution.display.trial_left(number)
            self.execution.search.retry(number)
            return
        stack = (proposal.setbacks.stack or proposal.configuration.replicas.count) // 2
        if "memory" in why.lower():
            self._set_back(proposal, why, max(1, stack))
        else:
            # Only suspected, so nothing that could change the result: fully connected nets agree to the last
            # bit in stacks of two and more, on a CPU; one replica alone runs other kernels (test_cohort.py).
            self._set_back(proposal, why, max(2, stack) if proposal.setbacks.count else None)

    def _set_back(self, proposal: Proposal, why: str, stack: int | None) -> None:
        number = proposal.number
        if number in self.committed:
            return  # its worker died after it had handed in the result
        last = self.last.pop(number, None)
        setbacks = self.execution.search.set_back(number, last.epoch if last else 0, stack)
        if setbacks.count <= self.execution.study.faults.retries:
            self.execution.display.trial_left(number)
            self.execution.search.retry(number)
            return
        attempts = f"after {setbacks.count} attempts: " if setbacks.count > 1 else ""
        self._commit(proposal, outcomes.failed(attempts + why[-LONGEST_WHY:]))
        if self.execution.study.faults.on_failure == "stop":
            self.execution.stop.ask(f"trial {number} failed, and faults.on_failure is stop", FAILED)

    def _commit(
        self,
        proposal: Proposal,
        record: dict,
        arrays: bytes | None = None,
        final: bytes | None = None,
    ) -> None:
        """Make a trial's record durable, and send what belongs to it. From here on it is never run again."""
        number = proposal.number
        record = {
            "trial": number,
            "params": proposal.params,
            "config_hash": proposal.configuration.hash,
            **record,
        }
        if arrays:
            outcomes.write(self._arrays_path(number), arrays)
        self.execution.search.commit(number, record)
        self.committed.add(number)
        log.info("trial %d is committed: %s", number, record["status"])
        self.execution.checkpoints.finish(number, final)
        self.last.pop(number, None)
        self.announce(record)
        self.execution.review.trial_finished(record)
        self.execution.display.trial_finished(number, label(proposal.params), record)
        self.execution.refresh()

    def announce(self, record: dict) -> None:
        """Put what follows from a committed record on its way; done again where a crash came in between."""
        self._send_record(record)
        self.execution.search.settle(record["trial"])

    def _send_record(self, record: dict) -> None:
        number = record["trial"]
        self.execution.recorder.belongs(number, record["config_hash"])
        if self._arrays_path(number).exists():
            self.execution.recorder.artifact(number, self._arrays_path(number), keep=False)
        self.execution.recorder.metrics(
            number, record.get("epochs", 0), outcomes.final_metrics(record)
        )
        self.execution.recorder.tags(number, {"engram.status": record["status"]})
        self.execution.recorder.end(
            number, "FAILED" if record["status"] == "failed" else "FINISHED"
        )

    def announce_again(self, numbers: list[int]) -> None:
        """MLflow has lost, or never got, the end of these committed trials. Called from the writer's thread."""
        records = {record["trial"]: record for record in self.execution.search.records()}
        for number in set(numbers) & records.keys():
            log.warning("trial %d is recorded again: its run in MLflow had not ended", number)
            self._send_record(records[number])

    def _arrays_path(self, number: int) -> Path:
        return self.execution.folder / "outgoing" / f"trial-{number}" / "arrays.npz"


def _device(study: Study) -> str:
    if study.resources.device != "auto":
        return study.resources.device
    return "cuda" if study.resources.gpu > 0 else "cpu"
