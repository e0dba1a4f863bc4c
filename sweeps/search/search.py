"""Which configuration comes next, and the durable ledger of what came of each.

The one file that knows Optuna. Its journal storage, on checksummed lines (ledger), is the ledger: a
trial is committed by one fsynced line when its result arrives. Samplers keep no state of their own
between questions: each is made afresh from (seed, trial number) and reads the ledger, so a search
that was interrupted goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from engram.sweeps.search import stored
from engram.sweeps.search.committed import RECORD, RUN
from engram.sweeps.search.ledger import LedgerFile
from engram.sweeps.search.recent import Recent
from engram.sweeps.search.space import Point, distribution, sampler, suggest
from engram.sweeps.search.stored import (
    ATTEMPTS,
    DUPLICATE,
    EARLIER,
    OUTSIDE,
    SETBACKS,
    VOID,
    Generations,
    quiet,
)
from engram.sweeps.study.configuration import Configuration, Study

PROPOSALS_PER_TRIAL = (
    50  # repeated proposals of known configurations before the space counts as used up
)


@dataclass(frozen=True)
class Setbacks:
    """How often a trial was set back without getting further, how far it got, and in what stack it runs."""

    count: int = 0
    epoch: int = 0
    stack: int | None = None


@dataclass(frozen=True)
class Proposal:
    """A configuration to train: the trial's number, the swept values, and what was asked before.

    earlier: the record of a smaller version of this trial, whose replicas have been trained already.
    """

    number: int
    params: dict[str, Any]
    configuration: Configuration
    attempt: int
    setbacks: Setbacks = Setbacks()
    earlier: dict[str, Any] | None = None


class Search:
    """The search of one study: `ask` for a trial, `tell` its record; both are durable.

    path: the journal file; name: of the execution; retry_failed: open trials that failed again. One
    process owns it at a time (the runner holds the study's lock).
    changes: what is asked differently from the last time, in words.
    """

    def __init__(
        self, study: Study, path: Path, name: str | None = None, retry_failed: bool = False
    ):
        self.study, self.path = study, path
        self._lock = threading.RLock()
        self._distributions = {key: distribution(choice) for key, choice in study.sweep.items()}
        self._objectives = dict(study.search.objective)
        self._file = LedgerFile(path, write=True)
        self._storage = stored.storage(self._file)
        self.torn = self._file.torn
        generations = Generations(study, self._storage, path, name or study.name)
        self._optuna = generations.current(retry_failed)
        self.changes = generations.changes
        self._file.back_up()
        self._by_hash: dict[str, int] = {}
        self._grid = iter(study.grid()) if study.search.sampler == "grid" else None
        self._recent = self._follower() if study.search.sampler == "tpe" else None
        self._unfinished: list[int] = []
        self._unsettled: list[int] = []
        self._committed = self._asked = self._outside = 0
        self._exhausted = False
        self._replay()

    # -- questions ------------------------------------------------------------------------------

    @property
    def planned(self) -> int | None:
        """Trials this study asks for in all; None: until the budget is spent."""
        planned = self.study.planned_trials()
        return None if planned is None else planned + self._outside

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
                if frozen is None:
                    break
                twin = self._by_hash.get(self._configuration(frozen.params).hash)
                if twin is None:
                    self._asked += 1
                    return self._propose(frozen)
                self._copy(frozen, twin)
            self._exhausted = True
            return None

    def _ask_new(self) -> FrozenTrial | None:
        number = len(self._optuna.get_trials(deepcopy=False))
        chooser = self._sampler(number)
        if chooser is None:
            return None
        with quiet():
            self._optuna.sampler = chooser
            trial = self._optuna.ask(fixed_distributions=self._distributions)
        return self._frozen(trial.number)

    def _propose(self, frozen: FrozenTrial) -> Proposal:
        attributes = frozen.user_attrs
        attempt = int(attributes.get(ATTEMPTS, 0)) + 1
        self._note(frozen.number, ATTEMPTS, attempt)
        configuration = self._configuration(frozen.params)
        self._by_hash[configuration.hash] = frozen.number
        setbacks = Setbacks(*attributes.get(SETBACKS, ()))
        earlier = json.loads(attributes[EARLIER]) if EARLIER in attributes else None
        return Proposal(
            frozen.number, dict(frozen.params), configuration, attempt, setbacks, earlier
        )

    # -- answers --------------------------------------------------------------------------------

    def report(self, number: int, step: int, metrics: dict[str, float]) -> None:
        """Note the objective on the way, where there is one objective and it has a value yet."""
        if len(self._objectives) != 1:
            return
        value = metrics.get(next(iter(self._objectives)))
        if value is not None and math.isfinite(value):
            with self._lock:
                self._storage.set_trial_intermediate_value(self._id(number), step, value)

    def commit(self, number: int, record: dict) -> None:
        """Make a trial's record durable. From then on it is never run again; `settle` closes it."""
        with self._lock:
            self._note(number, RECORD, json.dumps(record, allow_nan=False, separators=(",", ":")))
            self._committed += 1

    def settle(self, number: int) -> None:
        """Close a committed trial, once all that follows from its record is on its way."""
        with self._lock:
            record = json.loads(self._frozen(number).user_attrs[RECORD])
            if record["status"] == "pruned" and "epochs" in record:
                self.report(number, record["epochs"], record["selection"])
            state, values = stored.outcome(record, self._objectives)
            with quiet():
                self._storage.set_trial_state_values(self._id(number), state, values)

    def tell(self, number: int, record: dict) -> None:
        """Commit a trial and close it."""
        self.commit(number, record)
        self.settle(number)

    def set_back(self, number: int, epoch: int, stack: int | None = None) -> Setbacks:
        """Count an attempt that ended without a result at this epoch; getting further forgives those before."""
        with self._lock:
            before = Setbacks(*self._frozen(number).user_attrs.get(SETBACKS, ()))
            further = epoch > before.epoch
            after = Setbacks(
                1 if further else before.count + 1, max(epoch, before.epoch), stack or before.stack
            )
            self._note(number, SETBACKS, [after.count, after.epoch, after.stack])
            return after

    def retry(self, number: int) -> None:
        """Put a trial that lost its worker back to the front of the queue."""
        with self._lock:
            self._unfinished.insert(0, number)

    def set_run(self, number: int, run_id: str) -> None:
        """Remember the tracking run of a trial. Safe from any thread."""
        with self._lock:
            self._optuna.set_user_attr(f"{RUN}{number}", run_id)

    # -- the ledger -----------------------------------------------------------------------------

    def records(self) -> list[dict]:
        """The records of committed trials, in order of their numbers."""
        with self._lock:
            return list(stored.records(self._optuna))

    def trials(self) -> dict[int, tuple[str, bool]]:
        """{trial: (hash of its configuration, whether it is committed)}; without copies and used-up numbers."""
        with self._lock:
            found = {}
            for frozen in self._optuna.get_trials(deepcopy=False):
                if RECORD in frozen.user_attrs:
                    found[frozen.number] = (
                        json.loads(frozen.user_attrs[RECORD])["config_hash"],
                        True,
                    )
                elif not frozen.state.is_finished() and len(frozen.params) == len(
                    self._distributions
                ):
                    found[frozen.number] = self._configuration(frozen.params).hash, False
            return found

    def unsettled(self) -> list[dict]:
        """Records that a crash left committed but not settled."""
        with self._lock:
            return [
                json.loads(self._frozen(number).user_attrs[RECORD]) for number in self._unsettled
            ]

    def reports(self) -> dict[int, tuple[dict[int, float], bool]]:
        """What each trial reported of the objective on its way, {epoch: value}, and whether it is over."""
        with self._lock:
            return {
                frozen.number: (
                    dict(sorted(frozen.intermediate_values.items())),
                    frozen.state.is_finished(),
                )
                for frozen in self._optuna.get_trials(deepcopy=False)
                if frozen.intermediate_values
            }

    def attempts(self, number: int) -> int:
        """How often a trial has been started."""
        with self._lock:
            return int(self._frozen(number).user_attrs.get(ATTEMPTS, 0))

    def close(self) -> None:
        self._file.close()

    def _replay(self) -> None:
        """Rebuild what is held in memory: known configurations, and trials left running by a crash."""
        for frozen in self._optuna.get_trials(deepcopy=False):
            if VOID in frozen.user_attrs:
                continue
            if OUTSIDE in frozen.user_attrs:
                self._asked, self._committed, self._outside = (
                    self._asked + 1,
                    self._committed + 1,
                    self._outside + 1,
                )
                continue
            if DUPLICATE in frozen.user_attrs:
                if not frozen.state.is_finished():
                    self._copy(frozen, int(frozen.user_attrs[DUPLICATE]))
                continue
            if len(frozen.params) < len(self._distributions):
                frozen = self._complete(frozen)
            known = self._configuration(frozen.params).hash
            if (
                not frozen.state.is_finished()
                and RECORD not in frozen.user_attrs
                and known in self._by_hash
            ):
                self._copy(frozen, self._by_hash[known])  # the crash came before it was told apart
                continue
            self._asked += 1
            self._by_hash[known] = frozen.number
            if RECORD in frozen.user_attrs:
                self._committed += 1
                if not frozen.state.is_finished():
                    self._unsettled.append(frozen.number)
            else:
                self._unfinished.append(frozen.number)

    def _complete(self, frozen: FrozenTrial) -> FrozenTrial:
        """Go on choosing the values of a trial whose creation a crash cut short."""
        with quiet():
            self._optuna.sampler = self._sampler(frozen.number) or optuna.samplers.RandomSampler(
                frozen.number
            )
            trial = optuna.Trial(self._optuna, self._id(frozen.number))
            for name, axis in self.study.sweep.items():
                suggest(trial, name, axis)
        return self._frozen(frozen.number)

    def _follower(self) -> Recent:
        return Recent(
            self._distributions,
            self._optuna.directions,
            self._frozen,
            lambda: self._optuna.get_trials(deepcopy=False),
        )

    def _configuration(self, params: dict[str, Any]) -> Configuration:
        return self.study.configure(params)

    def _copy(self, frozen: FrozenTrial, twin: int) -> None:
        """Close a proposal of a configuration that is known already: it costs nothing and counts for nothing."""
        self._note(frozen.number, DUPLICATE, twin)
        known = self._frozen(twin)
        complete = known.state == TrialState.COMPLETE
        state = TrialState.COMPLETE if complete else TrialState.FAIL
        with quiet():
            self._storage.set_trial_state_values(
                self._id(frozen.number), state, known.values if complete else None
            )

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._id(number))  # no copy, and no look at the others

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self._optuna.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)

    def _note(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)

    def _sampler(self, number: int) -> BaseSampler | None:
        """The sampler for one trial; None when a grid has no point left."""
        if self._recent is not None:
            return Point(self._recent.propose(number, sampler(self.study, number)))
        if self._grid is None:
            return sampler(self.study, number)
        new = (p for p in self._grid if self._configuration(p).hash not in self._by_hash)
        point = next(new, None)
        return None if point is None else Point(point)
