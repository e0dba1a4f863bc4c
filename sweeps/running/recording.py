"""What an execution puts on record in MLflow: the study as it was run, its trials, and the parent's tables.

Everything goes through the recorder's outbox: nothing here waits for a server.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engram import files
from engram.models.config import SHAPE_KEYS
from engram.sweeps.results import boards, inventory, tables
from engram.sweeps.running.curves import Curves, curves_of
from engram.sweeps.running.events import Listener, Record
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.search.search import Proposal, Search
from engram.sweeps.state import owner, paths
from engram.sweeps.study.configuration import Configuration, Study, label
from engram.sweeps.tracking import pages, store
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.trial import datasets, outcomes
from engram.sweeps.trial.messages import Progress
from engram.sweeps.trial.outcomes import grouped

BEST_SO_FAR = "best_so_far"
FILES = ("study.yaml", "provenance.json", "execution.json", "executions.jsonl")
FIRST_ANSWER_S = (
    25.0  # to wait for a store's first answer; one that is away is waited for while training
)
# The parent's table of trials is as fresh as this, and costs at most 1/20 of the time.
REFRESH_S = 5.0
LONGEST_TAG = 5000  # characters; MLflow cuts at 8,000
log = logging.getLogger(__name__)


class Recording(Listener):
    """The record of one execution. records(): those that are committed, in order of their numbers; datasets:
    {key: Dataset} of the study.
    """

    def __init__(
        self,
        study: Study,
        name: str,
        folder: Path,
        search: Search,
        secrets: Secrets,
        datasets: dict[str, Any],
    ):
        self.study, self.name, self.folder, self.secrets = study, name, folder, secrets
        self.datasets = datasets
        self.records: Callable[[], list[Record]] = search.records
        self.again: set[int] = set()  # trials that the store had lost, and that are recorded anew
        self.without_arrays: set[int] = set()  # those of them whose arrays are no longer here
        self.curves = Curves(folder)
        self._resumed = (folder / "execution.json").exists()
        self._started: tuple[dict[str, str], dict[str, Any]] = ({}, {})
        self._counted = 0
        self._best: float | None = None
        self._ended: str | None = None
        self._arrived = False  # whether everything did
        self._refreshed, self._pause = 0.0, REFRESH_S
        self._aside: list[str] = []  # nodes and devices, each with its last error
        experiment = study.tracking.experiment or study.name
        uri = study.tracking.uri
        self.recorder = Recorder(
            uri or paths.mlflow_uri(),
            folder,
            experiment,
            name,
            None if uri else (paths.artifacts_dir() / experiment).as_uri(),
            search.set_run,
            self._resumed,
            search.trials,
            self._announce_again,
            study.tracking.register_as if study.tracking.model else None,
        )
        self._waiting = not self.recorder.outbox.empty  # whether results had to wait at any time

    @property
    def problem(self) -> str:
        """Why MLflow could not be reached the last time, as it may be shown; empty where it could."""
        return self.secrets.hidden(self.recorder.problem or "")

    @property
    def refused(self) -> str:
        """Why nothing can ever be sent to this store; empty where it can."""
        return self.secrets.hidden(self.recorder.refused or "")

    def rejected(self) -> str:
        """Why the store will never take this execution, found before anything is trained; empty where it does."""
        return self.secrets.hidden(self.recorder.rejected(FIRST_ANSWER_S) or "")

    def settle(self, timeout_s: float) -> None:
        """Wait until what the store had lost is recorded again: tables name the runs of trials."""
        if self._resumed:
            self.recorder.settled.wait(timeout_s)

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
        tags = {
            pages.name_of(f"engram.{key}"): self.secrets.hidden(str(value))
            for key, value in origin.items()
        }
        tags |= {
            "engram.status": "running",
            "engram.owner": owner.owner(),
            "engram.host": owner.host(),
            "mlflow.user": owner.owner(),
            "engram.question": study.question,
            "mlflow.note.content": study.question,
        }
        if changed:
            tags["engram.changed"] = "; ".join(changed)
        self._started = tags, params
        self._announce_study()
        for record in self.records():
            self._count(record)
        execution = {
            "name": self.name,
            "study": study.name,
            "question": study.question,
            "started": time.time(),
            "overrides": study.overrides,
            "path": None if study.path is None else str(study.path.resolve()),
            "owner": owner.owner(),
            "host": owner.host(),
            "definition": _definition(study),
        }
        texts = {
            "study.yaml": study.text,
            "provenance.json": json.dumps(origin, indent=1),
            "execution.json": json.dumps(execution),
            "executions.jsonl": self._history(changed, origin),
        }
        for name, text in texts.items():
            files.write(self.folder / name, self.secrets.hidden(text))
        self._announce_files()
        if self.recorder.outbox.damaged:
            log.warning("%d lines of the outbox were damaged", self.recorder.outbox.damaged)
            self._announce_again([record["trial"] for record in self.records()])

    def _announce_study(self) -> None:
        self.recorder.study(*self._started)
        inputs = [
            pages.dataset(key, data.digest, pool=len(data.targets), test=len(data.test_targets))
            for key, data in self.datasets.items()
        ]
        self.recorder.inputs(STUDY, inputs)

    def _announce_files(self) -> None:
        for name in FILES:
            self.recorder.artifact(STUDY, self.folder / name)

    def _count(self, record: Record) -> None:
        """The best value after each trial makes a curve on the parent run."""
        self._counted += 1
        objective, direction = next(iter(self.study.search.objective.items()))
        value = record["selection"].get(objective)
        if record["status"] == "completed" and value is not None and math.isfinite(value):
            better = min if direction == "min" else max
            self._best = value if self._best is None else better(self._best, value)
        if self._best is not None:
            self.recorder.metrics(STUDY, self._counted, {BEST_SO_FAR: self._best})

    def _history(self, changed: Sequence[str], origin: dict[str, Any]) -> str:
        """One line for each `run` of this execution: when, with which code, and what had changed."""
        path = self.folder / "executions.jsonl"
        before = path.read_text(errors="replace") if path.exists() else ""
        entry = {
            "started": time.time(),
            "finished": len(self.records()),
            "changed": list(changed),
            "owner": owner.owner(),
            "host": owner.host(),
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
        self.recorder.metrics(STUDY, len(self.records()), _best_metrics(found))
        self.recorder.tags(STUDY, {"engram.status": "completed" if complete else "interrupted"})

    # -- its trials -----------------------------------------------------------------------------

    def started(self, trial: Proposal) -> None:
        configuration = trial.configuration
        tags = {
            "engram.config_hash": configuration.hash,
            "engram.status": "running",
            "engram.attempt": str(trial.attempt),
        }
        self._begin_trial(trial.number, trial.params, configuration, tags)

    def _begin_trial(
        self,
        number: int,
        params: dict[str, Any],
        configuration: Configuration,
        tags: dict[str, str],
    ) -> None:
        tags = {**tags, "mlflow.user": owner.owner()}
        self.recorder.trial(number, label(params), tags, configuration.dotted())
        data = configuration.data
        key = datasets.key(data)
        if key in self.datasets:
            digest = self.datasets[key].digest
            self.recorder.inputs(number, [pages.dataset(key, digest, train_size=data.train_size)])

    def reported(self, trial: Proposal, progress: Progress) -> None:
        self.curves.add(trial.number, progress.epoch, progress.metrics)
        self.recorder.metrics(trial.number, progress.epoch, grouped("curve", progress.metrics))

    def left(self, trial: Proposal) -> None:
        self.curves.forget(trial.number)

    def set_aside(self, spot: str, why: str) -> None:
        self._aside.append(f"{spot}: {why}")
        said = self.secrets.hidden("; ".join(self._aside))
        self.recorder.tags(STUDY, {"engram.set_aside": said[:LONGEST_TAG]})

    def committed(self, trial: Proposal, record: Record) -> None:
        self._waiting = True
        self.curves.keep(trial.number, record["config_hash"])
        self.announce(record)
        self._count(record)
        self.refresh()

    def announce(self, record: Record) -> None:
        """Put what follows from a committed record on its way; done again where a crash came in between."""
        number, arrays = record["trial"], paths.arrays_file(self.folder, record["trial"])
        self.recorder.belongs(number, record["config_hash"])
        if arrays.exists():
            # The embedded store's copy lies in the same folder; what a server has, only it has.
            self.recorder.artifact(number, arrays, keep=self.study.tracking.uri is not None)
        metrics = outcomes.final_metrics(record)
        self.recorder.metrics(number, record.get("epochs") or 0, metrics)
        self.recorder.tags(number, {"engram.status": record["status"]})
        status = "FAILED" if record["status"] == "failed" else "FINISHED"
        self.recorder.end(number, status)

    def interrupted(self, number: int, config_hash: str) -> None:
        """A trial that the execution leaves unfinished."""
        self.recorder.belongs(number, config_hash)
        self.recorder.tags(number, {"engram.status": "interrupted"})
        self.recorder.end(number, "KILLED")

    @property
    def ended(self) -> bool:
        """Whether the parent run was told to end."""
        return self._ended is not None

    @property
    def reached(self) -> bool:
        """Whether the store has any result, where there is one to have."""
        return self._arrived or not self._waiting or self.recorder.results > 0

    def close(self, timeout_s: float, status: str) -> None:
        """End the parent run (FINISHED, FAILED, KILLED), and send what is left."""
        self._ended = status
        self.recorder.end(STUDY, status)
        self._arrived = self.recorder.close(timeout_s)
        if self.recorder.study_run_id is not None:
            text = json.dumps({"run_id": self.recorder.study_run_id})
            files.write(self.folder / inventory.PARENT, text)
        self.curves.close()

    def told(self) -> list[str]:
        """What a person must know of the record at the end: what waits, what was refused, what was lost."""
        lines, where = [], store.without_password(self.recorder.uri)
        if not self._arrived:
            none = "" if self.reached else "no result reached a store: "
            lines.append(
                f"{none}MLflow could not be reached ({self.problem}); what is not sent waits in "
                f"{self.folder}, and the next `run {self.name}` sends it"
            )
        refusals = self.recorder.refusals
        if refusals.count:
            were = "1 message was" if refusals.count == 1 else f"{refusals.count} messages were"
            lines.append(
                f"{were} refused by {where} and kept in {refusals.path}; the first: {refusals.reason}"
            )
        if self.again:
            had = "1 trial was" if len(self.again) == 1 else f"{len(self.again)} trials were"
            lines.append(f"{had} missing in {where}: recorded again, as a whole")
        if self.without_arrays:
            numbers = ", ".join(map(str, sorted(self.without_arrays)[:10]))
            lines.append(
                f"without their arrays, which are not on this machine any more: trials {numbers}"
                + (" and others" if len(self.without_arrays) > 10 else "")
            )
        return [self.secrets.hidden(line) for line in lines]

    # -- what MLflow has lost -------------------------------------------------------------------

    def _announce_again(self, numbers: list[int]) -> None:
        """MLflow has lost, or never got, (the end of) these committed trials, or the parent's own record:
        they are recorded whole. Called from the writer's thread.
        """
        records = {record["trial"]: record for record in self.records()}
        if STUDY in numbers:
            log.warning("the study's own run is recorded again: MLflow had lost it")
            self._announce_study()
            self._announce_files()
            self._counted, self._best = 0, None
            for record in records.values():
                self._count(record)
        lost = sorted(set(numbers) & records.keys())
        curves = self.curves.read(set(lost))
        verdicts = files.read_json(self.folder / "verdicts.json")
        for number in lost:
            log.warning(
                "trial %d is recorded again: MLflow had lost its run, or the end of it", number
            )
            self.again.add(number)
            record = records[number]
            tags = {"engram.config_hash": record["config_hash"], "engram.status": record["status"]}
            if isinstance(verdicts, dict):
                tags |= verdicts.get(str(number), {})
            configuration = self.study.configure(record["params"])
            self._begin_trial(number, record["params"], configuration, tags)
            arrays = self._arrays_again(record)
            points = curves.get((number, record["config_hash"])) or curves_of(arrays)
            for epoch, metrics in points.items():
                self.recorder.metrics(number, epoch, grouped("curve", metrics))
            self.announce(record)
        if self._ended is not None:
            self.recorder.end(STUDY, self._ended)

    def _arrays_again(self, record: Record) -> Path | None:
        """Put a trial's arrays on their way from where they lie; None where they are not here any more."""
        number, run_id = record["trial"], record.get("run_id")
        here = paths.arrays_file(self.folder, number)
        if here.exists():
            return here  # `announce` sends it
        stored = paths.artifacts_dir().glob(f"*/{run_id}/artifacts/{here.name}") if run_id else ()
        found = next(iter(stored), None)
        if found is not None:
            self.recorder.artifact(number, found)
        elif record["status"] == "completed":
            self.without_arrays.add(number)
        return found


def _best_metrics(found: Sequence[boards.Board]) -> dict[str, float]:
    """What the boards rank by, of one trial: the first of the board that selects."""
    first = found[0].rows[0] if found and found[0].rows else None
    if first is None or first.tie_group is None:
        return {}
    measures = first.record["measures"]
    names = dict.fromkeys([*(board.by for board in found), "test_error"])
    return grouped("best", {name: (measures.get(name) or {}).get("mean") for name in names})


def _definition(study: Study) -> dict[str, Any]:
    """The study as it was understood, for whoever reads it later; passwords in addresses left out."""
    definition = study.model_dump(mode="json")
    # Else what the study leaves to a class of one's own among swept families would be said once it is read again.
    left = set(SHAPE_KEYS) - study.model.model_fields_set
    definition["model"] = {k: v for k, v in definition["model"].items() if k not in left}
    uri = definition["tracking"]["uri"]
    definition["tracking"]["uri"] = None if uri is None else store.without_password(uri)
    return definition
