"""What an execution puts on record in MLflow: the study as it was run, its trials, and the parent's tables.

Everything goes through the recorder's outbox: nothing here waits for a server.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.results import boards, tables
from engram.sweeps.running.events import Listener, Record
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.search.search import Proposal, Search
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.tracking import store
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.trial import outcomes
from engram.sweeps.trial.messages import Progress

# The parent's table of trials is as fresh as this, and costs at most 1/20 of the time.
REFRESH_S = 5.0
log = logging.getLogger(__name__)


class Recording(Listener):
    """The record of one execution. records(): those that are committed, in order of their numbers."""

    def __init__(self, study: Study, name: str, folder: Path, search: Search, secrets: Secrets):
        self.study, self.name, self.folder, self.secrets = study, name, folder, secrets
        self.records: Callable[[], list[Record]] = search.records
        self._refreshed, self._pause = 0.0, REFRESH_S
        experiment = study.tracking.experiment or study.name
        uri = study.tracking.uri
        self.recorder = Recorder(
            uri or paths.mlflow_uri(),
            folder,
            experiment,
            name,
            None if uri else (paths.artifacts_dir() / experiment).as_uri(),
            search.set_run,
            (folder / "execution.json").exists(),
            search.trials,
            self._announce_again,
        )

    @property
    def problem(self) -> str:
        """Why MLflow could not be reached the last time, as it may be shown; empty where it could."""
        return self.secrets.hidden(self.recorder.problem or "")

    @property
    def refused(self) -> str:
        """Why nothing can ever be sent to this store; empty where it can."""
        return self.secrets.hidden(self.recorder.refused or "")

    # -- the study ------------------------------------------------------------------------------

    def begin(self, origin: dict[str, Any], changed: Sequence[str]) -> None:
        """The execution starts, or goes on. origin: its provenance; changed: since the last time, in words."""
        study = self.study
        params = {k: v for k, v in study.configure().dotted().items() if k not in study.sweep}
        params |= {f"sweep.{key}": str(axis) for key, axis in study.sweep.items()}
        params |= {
            "search.sampler": study.search.sampler,
            "search.seed": study.search.seed,
            "scheduler": study.scheduler.name,
        }
        tags = {f"engram.{key}": self.secrets.hidden(str(value)) for key, value in origin.items()}
        tags |= {
            "engram.status": "running",
            "engram.question": study.question,
            "mlflow.note.content": study.question,
        }
        if changed:
            tags["engram.changed"] = "; ".join(changed)
        self.recorder.study(tags, params)
        execution = {
            "name": self.name,
            "study": study.name,
            "question": study.question,
            "started": time.time(),
            "overrides": study.overrides,
            "definition": _definition(study),
        }
        texts = {
            "study.yaml": study.text,
            "provenance.json": json.dumps(origin, indent=1),
            "execution.json": json.dumps(execution),
            "executions.jsonl": self._history(changed, origin),
        }
        for name, text in texts.items():
            path = files.write(self.folder / name, self.secrets.hidden(text))
            self.recorder.artifact(STUDY, path)
        if self.recorder.outbox.damaged:
            log.warning("%d lines of the outbox were damaged", self.recorder.outbox.damaged)
            self._announce_again([record["trial"] for record in self.records()])

    def _history(self, changed: Sequence[str], origin: dict[str, Any]) -> str:
        """One line for each `run` of this execution: when, with which code, and what had changed."""
        path = self.folder / "executions.jsonl"
        before = path.read_text(errors="replace") if path.exists() else ""
        entry = {
            "started": time.time(),
            "finished": len(self.records()),
            "changed": list(changed),
            "origin": origin,
        }
        return f"{before}{json.dumps(entry)}\n"

    def refresh(self, force: bool = False) -> None:
        """Keep the parent's table of trials fresh, so that a leaderboard can be read from MLflow alone."""
        now = time.monotonic()
        if not force and now - self._refreshed < self._pause:
            return
        path = files.write(self.folder / "trials.json", json.dumps(self.records()))
        self.recorder.artifact(STUDY, path)
        self._refreshed = time.monotonic()
        self._pause = max(REFRESH_S, 20 * (self._refreshed - now))

    def rank(self, found: Sequence[boards.Board], complete: bool) -> None:
        """The boards of the execution, and whether it came to its end."""
        for path in tables.write_tables(found, self.folder / "leaderboards"):
            self.recorder.table(STUDY, path)
        self.recorder.metrics(STUDY, len(self.records()), boards.best_metrics(found))
        self.recorder.tags(STUDY, {"engram.status": "completed" if complete else "interrupted"})

    # -- its trials -----------------------------------------------------------------------------

    def started(self, trial: Proposal) -> None:
        configuration = trial.configuration
        tags = {
            "engram.config_hash": configuration.hash,
            "engram.status": "running",
            "engram.attempt": str(trial.attempt),
        }
        name = label(trial.params)
        self.recorder.trial(trial.number, name, tags, configuration.dotted())

    def reported(self, trial: Proposal, progress: Progress) -> None:
        self.recorder.metrics(trial.number, progress.epoch, progress.metrics)

    def committed(self, trial: Proposal, record: Record) -> None:
        self.announce(record)
        self.refresh()

    def announce(self, record: Record) -> None:
        """Put what follows from a committed record on its way; done again where a crash came in between."""
        number, arrays = record["trial"], paths.arrays_file(self.folder, record["trial"])
        self.recorder.belongs(number, record["config_hash"])
        if arrays.exists():
            self.recorder.artifact(number, arrays, keep=False)
        metrics = outcomes.final_metrics(record)
        self.recorder.metrics(number, record.get("epochs", 0), metrics)
        self.recorder.tags(number, {"engram.status": record["status"]})
        status = "FAILED" if record["status"] == "failed" else "FINISHED"
        self.recorder.end(number, status)

    def interrupted(self, number: int, config_hash: str) -> None:
        """A trial that the execution leaves unfinished."""
        self.recorder.belongs(number, config_hash)
        self.recorder.tags(number, {"engram.status": "interrupted"})
        self.recorder.end(number, "KILLED")

    def _announce_again(self, numbers: list[int]) -> None:
        """MLflow has lost, or never got, the end of these committed trials. Called from the writer's thread."""
        records = {record["trial"]: record for record in self.records()}
        for number in set(numbers) & records.keys():
            log.warning("trial %d is recorded again: its run in MLflow had not ended", number)
            self.announce(records[number])


def _definition(study: Study) -> dict[str, Any]:
    """The study as it was understood, for whoever reads it later; passwords in addresses left out."""
    definition = study.model_dump(mode="json")
    uri = definition["tracking"]["uri"]
    definition["tracking"]["uri"] = None if uri is None else store.without_password(uri)
    return definition
