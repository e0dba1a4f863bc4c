"""Ray and Tune: actors that train the trials which an execution asks for.

Tune is used as a scheduler of actors and nothing else. It never restores anything: what is finished is
in the ledger, what is half done in checkpoints that come with results, and what a scheduler knew is
told to it again (pruning).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from sweeps.running import cluster, live, pruning
from sweeps.running.messages import Saved
from sweeps.running.stopping import BAD_INPUT
from sweeps.running.trainable import CohortTrainable

if TYPE_CHECKING:
    from sweeps.runner import Execution
    from sweeps.search.search import Proposal

SNAPSHOTS_S = 20.0  # how long running trials may take to be saved before they are stopped
LOOK_S = 5.0  # between two looks at how many trials fit: nodes come and go
MANY = "100000"
WAITING_S = 60.0  # without a running trial before people are told
NODE_DIED = "its node died"
log = logging.getLogger(__name__)
# Tune gives its actors an environment of their own, for Lightning: the workers that Ray has started by then,
# which have none, would be ended, and others started.
class_cache.DEFAULT_ENV_VARS.clear()
class_cache.ENV_VARS_TO_PROPAGATE.discard("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS")


def train(execution: Execution, datasets: dict[str, Any]) -> None:
    """Train what the execution's search asks for, until there is nothing left or it is asked to stop.

    Ray is connected. References to objects in its store, which must not outlive it, are held here alone.
    datasets: {key: Dataset}; their pools are moved into the object store, so the driver holds them no longer.
    """
    study = execution.study
    problem = cluster.no_room(study)
    if problem is not None:
        live.warn(str(problem))
        execution.stop.ask("no node has room for a trial", BAD_INPUT)
        return
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = MANY  # the bridge says how many
    bridge = _Bridge(execution)
    shared = tune.with_parameters(CohortTrainable, datasets=dict(datasets))
    datasets.update({key: data.without_pool() for key, data in datasets.items()})
    trainable = tune.with_resources(
        shared,
        {"cpu": study.resources.cpu, "gpu": study.resources.gpu},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=bridge,
            scheduler=pruning.scheduler(study, execution.search.reports()),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=execution.name,
            storage_path=str(execution.folder / "tune"),
            callbacks=[_Watcher(execution, bridge)],
            stop=_Stopper(execution),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            # Not set, Tune asks each actor for one more, which is nothing: see trainable.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


class _Bridge(Searcher):
    """Tune asks, the search answers; at most `capacity` trials at a time, interrupted ones first."""

    def __init__(self, execution: Execution):
        super().__init__(metric=None, mode=None)
        self.execution = execution
        self._capacity, self._looked = 1, -LOOK_S
        self.proposals: dict[
            str, Proposal
        ] = {}  # by Tune's name of the trial, while it is in training
        self.lost: dict[
            str, Proposal
        ] = {}  # those that Tune has given up and the watcher has not heard of

    @property
    def capacity(self) -> int:
        """Trials at the same time, on the nodes that are there now."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            before, self._capacity = self._capacity, cluster.capacity(self.execution.study)
            if self._capacity != before:
                log.info("%d trials at a time", self._capacity)
        return self._capacity

    def suggest(self, trial_id: str) -> Any:
        if self.execution.stop.requested:
            return None if self.proposals else Searcher.FINISHED
        if len(self.proposals) >= self.capacity:
            return None
        with self.execution.stop.when_full():
            proposal = self.execution.search.ask()
            if proposal is None:
                self.execution.review.last_trials_run()
                return None if self.proposals else Searcher.FINISHED
            config = self.execution.trials.config(proposal)
            self.proposals[trial_id] = proposal
            # By reference: Tune copies and writes down whatever is in a configuration.
            for name in ("restore", "earlier"):
                config[name] = None if config[name] is None else [ray.put(config[name])]
            return config
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        proposal = self.proposals.pop(trial_id, None)
        if error and proposal is not None:
            self.lost[trial_id] = proposal

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""


