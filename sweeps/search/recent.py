"""What a sampler that learns is asked with: the best trials of a long search and its latest ones, not all of them.

TPE looks at every trial for each question, 12 µs a trial. Its model of good configurations is made of the 25 best; only
that of all the others is thinner for it. Which trials are seen depends on the trial's number and the ledger alone, so
that a search that was interrupted goes on as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from engram.measures import pareto
from engram.sweeps.search import window


class Recent:
    """A study in memory that follows the ledger's own, as far as a question looks at it.

    frozen(number): a trial of the ledger; trials(): all of them, in order."""

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        directions: Sequence[StudyDirection],
        frozen: Callable[[int], FrozenTrial],
        trials: Callable[[], Sequence[FrozenTrial]],
    ):
        self._distributions, self._directions = dict(distributions), list(directions)
        self._frozen, self._trials = frozen, trials
        self._first: int | None = None  # of the window that is here
        self._next = 0  # the first trial that is not here
        self._open: dict[int, int] = {}  # trials that were running, and their ids here

    def propose(self, number: int, sampler: BaseSampler) -> dict[str, Any]:
        """The values of the trial with this number, by the trials before it."""
        first = window.first(number)
        if first != self._first or number < self._next:
            self._begin(first, number)
        for each, here in list(self._open.items()):
            self._follow(each, here)
        for each in range(self._next, number):
            self._add(self._frozen(each))
        self._next = number
        self._study.sampler = sampler
        asked = self._study.ask(fixed_distributions=self._distributions)
        self._study.tell(asked, state=TrialState.FAIL)  # as the ledger's own trial it comes back
        return asked.params

    def _begin(self, first: int, number: int) -> None:
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, directions=self._directions)
        self._id = self._storage.get_study_id_from_name(self._study.study_name)
        self._first, self._next, self._open = first, first, {}
        for frozen in self._best(self._trials()[: min(first, number)]):
            self._add(frozen)

    def _best(self, before: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        signs = [1 if one == StudyDirection.MINIMIZE else -1 for one in self._directions]
        done = [
            (frozen, [s * v for s, v in zip(signs, frozen.values, strict=True)])
            for frozen in before
            if frozen.state == TrialState.COMPLETE and all(map(math.isfinite, frozen.values))
        ]
        if len(signs) > 1:
            kept = [done[i] for i in pareto.front([values for _, values in done])] if done else []
        else:
            kept = sorted(done, key=lambda each: each[1])
        return sorted(
            (frozen for frozen, _ in kept[: window.BEST]), key=lambda frozen: frozen.number
        )

    def _add(self, frozen: FrozenTrial) -> None:
        here = self._storage.create_new_trial(
            self._id,
            optuna.trial.create_trial(
                state=frozen.state,
                params=frozen.params,
                distributions=frozen.distributions,
                values=frozen.values,
                intermediate_values=frozen.intermediate_values,
            ),
        )
        if not frozen.state.is_finished():
            self._open[frozen.number] = here

    def _follow(self, number: int, here: int) -> None:
        """What a trial that was running has become."""
        frozen = self._frozen(number)
        known = self._storage.get_trial(here).intermediate_values
        for step, value in frozen.intermediate_values.items():
            if step not in known:
                self._storage.set_trial_intermediate_value(here, step, value)
        if frozen.state.is_finished():
            self._storage.set_trial_state_values(here, frozen.state, frozen.values)
            del self._open[number]
