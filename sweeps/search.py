"""Which configuration comes next, and the durable ledger of what came of each.

The one file that knows Optuna. Its journal storage is the ledger: a trial is committed by one
fsynced line when its result arrives. Samplers keep no state of their own between questions: each is
made afresh from (seed, trial number) and reads the ledger, so a search that was interrupted goes on
as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from sweeps.definition import Configuration, Study
from sweeps.sections import Axis, Values

optuna.logging.set_verbosity(optuna.logging.ERROR)

FORMAT = 1  # of the records in the ledger; raised when an older program could misread them
RECORD, RUN_ID, ATTEMPTS = "engram.record", "engram.run_id", "engram.attempts"
DUPLICATE = "engram.duplicate_of"
PROPOSALS_PER_TRIAL = 50  # repeated proposals of finished configurations before the space counts as used up


class LedgerError(RuntimeError):
    """A ledger that this version cannot go on from; the message says what to do."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to train: the trial's number, the swept values, and what was asked before."""

    number: int
    params: dict[str, Any]
    configuration: Configuration
    attempt: int


class Search:
    """The search of one study: `ask` for a trial, `tell` its record; both are durable.

    path: the journal file; name: of the execution. One process owns it at a time (the runner holds the study's lock).
    """

    def __init__(self, study: Study, path: Path, name: str | None = None):
        self.study = study
        self._lock = threading.RLock()
        self._distributions = {key: _distribution(choice) for key, choice in study.sweep.items()}
        self._objectives = dict(study.search.objective)
        self._storage = _open(path)
        directions = ["minimize" if d == "min" else "maximize" for d in self._objectives.values()]
        with _quiet():
            self._optuna = optuna.create_study(
                storage=self._storage, study_name=name or study.name, directions=directions, load_if_exists=True
            )
        version = self._optuna.user_attrs.get("engram.format")
        if version is None:
            self._optuna.set_user_attr("engram.format", FORMAT)
        elif version != FORMAT:
            raise LedgerError(
                f"{path}: ledger format {version}, this version reads {FORMAT}; "
                "use the version that wrote it, or run under a new --name"
            )
        self._trials: dict[int, optuna.Trial] = {}
        self._by_hash: dict[str, int] = {}
        self._grid = study.grid() if study.search.sampler == "grid" else None
        self._unfinished: list[int] = []
        self._committed = 0
        self._asked = 0
        self._exhausted = False
        self._replay()

    # -- questions ------------------------------------------------------------------------------

    @property
    def planned(self) -> int | None:
        """Trials this study asks for in all; None: until the budget is spent."""
        return self.study.planned_trials()

    @property
    def finished(self) -> bool:
        """Whether every planned trial is committed, or there is nothing left to propose."""
        with self._lock:
            enough = self._exhausted or (self.planned is not None and self._asked >= self.planned)
            return enough and self._committed >= self._asked

    def ask(self) -> Proposal | None:
        """The next trial to train: an interrupted one first, then a new one; None when there is none."""
        with self._lock:
            if self._unfinished:
                number = self._unfinished.pop(0)
                return self._propose(self._frozen(number))
            for _ in range(PROPOSALS_PER_TRIAL):
                if self._exhausted or (self.planned is not None and self._asked >= self.planned):
                    return None
                frozen = self._ask_new()
                twin = self._by_hash.get(self._configuration(frozen.params).hash)
                if twin is None:
                    self._asked += 1
                    return self._propose(frozen)
                self._copy(frozen, twin)
            self._exhausted = True
            return None

    def _ask_new(self) -> FrozenTrial:
        number = len(self._optuna.get_trials(deepcopy=False))
        with _quiet():
            self._optuna.sampler = self._sampler(number)
            trial = self._optuna.ask(fixed_distributions=self._distributions)
        self._trials[trial.number] = trial
        return self._frozen(trial.number)

    def _propose(self, frozen: FrozenTrial) -> Proposal:
        attempt = int(frozen.user_attrs.get(ATTEMPTS, 0)) + 1
        self._handle(frozen.number).set_user_attr(ATTEMPTS, attempt)
        configuration = self._configuration(frozen.params)
        self._by_hash[configuration.hash] = frozen.number
        return Proposal(frozen.number, dict(frozen.params), configuration, attempt)

    # -- answers --------------------------------------------------------------------------------

    def report(self, number: int, step: int, metrics: dict[str, float]) -> None:
        """Note the objective on the way, where there is one objective and it has a value yet."""
        if len(self._objectives) != 1:
            return
        value = metrics.get(next(iter(self._objectives)))
        if value is not None and math.isfinite(value):
            with self._lock:
                self._handle(number).report(value, step)

    def tell(self, number: int, record: dict) -> None:
        """Commit a trial: its record first, then its state. From then on it is never run again."""
        with self._lock:
            handle = self._handle(number)
            handle.set_user_attr(RECORD, json.dumps(record, allow_nan=False, separators=(",", ":")))
            self._finish(number, record)
            self._committed += 1

    def _finish(self, number: int, record: dict) -> None:
        handle, status = self._handle(number), record["status"]
        values = [self._value(record, name, direction) for name, direction in self._objectives.items()]
        with _quiet():
            if status == "failed":
                self._optuna.tell(handle, state=TrialState.FAIL)
            elif status == "pruned":
                self._optuna.tell(handle, state=TrialState.PRUNED)
            else:
                self._optuna.tell(handle, values)

    @staticmethod
    def _value(record: dict, name: str, direction: str) -> float:
        """The objective of a record; what is missing or not finite counts as the worst."""
        value = record["selection"].get(name)
        worst = math.inf if direction == "min" else -math.inf
        bad = value is None or not math.isfinite(value) or record["status"] == "diverged"
        return worst if bad else float(value)

    def retry(self, number: int) -> None:
        """Put a trial that lost its worker back to the front of the queue."""
        with self._lock:
            self._unfinished.insert(0, number)

    def set_run(self, number: int, run_id: str) -> None:
        """Remember the tracking run of a trial. Safe from any thread."""
        with self._lock:
            try:
                self._handle(number).set_user_attr(RUN_ID, run_id)
            except optuna.exceptions.UpdateFinishedTrialError:  # it was quicker than the tracking
                self._optuna.set_user_attr(f"{RUN_ID}.{number}", run_id)

    # -- the ledger -----------------------------------------------------------------------------

    def records(self) -> list[dict]:
        """The records of committed trials, in order of their numbers."""
        with self._lock:
            return list(_records(self._optuna))

    def attempts(self, number: int) -> int:
        """How often a trial has been started."""
        with self._lock:
            return int(self._frozen(number).user_attrs.get(ATTEMPTS, 0))

    def _replay(self) -> None:
        """Rebuild what is held in memory: finished configurations, and trials left running by a crash."""
        for frozen in self._optuna.get_trials(deepcopy=False):
            if DUPLICATE in frozen.user_attrs:
                if not frozen.state.is_finished():
                    self._copy(frozen, int(frozen.user_attrs[DUPLICATE]))
                continue
            if len(frozen.params) < len(self._distributions):
                # The crash came between the trial's creation and its last value.
                self._optuna.tell(frozen.number, state=TrialState.FAIL, skip_if_finished=True)
                continue
            self._asked += 1
            self._by_hash[self._configuration(frozen.params).hash] = frozen.number
            if frozen.state.is_finished():
                self._committed += 1
            elif RECORD in frozen.user_attrs:
                self._finish(frozen.number, json.loads(frozen.user_attrs[RECORD]))
                self._committed += 1
            else:
                self._unfinished.append(frozen.number)

    def _configuration(self, params: dict[str, Any]) -> Configuration:
        return self.study.configure(params)

    def _copy(self, frozen: FrozenTrial, twin: int) -> None:
        """Close a proposal of a configuration that is known already: it costs nothing and counts for nothing."""
        handle = self._handle(frozen.number)
        handle.set_user_attr(DUPLICATE, twin)
        known = self._frozen(twin)
        with _quiet():
            if known.state == TrialState.COMPLETE:
                self._optuna.tell(handle, known.values)
            else:
                self._optuna.tell(handle, state=TrialState.FAIL)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._optuna.get_trials(deepcopy=False)[number]

    def _handle(self, number: int) -> optuna.Trial:
        if number not in self._trials:
            self._trials[number] = optuna.Trial(self._optuna, self._frozen(number)._trial_id)
        return self._trials[number]

    def _sampler(self, number: int) -> BaseSampler:
        seed = (self.study.search.seed * 1_000_003 + number * 7919) % 2**31
        name = self.study.search.sampler
        samplers = optuna.samplers
        if name == "grid":
            assert self._grid is not None
            return _Grid(self._grid)
        if name == "random":
            return samplers.RandomSampler(seed)
        if name == "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        if name == "gp":
            return samplers.GPSampler(seed=seed)
        if name == "cmaes":
            return samplers.CmaEsSampler(seed=seed)
        return samplers.NSGAIISampler(seed=seed)


