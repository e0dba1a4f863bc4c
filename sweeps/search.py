"""Which configuration comes next, and the durable ledger of what came of each.

The one file that knows Optuna. Its journal storage, on checksummed lines (ledger), is the ledger: a
trial is committed by one fsynced line when its result arrives. Samplers keep no state of their own
between questions: each is made afresh from (seed, trial number) and reads the ledger, so a search
that was interrupted goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
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
from optuna.study import StudyDirection as Direction
from optuna.trial import FrozenTrial, TrialState

from sweeps import changes
from sweeps.definition import Configuration, Study
from sweeps.ledger import FORMAT, LedgerError, LedgerFile, damaged, refused
from sweeps.sections import Axis, Values

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Attributes of a trial.
RECORD, ATTEMPTS, SETBACKS = "engram.record", "engram.attempts", "engram.setbacks"
DUPLICATE, VOID, OUTSIDE = "engram.duplicate_of", "engram.void", "engram.outside"
EARLIER = "engram.earlier"  # the record that a reopened trial had
# Attributes of a study.
VERSION, READY, DEFINITION, RUN = (
    "engram.format",
    "engram.ready",
    "engram.definition",
    "engram.run.",
)
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
        self._distributions = {key: _distribution(choice) for key, choice in study.sweep.items()}
        self._objectives = dict(study.search.objective)
        self._file = LedgerFile(path, write=True)
        self._storage = _storage(self._file)
        self.torn = self._file.torn
        self.changes: list[str] = []
        self._optuna = self._generation(name or study.name, retry_failed)
        self._file.back_up()
        self._by_hash: dict[str, int] = {}
        self._grid = iter(study.grid()) if study.search.sampler == "grid" else None
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
        sampler = self._sampler(number)
        if sampler is None:
            return None
        with _quiet():
            self._optuna.sampler = sampler
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
            state, values = _outcome(record, self._objectives)
            with _quiet():
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
            return list(_records(self._optuna))

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
        with _quiet():
            self._optuna.sampler = self._sampler(frozen.number) or optuna.samplers.RandomSampler(
                frozen.number
            )
            trial = optuna.Trial(self._optuna, frozen._trial_id)
            for name, distribution in self._distributions.items():
                trial._suggest(name, distribution)
        return self._frozen(frozen.number)

    def _configuration(self, params: dict[str, Any]) -> Configuration:
        return self.study.configure(params)

    def _copy(self, frozen: FrozenTrial, twin: int) -> None:
        """Close a proposal of a configuration that is known already: it costs nothing and counts for nothing."""
        self._note(frozen.number, DUPLICATE, twin)
        known = self._frozen(twin)
        complete = known.state == TrialState.COMPLETE
        state = TrialState.COMPLETE if complete else TrialState.FAIL
        with _quiet():
            self._storage.set_trial_state_values(
                frozen._trial_id, state, known.values if complete else None
            )

    def _frozen(self, number: int) -> FrozenTrial:
        return self._optuna.get_trials(deepcopy=False)[number]

    def _id(self, number: int) -> int:
        return self._frozen(number)._trial_id

    def _note(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._id(number), key, value)

    # -- another definition of the study -----------------------------------------------------------

    def _generation(self, name: str, retry_failed: bool) -> optuna.Study:
        """The newest generation of the study, made anew where what is asked has changed its shape.

        Optuna refuses a changed space, so a changed study is a new one in the same file, which takes
        over the trials of the one before; it counts from the moment it is marked as ready.
        """
        now = changes.describe(self.study)
        newest = _newest(self._storage, self.path, name)
        if newest is None:
            return self._create(name, 1, [], now)
        generation, current = newest
        was = json.loads(current.user_attrs[DEFINITION])
        self.changes = changes.differences(was, now)
        failed = (
            [f for f in current.get_trials(deepcopy=False) if _status(f) == "failed"]
            if retry_failed
            else []
        )
        if not failed and not changes.reshapes(was, now):
            if was != now:
                current.set_user_attr(DEFINITION, json.dumps(now))
            return current
        trials = self._adapted(current, was, now, {f.number for f in failed})
        created = self._create(name, generation + 1, trials, now)
        for key, value in current.user_attrs.items():
            if key.startswith(RUN):
                created.set_user_attr(key, value)
        return created

    def _create(
        self, name: str, generation: int, trials: list[FrozenTrial], definition: dict
    ) -> optuna.Study:
        directions = [Direction.MINIMIZE if d == "min" else Direction.MAXIMIZE for d in self._objectives.values()]
        while True:
            full = name if generation == 1 else f"{name}#{generation}"
            with _quiet():
                study = optuna.create_study(
                    storage=self._storage,
                    study_name=full,
                    directions=directions,
                    load_if_exists=True,
                )
            if generation == 1 or not study.get_trials(deepcopy=False):
                break
            generation += 1  # left half made by a crash
        for trial in trials:
            self._storage.create_new_trial(study._study_id, trial)
        for key, value in ((DEFINITION, json.dumps(definition)), (VERSION, FORMAT), (READY, True)):
            study.set_user_attr(key, value)
        return study

    def _adapted(
        self, current: optuna.Study, was: dict, now: dict, reopen: set[int]
    ) -> list[FrozenTrial]:
        """The trials of an earlier definition as the new one sees them; LedgerError where they would not compare."""
        adapted: list[FrozenTrial] = []
        wrong: dict[str, tuple] = {}
        for frozen in current.get_trials(deepcopy=False):
            values = was["base"] | frozen.params
            if OUTSIDE in frozen.user_attrs:
                values = json.loads(frozen.user_attrs[OUTSIDE])
            elif (
                DUPLICATE in frozen.user_attrs
                or VOID in frozen.user_attrs
                or len(frozen.params) < len(was["sweep"])
            ):
                adapted.append(_void())
                continue
            keys, outside = changes.conflicts(values, was, now)
            if keys and RECORD in frozen.user_attrs:
                wrong |= {key: (values[key], now["base"][key]) for key in keys}
            adapted.append(
                self._adapt(frozen, values, outside, bool(keys), frozen.number in reopen)
            )
        if wrong:
            finished = sum(RECORD in f.user_attrs for f in current.get_trials(deepcopy=False))
            said = ", ".join(f"{key} was {old} and is {new}" for key, (old, new) in wrong.items())
            raise refused(
                self.path,
                f"{said}: results of the {finished} finished trials would not compare with new ones",
                "run the changed study under another name (--name N), or undo the change",
            )
        return adapted

    def _adapt(
        self, frozen: FrozenTrial, values: dict, outside: bool, other: bool, reopen: bool
    ) -> FrozenTrial:
        params = {key: values[key] for key in self.study.sweep}
        outside = outside or not all(
            _holds(self._distributions[key], value) for key, value in params.items()
        )
        record = json.loads(frozen.user_attrs[RECORD]) if RECORD in frozen.user_attrs else None
        if other or (outside and record is None):
            return _void()
        kept = {k: v for k, v in frozen.user_attrs.items() if k in (ATTEMPTS, EARLIER)}
        if outside:
            kept |= {RECORD: frozen.user_attrs[RECORD], OUTSIDE: json.dumps(values)}
            return _trial(TrialState.FAIL, {}, {}, kept, {})
        more = values["replicas.count"] < self.study.replicas.count
        if record is not None and more and record["status"] in ("completed", "diverged"):
            kept, record = {EARLIER: json.dumps(record)}, None
        if record is None or reopen:
            reports = {} if EARLIER in kept or reopen else frozen.intermediate_values
            return _trial(TrialState.RUNNING, params, self._distributions, kept, reports)
        record |= {"params": params, "config_hash": self._configuration(params).hash}
        kept[RECORD] = json.dumps(record, separators=(",", ":"))
        state, found = _outcome(record, self._objectives)
        return _trial(state, params, self._distributions, kept, frozen.intermediate_values, found)

    # -- samplers -------------------------------------------------------------------------------

    def _sampler(self, number: int) -> BaseSampler | None:
        """The sampler for one trial; None when a grid has no point left."""
        seed = (self.study.search.seed * 1_000_003 + number * 7919) % 2**31
        name = self.study.search.sampler
        samplers = optuna.samplers
        if name == "grid":
            assert self._grid is not None
            point = next(
                (p for p in self._grid if self._configuration(p).hash not in self._by_hash), None
            )
            return None if point is None else _Point(point)
        if name == "random":
            return _Random(seed)
        if name == "tpe":
            return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        if name == "gp":
            return samplers.GPSampler(seed=seed)
        if name == "cmaes":
            return samplers.CmaEsSampler(seed=seed)
        return samplers.NSGAIISampler(seed=seed)


class _Independent(BaseSampler):
    """Chooses each value by itself."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}


