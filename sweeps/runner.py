"""Runs a study: every result is committed when it arrives, and what is interrupted goes on where it was.

What is finished is in the ledger (search), what is half done in checkpoints, what is to be recorded in
the outbox (tracking), and a new `run` starts from the three. Knows Ray only as `tuning`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps import leaderboard, lock, review, state, tables
from sweeps.definition.configuration import Study, label
from sweeps.running import checkpoint, live, outcomes, provenance, study_data, tuning
from sweeps.running.hidden import Hidden
from sweeps.running.stopping import (
    DONE,
    FAILED,
    INTERRUPTED,
    SOME_FAILED,
    Stop,
    Usage,
    full,
    gpus_of,
    is_full,
    signals,
)
from sweeps.running.trainable import Finished, Progress, Saved, joinable
from sweeps.search.ledger import LedgerError
from sweeps.search.search import Proposal, Search
from sweeps.tracking import store
from sweeps.tracking.recorder import STUDY, Recorder

REFRESH_S = (
    5.0  # the parent's table of trials is as fresh as this, and costs at most 1/20 of the time
)
SEND_AT_END_S = 30.0
LONGEST_WHY = 2000
LOG = "run.log"
log = logging.getLogger(__name__)


def run(study: Study, *, name: str | None = None, address: str | None = None) -> int:
    """Run a study, or go on where it stopped; returns the exit code.

    name: of this execution (default: the study's); address: of a Ray cluster (default: this machine).
    Ends in the leaderboards. Nothing that is committed is ever run again.
    """
    name = name or study.name
    folder = state.study_dir(name)
    hidden = Hidden(study)
    stop = Stop()
    execution: Execution | None = None
    try:
        _log_to(folder, hidden)
        with lock.held(folder, f"run {name}"), signals(stop):
            state.check_version(folder)
            execution = Execution(study, name, folder, address, stop, hidden)
            return execution.run()
    except (lock.Busy, LedgerError, study_data.Unsuitable, Incompatible) as error:
        live.warn(hidden.text(str(error)))
        return FAILED
    except KeyboardInterrupt:
        live.warn(f"interrupted; to go on: {_command(study, name)}")
        return INTERRUPTED
    except Exception as error:
        if is_full(error):
            live.warn(
                f"{full(error)}; nothing that was finished is lost. Free some space, then: {_command(study, name)}"
            )
            return FAILED
        log.exception("run %s", name)
        said = hidden.text(f"{type(error).__name__}: {error}")
        live.warn(f"{said}\n    details in {folder / LOG}; `run` again goes on where it stopped")
        return FAILED
    finally:
        if execution is not None:
            execution.close()


class Incompatible(RuntimeError):
    """What was found would not compare with what is there."""


class Execution:
    """One `run` of a study, from the ledger as it was to the ledger as it is left."""

    def __init__(
        self, study: Study, name: str, folder: Path, address: str | None, stop: Stop, hidden: Hidden
    ):
        self.study, self.name, self.folder, self.address = study, name, folder, address
        self.stop, self.hidden = stop, hidden
        self.search = Search(study, folder / "search.journal", name, study.faults.retry_failed)
        self.checkpoints = checkpoint.Store(
            folder / "checkpoints", study.checkpoint.keep, study.checkpoint.max_mb * 2**20
        )
        self.usage = Usage(folder)
        self.objective, self.direction = next(iter(study.search.objective.items()))
        self.running: dict[int, Proposal] = {}
        self.committed: set[int] = set()  # by this process
        self.last: dict[int, Progress] = {}  # what each running trial told last
        self.refreshed = 0.0
        self.refresh_pause = REFRESH_S
        self.recorder: Recorder

    def __reduce__(self) -> tuple:
        """Tune pickles its callbacks for a restore that never comes: it gets nothing of an execution."""
        return object, ()

    def __deepcopy__(self, memo: dict) -> Execution:
        return self

    def run(self) -> int:
        earlier = len(self.search.records())
        self.display = live.Display(
            self.search.planned, self.study.replicas.count, earlier, self.objective, self.direction
        )
        self._say_what_runs(earlier)
        with _libraries_quiet():
            self.datasets = study_data.load(self.study)
            origin = provenance.collect({key: data.digest for key, data in self.datasets.items()})
            changed = self._compare_origin(origin, earlier)
            self.recorder = self._recorder()
            self._record_study(origin, changed)
            self.review = review.Review(
                self.study, self.name, self.folder, self.recorder, self.datasets
            )
            self.review.started(self.search.records())
            for record in self.search.unsettled():
                self._announce(record)
            if self.recorder.outbox.damaged:
                log.warning("%d lines of the outbox were damaged", self.recorder.outbox.damaged)
                self._announce_again([record["trial"] for record in self.search.records()])
            self._stop_when_spent()
            if not self.search.finished and not self.stop.requested:
                tuning.train(self, self.datasets)
            return self._finish()

    def close(self) -> None:
        """Leave the files in order, however the run ended."""
        with contextlib.suppress(OSError):
            self.usage.write()
        self.search.close()

    def _say_what_runs(self, earlier: int) -> None:
        study, say = self.study, self.display.say
        planned = (
            "trials until the budget is spent"
            if self.search.planned is None
            else f"{self.search.planned} trials"
        )
        say(f"{self.name}: {study.question or 'no question given'}")
        went_on = f", {earlier} finished before" if earlier else ""
        say(f"{planned} x {study.replicas.count} replicas{went_on}")
        for line in self.search.changes:
            say(f"changed since the last run: {line}")
        if self.search.torn:
            log.warning("the ledger ended in %d bytes of a torn line: cut off", self.search.torn)

    # -- recording ------------------------------------------------------------------------------

    def _recorder(self) -> Recorder:
        uri = self.study.tracking.uri or state.mlflow_uri()
        experiment = self.study.tracking.experiment or self.study.name
        artifacts = (
            None if self.study.tracking.uri else (state.artifacts_dir() / experiment).as_uri()
        )
        resumed = (self.folder / "execution.json").exists()
        return Recorder(
            uri,
            self.folder,
            experiment,
            self.name,
            artifacts,
            self.search.set_run,
            resumed,
            self.search.trials,
            self._announce_again,
        )

    def _compare_origin(self, origin: dict[str, Any], finished: int) -> list[str]:
        """What differs from the last run in code, versions and data, in words; Incompatible where data does."""
        found = state.read_json(self.folder / "provenance.json")
        before = found if isinstance(found, dict) else {}
        changed = provenance.changes(before, origin)
        for line in changed:
            self.display.say(f"changed since the last run: {line}")
        if finished and (keys := provenance.changed_data(before, origin)):
            raise Incompatible(
                f"the data changed since the last run ({', '.join(keys)}): results of the {finished} finished trials "
                "would not compare with new ones\n    run it under another name (--name N), or put the data back"
                " (generated data: fix data.pool_size to the size it had)"
            )
        return changed

    def _record_study(self, origin: dict[str, Any], changed: list[str]) -> None:
        study = self.study
        params = {k: v for k, v in study.configure().dotted().items() if k not in study.sweep}
        params |= {f"sweep.{key}": str(axis) for key, axis in study.sweep.items()}
        params |= {
            "search.sampler": study.search.sampler,
            "search.seed": study.search.seed,
            "scheduler": study.scheduler.name,
        }
        tags = {f"engram.{key}": self.hidden.text(str(value)) for key, value in origin.items()}
        tags |= {
            "engram.status": "running",
            "engram.question": study.question,
            "mlflow.note.content": study.question,
        }
        changed = [*self.search.changes, *changed]
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
        files = {
            "study.yaml": study.text,
            "provenance.json": json.dumps(origin, indent=1),
            "execution.json": json.dumps(execution),
            "executions.jsonl": self._history(changed, origin),
        }
        for name, text in files.items():
            self.recorder.artifact(
                STUDY, state.write_text(self.folder / name, self.hidden.text(text))
            )

    def _history(self, changed: list[str], origin: dict[str, Any]) -> str:
        """One line for each `run` of this execution: when, with which code, and what had changed."""
        path = self.folder / "executions.jsonl"
        before = path.read_text(errors="replace") if path.exists() else ""
        entry = {
            "started": time.time(),
            "finished": len(self.search.records()),
            "changed": changed,
            "origin": origin,
        }
        return f"{before}{json.dumps(entry)}\n"

    def started(self, proposal: Proposal) -> None:
        configuration = proposal.configuration
        number, name = proposal.number, label(proposal.params)
        self.running[number] = proposal
        tags = {
            "engram.config_hash": configuration.hash,
            "engram.status": "running",
            "engram.attempt": str(proposal.attempt),
        }
        log.info("trial %d starts, attempt %d", number, proposal.attempt)
        self.recorder.trial(number, name, tags, configuration.dotted())
        self.review.trial_started(number, configuration)
        self.display.trial_started(number, name, configuration.epochs)

    def reported(self, proposal: Proposal, news: list[Progress], ledger: bool = True) -> None:
        """What a trial told since the last time. After an interruption it tells everything again."""
        for progress in news:
            self.recorder.metrics(proposal.number, progress.epoch, progress.metrics)
            if ledger:
                self.search.report(proposal.number, progress.epoch, progress.metrics)
            self.display.trial_reported(proposal.number, progress.epoch, progress.metrics)
            self.last[proposal.number] = progress

    def saved(self, proposal: Proposal, saved: Saved) -> None:
        """Keep a checkpoint."""
        if not self.checkpoints.save(proposal.number, saved.step, saved.data):
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
            proposal, outcomes.pruned(self.last[proposal.number], self.study.replicas.count)
        )

    def failed(self, proposal: Proposal, why: str, epoch: int) -> None:
        """An attempt raised: try again, or give up."""
        log.error("trial %d, attempt %d failed:\n%s", proposal.number, proposal.attempt, why)
        self._set_back(proposal, why, None)

    def lost(self, proposal: Proposal, why: str) -> None:
        """An attempt ended without a word: try again, with fewer replicas at a time where memory may be the reason."""
        log.warning("trial %d, attempt %d: %s", proposal.number, proposal.attempt, why)
        stack = proposal.setbacks.stack or proposal.configuration.replicas.count
        again = "memory" in why.lower() or proposal.setbacks.count > 0
        self._set_back(proposal, why, max(1, stack // 2) if again else None)

    def _set_back(self, proposal: Proposal, why: str, stack: int | None) -> None:
        number = proposal.number
        if number in self.committed:
            return  # its worker died after it had handed in the result
        last = self.last.pop(number, None)
        setbacks = self.search.set_back(number, last.epoch if last else 0, stack)
        self.running.pop(number, None)
        if setbacks.count <= self.study.faults.retries:
            self.display.trial_left(number)
            self.search.retry(number)
            return
        attempts = f"after {setbacks.count} attempts: " if setbacks.count > 1 else ""
        self._commit(proposal, outcomes.failed(attempts + why[-LONGEST_WHY:]))
        if self.study.faults.on_failure == "stop":
            self.stop.ask(f"trial {number} failed, and faults.on_failure is stop", FAILED)

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
        self.search.commit(number, record)
        self.committed.add(number)
        log.info("trial %d is committed: %s", number, record["status"])
        self.checkpoints.finish(number, final)
        self.running.pop(number, None)
        self.last.pop(number, None)
        self._announce(record)
        self.review.trial_finished(record)
        self.display.trial_finished(number, label(proposal.params), record)
        self._refresh()

    def _announce(self, record: dict) -> None:
        """Put what follows from a committed record on its way; done again where a crash came in between."""
        self._send_record(record)
        self.search.settle(record["trial"])

    def _send_record(self, record: dict) -> None:
        number = record["trial"]
        self.recorder.belongs(number, record["config_hash"])
        if self._arrays_path(number).exists():
            self.recorder.artifact(number, self._arrays_path(number), keep=False)
        self.recorder.metrics(number, record.get("epochs", 0), outcomes.final_metrics(record))
        self.recorder.tags(number, {"engram.status": record["status"]})
        self.recorder.end(number, "FAILED" if record["status"] == "failed" else "FINISHED")

    def _announce_again(self, numbers: list[int]) -> None:
        """MLflow has lost, or never got, the end of these committed trials. Called from the writer's thread."""
        records = {record["trial"]: record for record in self.search.records()}
        for number in set(numbers) & records.keys():
            log.warning("trial %d is recorded again: its run in MLflow had not ended", number)
            self._send_record(records[number])

    def _arrays_path(self, number: int) -> Path:
        return self.folder / "outgoing" / f"trial-{number}" / "arrays.npz"

    def _refresh(self, force: bool = False) -> None:
        """Keep the parent's table of trials fresh, so that a leaderboard can be read from MLflow alone."""
        now = time.monotonic()
        if not force and now - self.refreshed < self.refresh_pause:
            return
        path = self.folder / "trials.json"
        state.write_text(path, json.dumps(self.search.records()))
        self.recorder.artifact(STUDY, path)
        if self.recorder.problem:
            self.display.note = f"MLflow: {self.hidden.text(self.recorder.problem)}; results are kept and sent later"
        self.refreshed = time.monotonic()
        self.refresh_pause = max(REFRESH_S, 20 * (self.refreshed - now))

    # -- what training asks of an execution --------------------------------------------------------

    def trial_config(self, proposal: Proposal) -> dict[str, Any]:
        """What the actor needs to know of a trial; `restore` and `earlier` are checkpoints as bytes, or None."""
        configuration, resources = proposal.configuration, self.study.resources
        dataset = study_data.key(configuration.data)
        about: dict[str, Any] = {
            "config": configuration.hash,
            "data": self.datasets[dataset].digest,
            "first": 0,
        }
        earlier = None
        if proposal.earlier is not None:
            wanted = {"config": proposal.earlier["config_hash"], "data": about["data"]}
            earlier = self.checkpoints.final(proposal.number, **wanted)
            if earlier is not None:
                about["first"] = joinable(earlier, configuration.training.early_stopping)
                earlier = earlier if about["first"] else None
        restore = self.checkpoints.newest(proposal.number, **about)
        if restore is not None:
            log.info("trial %d goes on from a checkpoint", proposal.number)
        return {
            "trial": proposal.number,
            "configuration": configuration.model_dump(),
            "about": about,
            "measures": self.study.measures.model_dump(),
            "checkpoint": self.study.checkpoint.model_dump(),
            "dataset": dataset,
            "cache": str(state.cache_dir()),
            "device": _device(self.study),
            "threads": max(1, int(resources.cpu)),
            "stack": proposal.setbacks.stack,
            "restore": restore,
            "earlier": earlier,
        }

    def tick(self, running: int) -> None:
        """Called a few times a second while training: is it time to stop?"""
        self.usage.tick(gpus_of(self.study, running))
        self._stop_when_spent()
        problem = self.recorder.problem or ""
        if self.study.tracking.uri is None and is_full(problem):
            self.stop.ask(full(problem), FAILED)
        if self.recorder.refused and not self.stop.requested:
            self.stop.ask(self.hidden.text(self.recorder.refused), FAILED)

    def _stop_when_spent(self) -> None:
        spent = self.usage.spent(self.study.budget)
        if spent and not self.search.finished:
            self.stop.ask(spent, DONE)

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> int:
        records = self.search.records()
        complete = self.search.finished
        for number, (config_hash, committed) in self.search.trials().items():
            if committed:
                continue
            self.recorder.belongs(number, config_hash)
            self.recorder.tags(number, {"engram.status": "interrupted"})
            self.recorder.end(number, "KILLED")
        self._refresh(force=True)
        boards = leaderboard.boards_of(records)
        for path in tables.write_tables(boards, self.folder / "leaderboards"):
            self.recorder.table(STUDY, path)
        self.recorder.metrics(STUDY, len(records), leaderboard.best_metrics(boards))
        self.recorder.tags(STUDY, {"engram.status": "completed" if complete else "interrupted"})
        tables.show(boards, self.display.console)
        if len(self.study.search.objective) > 1:
            tables.show_front(records, dict(self.study.search.objective), self.display.console)
        self.review.finished(records, pictures=complete or not self.stop.requested)
        self.recorder.end(STUDY, "FINISHED" if complete else "KILLED")
        sent = self.recorder.close(SEND_AT_END_S)
        if not sent:
            live.warn(
                f"MLflow could not be reached ({self.hidden.text(str(self.recorder.problem))}); what is not sent waits in "
                f"{self.folder}, and the next `run {self.name}` sends it"
            )
        self._say_what_is_next(complete)
        if not complete:
            return self.stop.code
        failed = sum(r["status"] == "failed" for r in records)
        if failed == len(records) and records:
            return FAILED
        return SOME_FAILED if failed else DONE

    def _say_what_is_next(self, complete: bool) -> None:
        program = "python orchestrate.py"
        say = self.display.say
        say("")
        if not complete:
            why = f": {self.stop.reason}" if self.stop.reason else ""
            say(
                f"stopped with {len(self.search.records())} of {self.search.planned or '?'} trials finished{why}; to go on:"
            )
            say(f"  {_command(self.study, self.name)}")
        say(f"more of {self.name}:")
        say(f"  {program} leaderboard {self.name} --by variance")
        say(f"  {program} report {self.name} --out report.html")
        address = self.recorder.view_url()
        say(f"  {address}" if address else f"  {program} ui {self.name}")


def _command(study: Study, name: str) -> str:
    """How to go on with a study."""
    named = f" --name {name}" if name != study.name else ""
    return f"python orchestrate.py run {study.path or study.name}{named}"


def _device(study: Study) -> str:
    if study.resources.device != "auto":
        return study.resources.device
    return "cuda" if study.resources.gpu > 0 else "cpu"


def _definition(study: Study) -> dict[str, Any]:
    """The study as it was understood, for whoever reads it later; passwords in addresses left out."""
    definition = study.model_dump(mode="json")
    uri = definition["tracking"]["uri"]
    definition["tracking"]["uri"] = None if uri is None else store.without_password(uri)
    return definition


def _log_to(folder: Path, hidden: Hidden) -> None:
    """Details go to a file beside the study; people see only what they can act on."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / LOG)
    handler.setFormatter(hidden.formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.raiseExceptions = False  # a log that cannot be written must not print tracebacks
    for name in ("sweeps", "ray"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logging.getLogger("sweeps").setLevel(logging.INFO)


@contextmanager
def _libraries_quiet() -> Iterator[None]:
    """Warnings of libraries go to the log: a user can do nothing about them."""
    import warnings

    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = logging.getLogger("sweeps").handlers
    logging.getLogger("py.warnings").propagate = False
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield
    logging.captureWarnings(False)
    sys.stdout.flush()
