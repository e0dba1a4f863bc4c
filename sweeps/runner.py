"""Runs a study: Ray Tune trains the trials that the search asks for, and every result is committed.

Tune is used as a scheduler of actors and nothing else. It never restores anything: what is finished
is in the ledger (search), what is recorded is in the outbox (tracking), and a new `run` starts from both.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sweeps import leaderboard, live, lock, provenance, state, study_data, tracking
from sweeps.definition import Study, label
from sweeps.search import LedgerError, Proposal, Search
from sweeps.trainable import EPOCH, CohortTrainable, Finished, Progress

# Ray reads these when it is imported or started.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # the runner has its own, for SIGTERM too
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a trial that failed has no metrics
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # nobody restores from Tune's snapshots
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher

DONE, FAILED, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130
ATTEMPTS = 3  # a trial whose worker died this often has failed
REFRESH_S = 5.0  # the parent's table of trials is as fresh as this, and costs at most 1/20 of the time
SEND_AT_END_S = 60.0
log = logging.getLogger(__name__)


def run(study: Study, *, name: str | None = None, address: str | None = None) -> int:
    """Run a study, or go on where it stopped; returns the exit code.

    name: of this execution (default: the study's); address: of a Ray cluster (default: this machine).
    Ends in the leaderboards. Nothing that is committed is ever run again.
    """
    name = name or study.name
    folder = state.study_dir(name)
    log_path = _log_to(folder)
    try:
        with lock.held(folder, f"run {name}"):
            return _Execution(study, name, folder, address).run()
    except (lock.Busy, LedgerError, study_data.Unsuitable) as error:
        live.warn(str(error))
        return FAILED
    except Exception as error:
        log.exception("run %s", name)
        live.warn(f"{type(error).__name__}: {error}\n    details in {log_path}; `run` again goes on where it stopped")
        return FAILED


class _Execution:
    """One `run` of a study, from the ledger as it was to the ledger as it is left."""

    def __init__(self, study: Study, name: str, folder: Path, address: str | None):
        self.study, self.name, self.folder, self.address = study, name, folder, address
        self.search = Search(study, folder / "search.journal", name)
        self.objective, self.direction = next(iter(study.search.objective.items()))
        self.refreshed = 0.0
        self.refresh_pause = REFRESH_S

    def __reduce__(self) -> tuple:
        """Tune pickles its callbacks for a restore that never comes: it gets nothing of an execution."""
        return object, ()

    def __deepcopy__(self, memo: dict) -> _Execution:
        return self

    def run(self) -> int:
        earlier = len(self.search.records())
        self.display = live.Display(
            self.search.planned, self.study.replicas.count, earlier, self.objective, self.direction
        )
        self._say_what_runs(earlier)
        with ExitStack() as stack:
            stack.enter_context(_libraries_quiet())
            datasets = study_data.load(self.study)
            self.recorder = self._recorder()
            self._record_study(datasets)
            if self.search.planned is None or earlier < self.search.planned:
                self._train(datasets)
            return self._finish()

    def _say_what_runs(self, earlier: int) -> None:
        study = self.study
        planned = "trials until the budget is spent" if self.search.planned is None else f"{self.search.planned} trials"
        self.display.say(f"{self.name}: {study.question or 'no question given'}")
        went_on = f", {earlier} finished before" if earlier else ""
        self.display.say(f"{planned} x {study.replicas.count} replicas{went_on}")

    # -- recording ------------------------------------------------------------------------------

    def _recorder(self) -> tracking.Recorder:
        uri = self.study.tracking.uri or state.mlflow_uri()
        experiment = self.study.tracking.experiment or self.study.name
        artifacts = None if self.study.tracking.uri else (state.artifacts_dir() / experiment).as_uri()
        return tracking.Recorder(uri, self.folder, experiment, self.name, artifacts, self.search.set_run)

    def _record_study(self, datasets: dict[str, Any]) -> None:
        study = self.study
        origin = provenance.collect({key: data.digest for key, data in datasets.items()})
        params = {k: v for k, v in study.configure().dotted().items() if k not in study.sweep}
        params |= {f"sweep.{key}": str(axis) for key, axis in study.sweep.items()}
        params |= {"search.sampler": study.search.sampler, "search.seed": study.search.seed, "scheduler": study.scheduler.name}
        tags = {f"engram.{key}": str(value) for key, value in origin.items()}
        tags |= {"engram.status": "running", "engram.question": study.question, "mlflow.note.content": study.question}
        self.recorder.study(tags, params)
        execution = {
            "name": self.name,
            "study": study.name,
            "question": study.question,
            "started": time.time(),
            "overrides": study.overrides,
            "definition": _definition(study),
        }
        files = {"study.yaml": study.text, "provenance.json": json.dumps(origin, indent=1), "execution.json": json.dumps(execution)}
        for name, text in files.items():
            self.recorder.artifact(tracking.STUDY, state.write_text(self.folder / name, text))

    def started(self, proposal: Proposal) -> None:
        configuration = proposal.configuration
        name = label(proposal.params)
        tags = {
            "engram.config_hash": configuration.hash,
            "engram.status": "running",
            "engram.attempt": str(proposal.attempt),
        }
        self.recorder.trial(proposal.number, name, tags, configuration.dotted())
        self.display.trial_started(proposal.number, name, configuration.epochs)

    def reported(self, proposal: Proposal, progress: Progress, epoch: int) -> None:
        self.recorder.metrics(proposal.number, epoch, progress.metrics)
        self.search.report(proposal.number, epoch, progress.metrics)
        self.display.trial_reported(proposal.number, epoch, progress.metrics)

    def finished(self, proposal: Proposal, record: dict, arrays: dict | None = None) -> None:
        """Commit a trial's record, and send what belongs to it. From here on it is never run again."""
        number = proposal.number
        record = {
            "trial": number,
            "params": proposal.params,
            "config_hash": proposal.configuration.hash,
            **record,
        }
        self.search.tell(number, record)
        if arrays:
            path = _write_arrays(self.folder / "outgoing" / f"trial-{number}" / "arrays.npz", arrays)
            self.recorder.artifact(number, path, keep=False)
        self.recorder.metrics(number, record.get("epochs", 0), _final_metrics(record))
        self.recorder.tags(number, {"engram.status": record["status"]})
        self.recorder.end(number, "FAILED" if record["status"] == "failed" else "FINISHED")
        self.display.trial_finished(number, label(proposal.params), record)
        self._refresh()

    def _refresh(self, force: bool = False) -> None:
        """Keep the parent's table of trials fresh, so that a leaderboard can be read from MLflow alone."""
        now = time.monotonic()
        if not force and now - self.refreshed < self.refresh_pause:
            return
        path = self.folder / "trials.json"
        state.write_text(path, json.dumps(self.search.records()))
        self.recorder.artifact(tracking.STUDY, path)
        if self.recorder.problem:
            self.display.note = f"MLflow: {self.recorder.problem}; results are kept and sent later"
        self.refreshed = time.monotonic()
        self.refresh_pause = max(REFRESH_S, 20 * (self.refreshed - now))

    # -- training -------------------------------------------------------------------------------

    def _train(self, datasets: dict[str, Any]) -> None:
        with _ray(self.address), self.display, _signals() as stop:
            self.stop = stop
            resources = self.study.resources
            capacity = _capacity(self.study)
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(capacity)
            bridge = _Bridge(self, capacity)
            trainable = tune.with_resources(
                tune.with_parameters(CohortTrainable, datasets=datasets),
                {"cpu": resources.cpu, "gpu": resources.gpu},
            )
            tuner = tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=bridge,
                    scheduler=_scheduler(self.study),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=_trial_folder,
                ),
                run_config=tune.RunConfig(
                    name=self.name,
                    storage_path=str(self.folder / "tune"),
                    callbacks=[_Watcher(self, bridge)],
                    stop=_Stopper(self),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            )
            tuner.fit()
        shutil.rmtree(self.folder / "tune", ignore_errors=True)

    def trial_config(self, proposal: Proposal) -> dict[str, Any]:
        """What the actor needs to know of a trial."""
        resources = self.study.resources
        return {
            "trial": proposal.number,
            "configuration": proposal.configuration.model_dump(),
            "measures": self.study.measures.model_dump(),
            "dataset": study_data.key(proposal.configuration.data),
            "device": _device(self.study),
            "threads": max(1, int(resources.cpu)),
        }

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> int:
        records = self.search.records()
        complete = self.search.finished
        self._refresh(force=True)
        boards = leaderboard.boards_of(records)
        for path in leaderboard.write_tables(boards, self.folder / "leaderboards"):
            self.recorder.table(tracking.STUDY, path)
        self.recorder.metrics(tracking.STUDY, len(records), leaderboard.best_metrics(boards))
        self.recorder.tags(tracking.STUDY, {"engram.status": "completed" if complete else "interrupted"})
        self.recorder.end(tracking.STUDY, "FINISHED" if complete else "KILLED")
        sent = self.recorder.close(SEND_AT_END_S)
        leaderboard.show(boards, self.display.console)
        if not sent:
            live.warn(
                f"MLflow could not be reached ({self.recorder.problem}); what is not sent waits in "
                f"{self.folder}, and the next `run {self.name}` sends it"
            )
        self._say_what_is_next(complete)
        if not complete:
            return INTERRUPTED if self.interrupted else DONE
        failed = sum(r["status"] == "failed" for r in records)
        if failed == len(records) and records:
            return FAILED
        return SOME_FAILED if failed else DONE

    @property
    def interrupted(self) -> bool:
        return getattr(self, "stop", None) is not None and self.stop.signal

    def _say_what_is_next(self, complete: bool) -> None:
        program = "python orchestrate.py"
        say = self.display.say
        say("")
        if not complete:
            say(f"stopped with {len(self.search.records())} of {self.search.planned or '?'} trials finished; to go on:")
            say(f"  {program} run {self.study.path or self.study.name}" + (f" --name {self.name}" if self.name != self.study.name else ""))
        say(f"more of {self.name}:")
        say(f"  {program} leaderboard {self.name} --by variance")
        say(f"  {program} report {self.name} --out report.html")
        say(f"  {program} ui")