class _Point(_Independent):
    """The values of one point of a grid."""

    def __init__(self, point: dict[str, Any]):
        self.point = point

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.point[param_name]


class _Random(_Independent):
    """Each value from a stream of its own: a trial whose creation was cut short gets the same ones."""

    def __init__(self, seed: int):
        self.seed = seed

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        sampler = optuna.samplers.RandomSampler(
            (self.seed + zlib.crc32(param_name.encode())) % 2**31
        )
        return sampler.sample_independent(study, trial, param_name, param_distribution)


def read_records(path: Path, name: str) -> list[dict]:
    """The committed records of a study's ledger, read without changing it; [] where there is none."""
    if not path.exists():
        return []
    with _quiet():
        newest = _newest(_storage(LedgerFile(path, write=False)), path, name)
    return [] if newest is None else list(_records(newest[1]))


def _records(study: optuna.Study) -> Iterator[dict]:
    runs = study.user_attrs
    for frozen in study.get_trials(deepcopy=False):
        if RECORD in frozen.user_attrs:
            yield {
                **json.loads(frozen.user_attrs[RECORD]),
                "run_id": runs.get(f"{RUN}{frozen.number}"),
            }


def _status(frozen: FrozenTrial) -> str | None:
    return json.loads(frozen.user_attrs[RECORD])["status"] if RECORD in frozen.user_attrs else None


