"""Runs a study: every result is committed when it arrives, and what is interrupted goes on where it was.

What is finished is in the ledger (search), what is half done in checkpoints, what is to be recorded in
the outbox (tracking), and a new `run` starts from the three. Knows Ray only as `cluster` and `tuning`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps import leaderboard, lock, review, state, tables
from sweeps.definition.configuration import Study
from sweeps.definition.problems import StudyError
from sweeps.running import checkpoint, live, provenance, study_data
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
from sweeps.running.trials import Trials
from sweeps.search.ledger import LedgerError
from sweeps.search.search import Search
from sweeps.tracking import store
from sweeps.tracking.recorder import STUDY, Recorder

REFRESH_S = (
    5.0  # the parent's table of trials is as fresh as this, and costs at most 1/20 of the time
)
SEND_AT_END_S = 30.0
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
            _check_version(folder)
            execution = Execution(study, name, folder, address, stop, hidden)
            return execution.run()
    except (lock.Busy, LedgerError, study_data.Unsuitable, Incompatible) as error:
        live.warn(hidden.text(str(error)))
        return FAILED
    except StudyError:
        raise  # bad input: the command line says so
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
        self.trials = Trials(self)
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
                self.trials.announce(record)
            if self.recorder.outbox.damaged:
                log.warning("%d lines of the outbox were damaged", self.recorder.outbox.damaged)
                self.trials.announce_again([record["trial"] for record in self.search.records()])
            self._stop_when_spent()
            if not self.search.finished and not self.stop.requested:
                self._train()
            return self._finish()

    def _train(self) -> None:
        from sweeps.running import cluster

        with cluster.connected(self.address, self.study), self.display:
            from sweeps.running import tuning  # Tune is imported while workers start

            tuning.train(self, self.datasets)
        shutil.rmtree(self.folder / "tune", ignore_errors=True)

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
            self.trials.announce_again,
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

    def refresh(self, force: bool = False) -> None:
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
        self.refresh(force=True)
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


def _check_version(folder: Path) -> None:
    try:
        state.check_version(folder)
    except StudyError as error:  # what was typed is in order: what lies there is not
        raise Incompatible(str(error)) from None


def _command(study: Study, name: str) -> str:
    """How to go on with a study."""
    named = f" --name {name}" if name != study.name else ""
    return f"python orchestrate.py run {study.path or study.name}{named}"


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
