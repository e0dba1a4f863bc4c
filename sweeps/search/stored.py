"""A ledger in Optuna's terms: what stands in it, and how it is taken over when a study has changed.

Optuna refuses a changed space, so a changed study is a new generation: another Optuna study in the same
file, which takes over the trials of the one before and counts from the moment it is marked as ready.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from engram.measures import catalog
from engram.sweeps.search import changes
from engram.sweeps.search.committed import READY, RECORD, RUN, VERSION
from engram.sweeps.search.ledger import (
    FORMAT,
    LedgerError,
    LedgerFile,
    check_format,
    damaged,
    refused,
)
from engram.sweeps.search.space import distribution, holds
from engram.sweeps.study.configuration import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)

# Attributes of a trial.
ATTEMPTS, SETBACKS = "engram.attempts", "engram.setbacks"
DUPLICATE, VOID, OUTSIDE = "engram.duplicate_of", "engram.void", "engram.outside"
EARLIER = "engram.earlier"  # the record that a reopened trial had
DEFINITION = "engram.definition"  # attribute of a study


class Generations:
    """The generations of one execution's search. changes: what is asked differently now, in words."""

    def __init__(self, study: Study, storage: JournalStorage, path: Path, name: str):
        self.study, self.storage, self.path, self.name = study, storage, path, name
        self.changes: list[str] = []
        self._distributions = {key: distribution(choice) for key, choice in study.sweep.items()}
        self._objectives = dict(study.search.objective)

    def current(self, retry_failed: bool) -> optuna.Study:
        """The one that counts, made anew where what is asked has changed its shape.

        retry_failed: trials that failed are open again.
        """
        now = changes.describe(self.study)
        found = newest(self.storage, self.path, self.name)
        if found is None:
            return self._create(1, [], now)
        generation, current = found
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
        created = self._create(generation + 1, trials, now)
        for key, value in current.user_attrs.items():
            if key.startswith(RUN):
                created.set_user_attr(key, value)
        return created

    def _create(self, generation: int, trials: list[FrozenTrial], definition: dict) -> optuna.Study:
        directions = [
            StudyDirection.MINIMIZE if d == "min" else StudyDirection.MAXIMIZE
            for d in self._objectives.values()
        ]
        while True:
            full = self.name if generation == 1 else f"{self.name}#{generation}"
            with quiet():
                study = optuna.create_study(
                    storage=self.storage,
                    study_name=full,
                    directions=directions,
                    load_if_exists=True,
                )
            if generation == 1 or not study.get_trials(deepcopy=False):
                break
            generation += 1  # left half made by a crash
        for trial in trials:
            study.add_trial(trial)
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
            if keys and {RECORD, EARLIER} & frozen.user_attrs.keys():
                wrong |= {key: (values[key], now["base"][key]) for key in keys}
            adapted.append(
                self._adapt(frozen, values, outside, bool(keys), frozen.number in reopen)
            )
        self._check_measured(current)
        if wrong:
            trials = current.get_trials(deepcopy=False)
            finished = sum(bool({RECORD, EARLIER} & f.user_attrs.keys()) for f in trials)
            said = ", ".join(f"{key} was {old} and is {new}" for key, (old, new) in wrong.items())
            raise refused(
                self.path,
                f"{said}: results of the {finished} finished trials would not compare with new ones",
                "run the changed study under another name (--name N), or undo the change",
            )
        return adapted

    def _check_measured(self, current: optuna.Study) -> None:
        """Refuse an objective that finished trials were not measured by: each would count as the worst."""
        metrics = {measure.name for measure in catalog.of_predictions(self.study.measured.own)}
        lacking = [
            name
            for record in records(current)
            for name in metrics.intersection(self._objectives)
            if record["status"] == "completed" and name not in record["measures"]
        ]
        if lacking:
            raise refused(
                self.path,
                f"the objective {lacking[0]} was not measured in {lacking.count(lacking[0])} finished trials",
                "run the study under another name (--name N), or select by what was measured",
            )

    def _adapt(
        self, frozen: FrozenTrial, values: dict, outside: bool, other: bool, reopen: bool
    ) -> FrozenTrial:
        params = {key: values[key] for key in self.study.sweep}
        outside = outside or not all(
            holds(self.study.sweep[key], value) for key, value in params.items()
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
        record |= {"params": params, "config_hash": self.study.configure(params).hash}
        kept[RECORD] = json.dumps(record, separators=(",", ":"))
        state, found = outcome(record, self._objectives)
        return _trial(state, params, self._distributions, kept, frozen.intermediate_values, found)


def records(study: optuna.Study) -> Iterator[dict]:
    """The records of committed trials, each with the id of its run."""
    runs = study.user_attrs
    for frozen in study.get_trials(deepcopy=False):
        if RECORD in frozen.user_attrs:
            yield {
                **json.loads(frozen.user_attrs[RECORD]),
                "run_id": runs.get(f"{RUN}{frozen.number}"),
            }


def _status(frozen: FrozenTrial) -> str | None:
    return json.loads(frozen.user_attrs[RECORD])["status"] if RECORD in frozen.user_attrs else None


def outcome(record: dict, objectives: Mapping[str, str]) -> tuple[TrialState, list[float] | None]:
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


def storage(file: LedgerFile) -> JournalStorage:
    """Optuna's view of a ledger; LedgerError where its lines do not make sense."""
    with quiet():
        try:
            return JournalStorage(file)  # type: ignore[arg-type]
        except LedgerError:
            raise
        except Exception as error:  # whatever Optuna makes of lines that are whole but not its own
            raise damaged(file.path, f"{type(error).__name__}: {error}") from error


def newest(storage: JournalStorage, path: Path, name: str) -> tuple[int, optuna.Study] | None:
    """(generation, study) that counts; LedgerError where another version wrote it."""
    found = None
    for frozen in storage.get_all_studies():
        base, _, number = frozen.study_name.partition("#")
        check_format(path, frozen.user_attrs.get(VERSION, FORMAT))
        if base == name and frozen.user_attrs.get(READY):
            found = (int(number or 1), frozen.study_name)
    if found is None:
        return None
    with quiet():
        return found[0], optuna.load_study(study_name=found[1], storage=storage)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna's warnings about experimental parts say nothing that a user of Engram can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
