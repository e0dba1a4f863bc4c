"""Tune's schedulers with a memory: they know after an interruption what they knew before it.

Tune's own state of a scheduler dies with the driver. But it is made of nothing but what trials
reported of the objective, and the ledger has all of that: it is told again, trial by trial.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from engram.sweeps.cluster.trainable import EPOCH
from engram.sweeps.study.configuration import Study

LONGEST_EPOCHS = 1_000_000
Reports = dict[
    int, tuple[dict[int, float], bool]
]  # of each trial: {epoch: objective}, and whether it is over


def scheduler(study: Study, reports: Reports) -> TrialScheduler:
    """The scheduler a study asks for, as it would be had it seen these reports itself."""
    wanted = study.scheduler
    if wanted.name == "fifo":
        return InOrder()
    objective, direction = next(iter(study.search.objective.items()))
    options: dict[str, Any] = {"time_attr": EPOCH, "metric": objective, "mode": direction}
    if wanted.name == "median":
        inner: TrialScheduler = MedianStoppingRule(grace_period=wanted.grace, **options)
    else:
        inner = AsyncHyperBandScheduler(
            max_t=LONGEST_EPOCHS,  # rungs beyond a trial's end are never reached
            grace_period=wanted.grace,
            reduction_factor=wanted.reduction_factor,
            **options,
        )
    return Remembering(inner, objective, reports)


class InOrder(FIFOScheduler):
    """Trials in the order they came: Tune starts those that wait by itself.

    Its own answer here looks through all trials there ever were at every step, and gives an actor that
    has just become free to a trial whose own actor is starting, which is then ended for nothing: where
    trials are shorter than the start of a worker, a cluster never fills.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        return None


class Remembering(InOrder):
    """Asks another scheduler, under names of trials that outlive a process, about each report once."""

    def __init__(self, inner: Any, objective: str, reports: Reports):
        super().__init__()
        self.inner = inner  # a scheduler of Tune's, which gets stand-ins for Tune's own objects
        self.objective = objective
        self._trials: dict[int, _Named] = {}
        self._seen: dict[
            int, int
        ] = {}  # the last epoch of each trial that the scheduler has judged
        for number, (values, over) in reports.items():
            for epoch, value in values.items():
                self._judge(number, {EPOCH: epoch, objective: value})
                # What it would say now, knowing more, is not what it said: the trial went on.
                getattr(inner, "_stopped_trials", set()).clear()
            if over and values:
                epoch, value = max(values.items())
                self.inner.on_trial_complete(
                    _NO_CONTROLLER, self._trial(number), {EPOCH: epoch, objective: value}
                )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict) -> str:
        if self.objective not in result:
            return TrialScheduler.CONTINUE
        decision = self._judge(trial.config["trial"], result)
        # Pausing needs checkpoints that Tune can reach; and what has trained to its end is measured.
        stops = decision == TrialScheduler.STOP and not result.get("last", False)
        return TrialScheduler.STOP if stops else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict) -> None:
        number = trial.config["trial"]
        if self.objective in result:
            self.inner.on_trial_complete(
                _NO_CONTROLLER, self._trial(number), _only(result, self.objective)
            )

    def _judge(self, number: int, result: dict) -> str:
        """What the scheduler says to a report; one it has judged before went on then."""
        if result[EPOCH] <= self._seen.get(number, 0):
            return TrialScheduler.CONTINUE
        self._seen[number] = result[EPOCH]
        return self.inner.on_trial_result(
            _NO_CONTROLLER, self._trial(number), _only(result, self.objective)
        )

    def _trial(self, number: int) -> _Named:
        """What stands for a trial in the scheduler: the same object for as long as the study lasts."""
        if number not in self._trials:
            self._trials[number] = _Named(f"engram-{number}")
            self.inner.on_trial_add(_NO_CONTROLLER, self._trials[number])
        return self._trials[number]


class _Named:
    """What Tune's schedulers ask of a trial."""

    def __init__(self, trial_id: str):
        self.trial_id, self.status = trial_id, Trial.RUNNING


_NO_CONTROLLER: Any = SimpleNamespace(get_live_trials=lambda: [])


def _only(result: dict, objective: str) -> dict:
    """Tune's schedulers keep every result they see: they see two numbers."""
    return {EPOCH: result[EPOCH], objective: result[objective]}