class _Bridge(Searcher):
    """Tune asks, the search answers; at most `capacity` trials at a time, interrupted ones first."""

    def __init__(self, execution: _Execution, capacity: int):
        super().__init__(metric=None, mode=None)
        self.execution, self.capacity = execution, capacity
        self.proposals: dict[str, Proposal] = {}

    def suggest(self, trial_id: str) -> dict | str | None:
        if self.execution.stop.requested:
            return Searcher.FINISHED
        if len(self.proposals) >= self.capacity:
            return None
        proposal = self.execution.search.ask()
        if proposal is None:
            return None if self.proposals else Searcher.FINISHED
        self.proposals[trial_id] = proposal
        return self.execution.trial_config(proposal)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        self.proposals.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""


class _Watcher(tune.Callback):
    """Hands what Tune's trials report to the execution."""

    def __init__(self, execution: _Execution, bridge: _Bridge):
        self.execution, self.bridge = execution, bridge

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.execution.started(self.bridge.proposals[trial.trial_id])

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        proposal = self.bridge.proposals.get(trial.trial_id)
        # Taken out: Tune keeps every trial's last result in memory.
        progress, finished = result.pop("progress", None), result.pop("finished", None)
        failure = result.pop("failure", None)
        if proposal is None:
            return
        if failure is not None:
            log.error("trial %d failed:\n%s", proposal.number, failure)
            self.execution.finished(proposal, _failed(failure))
            return
        self.execution.reported(proposal, progress, result[EPOCH])
        if isinstance(finished, Finished):
            self.execution.finished(proposal, finished.record, finished.arrays)
        elif result.get("done"):
            self.execution.finished(proposal, _pruned(progress, result, self.execution.study))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The worker died: its node is gone, or the system killed it."""
        proposal = self.bridge.proposals.get(trial.trial_id)
        if proposal is None:
            return
        self.execution.display.trial_left(proposal.number)
        if proposal.attempt < ATTEMPTS:
            log.warning("trial %d lost its worker, attempt %d", proposal.number, proposal.attempt)
            self.execution.search.retry(proposal.number)
        else:
            self.execution.finished(proposal, _failed(f"its worker died {proposal.attempt} times"))


class _Stop:
    """Asked to stop: by a signal, or because the budget is spent."""

    def __init__(self) -> None:
        self.signal = False
        self.budget = False

    @property
    def requested(self) -> bool:
        return self.signal or self.budget


class _Stopper(tune.Stopper):
    """Ends Tune's run once a stop is requested."""

    def __init__(self, execution: _Execution):
        self.execution = execution

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.execution.stop.requested


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Ctrl-C and SIGTERM ask for a clean stop; a second one stops at once."""
    stop = _Stop()

    def ask(number: int, frame: Any) -> None:
        if stop.signal:
            raise KeyboardInterrupt
        stop.signal = True
        live.warn("stopping: finished trials are kept; press Ctrl-C again to leave at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """A Ray of our own on this machine, or the cluster at address."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # workers import Engram and the user's code
    own = not ray.is_initialized()
    if own:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only, without the jobs API
            options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        ray.init(address=address, **options)
    try:
        yield
    finally:
        if own:
            ray.shutdown()