class _Watcher(tune.Callback):
    """Hands what Tune's trials report to the execution, and ends those that take too long."""

    def __init__(self, execution: Execution, bridge: _Bridge):
        self.execution, self.bridge = execution, bridge
        self.started: dict[
            str, tuple[Any, float]
        ] = {}  # {name: (trial, when)} of those in training
        self.overdue: set[str] = set()
        self.losses = cluster.Losses()
        self.heard = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.started[trial.trial_id] = trial, time.monotonic()
        with self.execution.stop.when_full():
            self.execution.trials.started(self.bridge.proposals[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict, **info: Any
    ) -> None:
        # Taken out: Tune keeps every trial's last result in memory.
        taken = {
            name: result.pop(name, None) for name in ("progress", "saved", "finished", "failure")
        }
        proposal = self.bridge.proposals.get(trial.trial_id)
        if proposal is None or self.execution.stop.now:
            return
        if result.get("done"):
            self.started.pop(trial.trial_id, None)
        with self.execution.stop.when_full():
            self._tell(proposal, result, **taken)

    def _tell(
        self,
        proposal: Proposal,
        result: dict,
        progress: Any,
        saved: Any,
        finished: Any,
        failure: Any,
    ) -> None:
        execution = self.execution
        if failure is not None:
            execution.trials.failed(proposal, failure)
            return
        # A trial that is pruned here is committed before its last report is noted.
        pruned = result.get("done") and finished is None
        if saved is not None:
            execution.trials.saved(proposal, saved)
        execution.trials.reported(proposal, progress, ledger=not pruned)
        if finished is not None:
            execution.trials.measured(proposal, finished)
        elif pruned:
            execution.trials.pruned(proposal)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The worker died: its node is gone, the system killed it, or it took too long."""
        self.started.pop(trial.trial_id, None)
        proposal = self.bridge.lost.pop(trial.trial_id, None)
        if proposal is None or self.execution.stop.now:
            return
        limit = self.execution.study.faults.time_limit_s
        why = (
            f"it took longer than faults.time_limit_s, {limit} s"
            if trial.trial_id in self.overdue
            else self._why(trial)
        )
        with self.execution.stop.when_full():
            self.execution.trials.lost(proposal, why, node=why == NODE_DIED)

    def _why(self, trial: Any) -> str:
        """Why a worker is gone, as far as Ray knows."""
        with contextlib.suppress(
            Exception
        ):  # the file may be missing, and the reason is only for people
            said = Path(trial.error_file).read_text(errors="replace")
            if "OutOfMemoryError" in said or "running low on memory" in said:
                return "its worker was ended: the machine was out of memory"
            if "node" in said and "died" in said.partition("node")[2][:60]:
                return NODE_DIED
        return NODE_DIED if self.losses.recent() else "its worker died"

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        execution = self.execution
        running = [trial for trial, _ in self.started.values()]  # `trials` is all there ever were
        with execution.stop.when_full():
            execution.tick(len(running))
        limit = execution.study.faults.time_limit_s
        for trial in running:
            late = limit is not None and time.monotonic() - self.started[trial.trial_id][1] > limit
            actor = trial.temporary_state.ray_actor
            if late and actor is not None and trial.trial_id not in self.overdue:
                self.overdue.add(trial.trial_id)
                ray.kill(actor)
        if execution.stop.requested and not execution.stop.now:
            with execution.stop.when_full():
                self._save(running)
            execution.stop.now = True
        self._say_when_nothing_runs(bool(running))

    def _save(self, running: list) -> None:
        """The last checkpoints of trials that are about to be stopped."""
        asked = {}
        for trial in running:
            proposal, actor = (
                self.bridge.proposals.get(trial.trial_id),
                trial.temporary_state.ray_actor,
            )
            if proposal is not None and actor is not None:
                asked[actor.snapshot.remote()] = proposal
        ready, _ = (
            ray.wait(list(asked), num_returns=len(asked), timeout=SNAPSHOTS_S)
            if asked
            else ([], [])
        )
        for reference in ready:
            saved: Saved | None = None
            with contextlib.suppress(ray.exceptions.RayError):
                saved = ray.get(reference)
            if saved is not None:
                self.execution.trials.saved(asked[reference], saved)

    def _say_when_nothing_runs(self, running: bool) -> None:
        now = time.monotonic()
        if running or not self.bridge.proposals:
            self.heard = now
        elif now - self.heard > WAITING_S:
            resources = self.execution.study.resources
            live.warn(
                f"waiting: no node has {resources.cpu:g} CPUs and {resources.gpu:g} GPUs free for a trial; "
                f"the cluster has {cluster.described()}"
            )
            self.heard = now + 10 * WAITING_S


class _Stopper(tune.Stopper):
    """Ends Tune's run once running trials have been saved."""

    def __init__(self, execution: Execution):
        self.execution = execution

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.execution.stop.now


def _trial_folder(trial: Any) -> str:
    """Tune's own name for the folder spells out every value and outgrows file systems."""
    return f"trial-{trial.config['trial']}-{trial.trial_id}"