class _Grid(BaseSampler):
    """Trial number k gets point k of the grid: no state, no look-ups, the same order after a resume."""

    def __init__(self, points: list[dict[str, Any]]):
        self.points = points

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        return self.points[trial.number % len(self.points)][param_name]


def read_records(path: Path, name: str) -> list[dict]:
    """The committed records of a study's ledger, read without changing it; [] where there is none."""
    if not path.exists():
        return []
    with _quiet():
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
        try:
            return list(_records(optuna.load_study(study_name=name, storage=storage)))
        except KeyError:
            return []


def _records(study: optuna.Study) -> Iterator[dict]:
    late = study.user_attrs
    for frozen in study.get_trials(deepcopy=False):
        if RECORD in frozen.user_attrs and frozen.state.is_finished():
            run_id = frozen.user_attrs.get(RUN_ID) or late.get(f"{RUN_ID}.{frozen.number}")
            yield {**json.loads(frozen.user_attrs[RECORD]), "run_id": run_id}


def _distribution(axis: Axis) -> BaseDistribution:
    """A sweep axis as an Optuna distribution: listed values are categories, a range has bounds."""
    if isinstance(axis, Values):
        return CategoricalDistribution(list(axis.values))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _open(path: Path) -> JournalStorage:
    """The journal storage; a last line torn by a crash is cut off first, it was never committed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _mend_tail(path)
    lock = JournalFileOpenLock(str(path))
    with _quiet():
        try:
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
        except (ValueError, KeyError, json.JSONDecodeError) as error:
            raise LedgerError(
                f"{path}: the ledger is damaged ({error}); restore it from a backup, "
                "or move it away to start the study afresh"
            ) from error


def _mend_tail(path: Path) -> None:
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
            file.flush()
            os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.lock")  # Optuna's own lock, stale: the study's lock is ours


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's warnings about experimental parts say nothing that a user of Engram can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