def _outcome(record: dict, objectives: Mapping[str, str]) -> tuple[TrialState, list[float] | None]:
    """What a record means to the search."""
    if record["status"] == "failed":
        return TrialState.FAIL, None
    if record["status"] == "pruned":
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, [
        _value(record, name, direction) for name, direction in objectives.items()
    ]


def _value(record: dict, name: str, direction: str) -> float:
    """The objective of a record; what is missing or not finite counts as the worst."""
    value = record["selection"].get(name)
    worst = math.inf if direction == "min" else -math.inf
    bad = value is None or not math.isfinite(value) or record["status"] == "diverged"
    return worst if bad else float(value)


def _trial(
    state: TrialState,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    attributes: dict[str, Any],
    reports: dict[int, float],
    values: list[float] | None = None,
) -> FrozenTrial:
    """A trial as it is taken over into another generation."""
    return optuna.trial.create_trial(
        state=state,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        intermediate_values=reports,
        values=values,
    )


def _void() -> FrozenTrial:
    """A number that is used up: it belongs to no trial of this study."""
    return _trial(TrialState.FAIL, {}, {}, {VOID: True}, {})


def _distribution(axis: Axis) -> BaseDistribution:
    """A sweep axis as an Optuna distribution: listed values are categories, a range has bounds."""
    if isinstance(axis, Values):
        return CategoricalDistribution(list(axis.values))
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False


def _storage(file: LedgerFile) -> JournalStorage:
    """Optuna's view of a ledger; LedgerError where its lines do not make sense."""
    with _quiet():
        try:
            return JournalStorage(file)  # type: ignore[arg-type]
        except LedgerError:
            raise
        except Exception as error:  # whatever Optuna makes of lines that are whole but not its own
            raise damaged(file.path, f"{type(error).__name__}: {error}") from error


def _newest(storage: JournalStorage, path: Path, name: str) -> tuple[int, optuna.Study] | None:
    """(generation, study) that counts; LedgerError where another version wrote it."""
    found = None
    for frozen in storage.get_all_studies():
        base, _, number = frozen.study_name.partition("#")
        version = frozen.user_attrs.get(VERSION, FORMAT)
        if version != FORMAT:
            raise refused(
                path,
                f"ledger format {version}, and this version reads {FORMAT}",
                "use the version that wrote it, or run under another name (--name N)",
            )
        if base == name and frozen.user_attrs.get(READY):
            found = (int(number or 1), frozen.study_name)
    if found is None:
        return None
    with _quiet():
        return found[0], optuna.load_study(study_name=found[1], storage=storage)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's warnings about experimental parts say nothing that a user of Engram can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
