"""Runs a study: every result is committed when it arrives, and what is interrupted goes on where it was.

What is finished is in the ledger (search), what is half done in checkpoints, what is to be recorded in
the outbox (tracking), and a new `run` starts from the three. Knows Ray only as `cluster`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram import files, program
from engram.problems import StudyError
from engram.sweeps.cluster import address as cluster_address
from engram.sweeps.results import boards, evidence, terminal
from engram.sweeps.running import estimate, review
from engram.sweeps.running.checkpoints import Store
from engram.sweeps.running.display import Display
from engram.sweeps.running.events import Listener
from engram.sweeps.running.recording import Recording
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.running.stopping import ENDED, Limits, Stop, Usage, full, is_full, signals
from engram.sweeps.running.trials import Trials
from engram.sweeps.running.watch import Server, Watch
from engram.sweeps.search.ledger import LedgerError
from engram.sweeps.search.search import Search
from engram.sweeps.state import lock, logs, paths, provenance
from engram.sweeps.study import own_code, study_file
from engram.sweeps.study.configuration import Study
from engram.sweeps.tracking.recorder import STUDY
from engram.sweeps.trial import datasets

SEND_AT_END_S, SEND_AFTER_FAILURE_S = 30.0, 10.0
LOG = "run.log"
# In a job: the command that sent it, and the one that brings its results home.
SUBMITTED, FETCH = "ENGRAM_SUBMITTED", "ENGRAM_FETCH"
RETRY_FAILED = "--set faults.retry_failed=true"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """How a run of a study ended. code: the exit code; reason: why, where it did not simply finish;
    machine: whether it failed for reasons that are none of the study, and may be gone the next time."""

    code: int
    reason: str = ""
    machine: bool = False


def run(
    study: Study,
    *,
    name: str | None = None,
    address: str | None = None,
    watch: int | None = None,
) -> int:
    """Run a study, or go on where it stopped; returns the exit code. See `carry_out`.

    watch: port on loopback where its progress is served meanwhile; StudyError where it is in use.
    """
    if watch is None:
        return carry_out(study, name=name, address=address, tell=program.warn).code
    server = Server(watch)
    print(
        f"progress: {server.address}, numbers for Prometheus: {server.address}/metrics", flush=True
    )
    try:
        return carry_out(study, name=name, address=address, tell=program.warn, server=server).code
    finally:
        server.close()


def carry_out(
    study: Study,
    *,
    name: str | None = None,
    address: str | None = None,
    tell: Callable[[str], None] = lambda reason: None,
    server: Server | None = None,
) -> Ended:
    """Run a study, or go on where it stopped.

    name: of this execution (default: the study's); address: of a Ray cluster (default: this machine);
    tell: is told what ends a run that its display says nothing of; server: of its progress.
    Ends in the leaderboards. Nothing that is committed is ever run again.
    """

    def ended(code: int, reason: str, machine: bool = False) -> Ended:
        tell(reason)
        return kept(Ended(code, reason, machine))

    def kept(how: Ended) -> Ended:
        with contextlib.suppress(OSError):
            said = {"code": how.code, "reason": how.reason, "machine": how.machine}
            files.write(folder / ENDED, json.dumps({**said, "when": time.time()}))
        return how

    name = name or study.request.name or study.name
    folder = paths.study_dir(name)
    try:
        address = cluster_address.settled(address)  # before anything is begun
    except cluster_address.Unreachable as error:
        tell(str(error))
        return Ended(program.FAILED, str(error), machine=True)
    secrets = Secrets(study)
    stop = Stop()
    again = _command(study, name, folder)
    execution: Execution | None = None
    try:
        logs.to(folder / LOG, secrets.hidden, "engram", "ray")
        with lock.held(folder, f"run {name}"), signals(stop):
            _check_version(folder)
            execution = Execution(study, name, folder, address, stop, secrets, server)
            return kept(execution.run())
    except lock.Busy as error:
        tell(secrets.hidden(str(error)))
        return Ended(program.FAILED, secrets.hidden(str(error)), machine=True)
    except (LedgerError, datasets.Unsuitable, Incompatible) as error:
        return ended(program.FAILED, secrets.hidden(str(error)))
    except StudyError:
        raise  # bad input: the command line says so
    except KeyboardInterrupt:
        return ended(program.INTERRUPTED, f"interrupted; to go on: {again}")
    except Exception as error:
        if is_full(error):
            free = f"nothing that was finished is lost. Free some space, then: {again}"
            return ended(program.FAILED, f"{full(error)}; {free}", machine=True)
        log.exception("run %s", name)
        said = secrets.hidden(f"{type(error).__name__}: {error}")
        where = f"details in {folder / LOG}; `run` again goes on where it stopped"
        return ended(program.FAILED, f"{said}\n    {where}", machine=True)
    finally:
        if execution is not None:
            execution.close()


class Incompatible(RuntimeError):
    """What was found would not compare with what is there."""


class Execution:
    """One `run` of a study, from the ledger as it was to the ledger as it is left."""

    def __init__(
        self,
        study: Study,
        name: str,
        folder: Path,
        address: str | None,
        stop: Stop,
        secrets: Secrets,
        server: Server | None = None,
    ):
        self.server = server
        self.study, self.name, self.folder, self.address = study, name, folder, address
        self.stop, self.secrets = stop, secrets
        self.search = Search(study, folder / "search.journal", name, study.faults.retry_failed)
        self.usage = Usage(folder)
        self._at_end = contextlib.ExitStack()
        objective, direction = next(iter(study.search.objective.items()))
        earlier = len(self.search.records())
        self.display = Display(
            self.search.planned, study.replicas.count, earlier, objective, direction
        )
        self.recording: Recording
        self.review: review.Review

    def run(self) -> Ended:
        earlier = len(self.search.records())
        self._say_what_runs(earlier)
        with logs.libraries_quiet():
            own_code.make_importable(self.study)
            found = datasets.load(self.study)
            digests = {key: data.digest for key, data in found.items()}
            origin = provenance.collect(digests, _project(self.study))
            changed = self._compare_origin(origin, earlier)
            self.recording = Recording(
                self.study, self.name, self.folder, self.search, self.secrets, found
            )
            self._at_end.callback(self._abandon)
            self.recording.begin(origin, [*self.search.changes, *changed])
            self.review = review.Review(
                self.study, self.name, self.folder, self.recording.recorder, found
            )
            self.review.begin()
            for record in self.search.unsettled():
                self.recording.announce(record)
                self.search.settle(record["trial"])
            limits = Limits(self.study, self.usage, self.stop, lambda: self.search.finished)
            limits.ticked(0)
            if not self.search.finished and not self.stop.requested:
                self._train(found, digests, limits)
            return self._finish()

    def _train(self, found: dict[str, Any], digests: dict[str, str], limits: Limits) -> None:
        from engram.sweeps.cluster import connection

        checkpoints = Store(
            self.folder / "checkpoints",
            self.study.checkpoint.keep,
            self.study.checkpoint.max_mb * 2**20,
        )
        listeners: list[Listener] = [self.recording, self.review, self.display, limits]
        listeners.append(_Tracking(self.study, self.recording, self.display, self.stop))
        if self.server is not None:
            waiting = self.recording.recorder.outbox.count
            earlier = self.search.records()
            self.server.watch = Watch(self.study, self.name, self.search.planned, earlier, waiting)
            listeners.append(self.server.watch)
        trials = Trials(
            self.study, self.folder, self.search, checkpoints, digests, self.stop, listeners
        )
        tune_folder = self.folder / "tune"
        with self.display, self._ray(connection):
            from engram.sweeps.cluster import tuning  # Tune is imported while workers start

            self.display.begin("starting workers")
            if why := self.recording.rejected():
                raise Incompatible(why)
            reports = self.search.reports()
            left = self.search.planned and max(1, self.search.planned - len(self.search.records()))
            sharing = tuning.settled(
                self.study, trials, functools.partial(estimate.bytes_of_trial, self.study), left
            )
            study = trials.study = limits.study = sharing.study
            if not self.stop.requested:
                tuning.train(study, trials, found, reports, self.name, tune_folder, sharing)
        shutil.rmtree(tune_folder, ignore_errors=True)

    def _ray(self, connection: Any) -> contextlib.AbstractContextManager[Any]:
        self.display.begin(
            f"connecting to Ray at {self.address}" if self.address else "starting Ray"
        )
        return connection.connected(self.address, self.study, self.display.say)

    def close(self) -> None:
        """Leave the files and MLflow's runs in order, however the run ended."""
        self._at_end.close()
        with contextlib.suppress(OSError):
            self.usage.write()
        self.search.close()

    def _say_what_runs(self, earlier: int) -> None:
        study, say = self.study, self.display.say
        planned = (
            "trials until the budget is spent"
            if self.search.planned is None
            else f"{self.search.planned} trial{'s' if self.search.planned != 1 else ''}"
        )
        say(f"{self.name}: {study.question or 'no question given'}")
        went_on = f", {earlier} finished before" if earlier else ""
        say(
            f"{planned} x {study.replicas.count} replica{'s' if study.replicas.count != 1 else ''}{went_on}"
        )
        for line in self.search.changes:
            say(f"changed since the last run: {line}")
        if self.search.torn:
            log.warning("the ledger ended in %d bytes of a torn line: cut off", self.search.torn)

    def _compare_origin(self, origin: dict[str, Any], finished: int) -> list[str]:
        """What differs from the last run in code, versions and data, in words; Incompatible where data does."""
        known = files.read_json(self.folder / "provenance.json")
        before = known if isinstance(known, dict) else {}
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

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> Ended:
        self.recording.settle(SEND_AT_END_S)
        records = self.search.records()
        complete = self.search.finished
        for number, (config_hash, committed) in self.search.trials().items():
            if not committed:
                self.recording.interrupted(number, config_hash)
        self.recording.refresh(force=True)
        found = boards.boards_of(records, next(iter(self.study.search.objective)))
        self.recording.rank(found, complete)
        told = evidence.of_folder(self.name, self.folder, records)
        terminal.show_answer(told, self.display.console)
        terminal.show(found[:1], self.display.console)
        if len(self.study.search.objective) > 1:
            terminal.show_front(records, dict(self.study.search.objective), self.display.console)
        with self.display.working("drawing the report, saving the model"):
            self.review.finish(records, pictures=complete or not self.stop.requested)
            self.recording.close(SEND_AT_END_S, "FINISHED" if complete else "KILLED")
        for line in self.recording.told():
            program.warn(line)
        self._say_what_is_next(complete)
        if complete and not self.recording.reached:
            return Ended(program.FAILED, f"no result reached MLflow: {self.recording.problem}")
        if not complete:
            return Ended(self.stop.code, self.stop.reason or "")
        failed = [r for r in records if r["status"] == "failed"]
        if failed and len(failed) == len(records):
            why = (failed[0].get("error") or "").strip().splitlines()[-1:]
            reason = f"all {len(failed)} trials failed, the first of them: {''.join(why)}"
            return Ended(program.FAILED, f"{reason}\n    details in {self.folder / LOG}")
        reason = f"{len(failed)} of {len(records)} trials failed" if failed else ""
        return Ended(program.SOME_FAILED if failed else program.DONE, reason)

    def _abandon(self) -> None:
        """Where the end was not come to: no run stays RUNNING in MLflow for good."""
        if self.recording.ended:
            return
        with contextlib.suppress(OSError):  # of a full disk
            for number, (config_hash, committed) in self.search.trials().items():
                if not committed:
                    self.recording.interrupted(number, config_hash)
            self.recording.recorder.tags(STUDY, {"engram.status": "interrupted"})
            status = "KILLED" if self.stop.requested else "FAILED"
            self.recording.close(SEND_AFTER_FAILURE_S, status)

    def _say_what_is_next(self, complete: bool) -> None:
        say, engram = self.display.say, program.name()
        say("")
        if kept := self.display.time_kept():
            say(kept)
        if not complete:
            why = f": {self.stop.reason}" if self.stop.reason else ""
            of = self.search.planned or "?"
            say(
                f"stopped with {len(self.search.records())} of {of} trials finished{why}; to go on:"
            )
            say(f"  {_command(self.study, self.name, self.folder)}")
        failed = sum(record["status"] == "failed" for record in self.search.records())
        if failed:
            again = _command(self.study, self.name, self.folder)
            once_more = "" if self.study.faults.retry_failed else f" {RETRY_FAILED}"
            say(f"{failed} failed; to train what failed again, with the same result for the rest:")
            say(f"  {again}{once_more}")
        if os.environ.get(FETCH):
            say(f"to have {self.name} on your machine, with its report:")
            say(f"  {os.environ[FETCH]}")
            return
        say(f"more of {self.name}:")
        written = self.folder / "report.html"
        if written.exists():
            say(f"  the report: {written}")
        say(f"  {engram} leaderboard {self.name} --all")
        say(f"  {engram} next {self.name}")
        address = self.recording.recorder.view_url()
        say(f"  {address}" if address else f"  {engram} ui {self.name}")


class _Tracking(Listener):
    """Tells people where MLflow is away, and stops where it can never take what is recorded."""

    def __init__(self, study: Study, recording: Recording, display: Display, stop: Stop):
        self.study, self.recording, self.display, self.stop = study, recording, display, stop

    def ticked(self, running: int) -> None:
        problem, refused = self.recording.problem, self.recording.refused
        if problem:
            self.display.note = f"MLflow: {problem}; results are kept and sent later"
        if self.study.tracking.uri is None and is_full(problem):
            self.stop.ask(full(problem), program.FAILED)
        if refused and not self.stop.requested:
            self.stop.ask(refused, program.FAILED)


def _check_version(folder: Path) -> None:
    try:
        paths.check_version(folder)
    except StudyError as error:  # what was typed is in order: what lies there is not
        raise Incompatible(str(error)) from None


def _command(study: Study, name: str, folder: Path) -> str:
    """How to go on with a study: for one that was submitted, from where that was done."""
    if sent := os.environ.get(SUBMITTED):
        return sent
    request = study.request.under(name if name != study.name else None)
    if study.path is None:  # written in Python: its text is kept with its results
        request = request.of(str(folder / "study.yaml"))
    return f"{program.name()} run {request}"


def _project(study: Study) -> Path | None:
    """The folder of a person's own study, or of the code that it names; None for a shipped one without any."""
    if study.path is not None and study.path.resolve().parent != study_file.SHIPPED.resolve():
        return study.path.resolve().parent
    return Path(own_code.folders(study)[-1]) if own_code.folders(study) else None