def _capacity(study: Study) -> int:
    """Trials at the same time: as many as fit, or as the study says."""
    if study.resources.concurrent != "auto":
        return int(study.resources.concurrent)
    total = ray.cluster_resources()
    fits = [total.get("CPU", 1.0) / study.resources.cpu]
    if study.resources.gpu:
        fits.append(total.get("GPU", 0.0) / study.resources.gpu)
    return max(1, int(min(fits)))


def _trial_folder(trial: Any) -> str:
    """Tune's own name for the folder spells out every value and outgrows file systems."""
    return f"trial-{trial.config['trial']}-{trial.trial_id}"


def _scheduler(study: Study) -> TrialScheduler:
    """Tune's scheduler on the clock of epochs, which every trial shares."""
    wanted = study.scheduler
    if wanted.name == "fifo":
        return FIFOScheduler()
    objective, direction = next(iter(study.search.objective.items()))
    options: dict[str, Any] = {"time_attr": EPOCH, "metric": objective, "mode": direction}
    if wanted.name == "median":
        return MedianStoppingRule(grace_period=wanted.grace, **options)
    longest = study.largest("training.epochs")
    return AsyncHyperBandScheduler(
        max_t=int(longest), grace_period=wanted.grace, reduction_factor=wanted.reduction_factor, **options  # type: ignore[arg-type]
    )


def _device(study: Study) -> str:
    if study.resources.device != "auto":
        return study.resources.device
    return "cuda" if study.resources.gpu > 0 else "cpu"


def _definition(study: Study) -> dict[str, Any]:
    """The study as it was understood, for whoever reads it later; passwords in addresses left out."""
    definition = study.model_dump(mode="json")
    uri = definition["tracking"]["uri"]
    definition["tracking"]["uri"] = None if uri is None else tracking.without_password(uri)
    return definition


def _failed(why: str) -> dict[str, Any]:
    return {"status": "failed", "measures": {}, "replica_values": {}, "selection": {}, "warnings": [], "error": why[-2000:]}


def _pruned(progress: Progress, result: dict, study: Study) -> dict[str, Any]:
    return {
        "status": "pruned",
        "replicas": study.replicas.count,
        "epochs": result[EPOCH],
        "steps": progress.step,
        "seconds": round(float(result.get("time_total_s", 0.0)), 4),
        "measures": progress.intervals,
        "replica_values": {},
        "selection": progress.metrics,
        "warnings": [],
    }


def _final_metrics(record: dict) -> dict[str, float]:
    """Each measure with its interval, under the names of the contract."""
    metrics = {}
    for name, measure in record["measures"].items():
        if measure:
            metrics[name] = measure["mean"]
            metrics[f"{name}_low"], metrics[f"{name}_high"] = measure["low"], measure["high"]
    for name in ("seconds", "parameters"):
        if name in record:
            metrics[name] = record[name]
    return {k: v for k, v in metrics.items() if v is not None}


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """An NPZ file without pickle, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)
    return path


def _log_to(folder: Path) -> Path:
    """Details go to a file beside the study; people see only what they can act on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.log"
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("sweeps", "ray"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logging.getLogger("sweeps").setLevel(logging.INFO)
    return path


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


