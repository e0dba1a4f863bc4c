"""Ray and Tune: actors that train the trials which an execution asks for.

Tune is used as a scheduler of actors and nothing else. It never restores anything: what is finished is
in the ledger, what is half done in checkpoints that come with results, and what a scheduler knew is
told to it again (pruning).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle, tune
from ray.tune.search import Searcher

from engram.problems import Problem
from engram.sweeps.cluster import capacity, gpus, pruning
from engram.sweeps.cluster.faults import Ended, Spot
from engram.sweeps.cluster.health import Health
from engram.sweeps.cluster.reserve import Reserve
from engram.sweeps.cluster.trainable import CohortTrainable
from engram.sweeps.cluster.tune_workers import as_they_are
from engram.sweeps.cluster.work import Work
from engram.sweeps.study.configuration import Configuration, Study
from engram.sweeps.trial.messages import Saved
from engram.sweeps.trial.workers import workers

SNAPSHOTS_S = 20.0  # how long running trials may take to be saved before they are stopped
LOOK_S = 5.0  # between two looks at how many trials fit: nodes come and go
MANY = "100000"
WAITING_S = 60.0  # without a running trial before people are told
NODE_DIED = "its node died"
NODE_ID = "ray.io/node-id"  # the label that Ray gives each node
log = logging.getLogger(__name__)


def train(
    study: Study,
    work: Work,
    datasets: dict[str, Any],
    reports: pruning.Reports,
    name: str,
    folder: Path,
    sharing: gpus.Sharing,
) -> None:
    """Train what the work asks for, until there is nothing left or it is asked to stop.

    Ray is connected. References to objects in its store, which must not outlive it, are held here alone.
    datasets: {key: Dataset}; their pools are moved into the object store, so the driver holds them no
    longer. reports: what earlier processes heard of the objective; folder: Tune's own files. sharing: of `settled`.
    """
    problem = capacity.no_room(study)
    if problem is not None:
        work.refuse(str(problem), "no node has room for a trial")
        return
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = MANY  # the bridge says how many
    bridge = _Bridge(study, work, Health())
    watcher = _Watcher(study, work, bridge, sharing)
    # By reference: other workers of a trial take the same copy.
    shared = tune.with_parameters(CohortTrainable, datasets=[ray.put(dict(datasets))])
    datasets.update({key: data.without_pool() for key, data in datasets.items()})
    trainable = tune.with_resources(
        shared, lambda config: _asked(config["room"], config["workers"], config["avoided"])
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=bridge,
            scheduler=pruning.scheduler(study, reports),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=_trial_folder,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            callbacks=[watcher],
            stop=_Stopper(watcher),
            verbose=0,
            progress_reporter=tune.CLIReporter(),  # silent; its other one empties a notebook's cell
            failure_config=tune.FailureConfig(max_failures=0),
            # Not set, Tune asks each actor for one more, which is nothing: see trainable.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with as_they_are():
        tuner.fit()


def _asked(room: dict[str, float], workers: int, avoided: list[str]) -> tune.PlacementGroupFactory:
    """What a trial needs, the same for each of its workers, on any node but those that are avoided; near each other
    where that can be."""
    rooms = [dict(room) for _ in range(workers)]
    if not avoided:
        return tune.PlacementGroupFactory(rooms, strategy="PACK")
    elsewhere = {NODE_ID: f"!in({','.join(avoided)})"}
    return tune.PlacementGroupFactory(
        rooms, strategy="PACK", bundle_label_selector=[elsewhere] * workers
    )


def settled(study: Study, work: Work, bytes_of: gpus.BytesOf, trials: int | None) -> gpus.Sharing:
    """The study with a number of GPUs and of workers a trial; refused where GPUs are asked for and none can be used.

    bytes_of: an estimate, by which several trials share a GPU at first; trials: left to train, where that is known. Ray
    is connected.
    """
    found = _on_gpus(study, work, bytes_of)
    if found.study.resources.workers == "auto":
        several = workers(found.study, trials, capacity.workers_at_once(found.study))
        found.study = found.study.model_copy(
            update={"resources": found.study.resources.model_copy(update={"workers": several})}
        )
        if several > 1:
            work.say(f"{several} workers share the replicas of each trial: there is room for them")
    return found


def _on_gpus(study: Study, work: Work, bytes_of: gpus.BytesOf) -> gpus.Sharing:
    resources = study.resources
    if resources.gpu == 0 or resources.device in ("cpu", "mps"):
        return gpus.Sharing(study, {}, bytes_of)
    answers = gpus.ask(1.0 if resources.gpu == "auto" else resources.gpu)
    bad = {answer.host: answer.problem for answer in answers.values() if answer.problem is not None}
    for host, problem in bad.items():
        work.say(f"the GPUs of {host} cannot be used: {problem}")
    # Where nobody asked for a GPU, the CPU will do.
    key = "resources.device" if resources.gpu == "auto" else "resources.gpu"
    asked = bool(bad) if key == "resources.gpu" else resources.device == "cuda"
    if asked and all(answer.problem is not None for answer in answers.values()):
        said = "none can be used: see above" if bad else "there is none"
        fix = "mend the driver, or train on CPUs: --set resources.gpu=0 --set resources.device=auto"
        value = getattr(resources, key.partition(".")[2])
        refused = Problem(study.place(key), f"asks for GPUs, and {said}", fix, key, value)
        work.refuse(str(refused), "no usable GPU")
        return gpus.Sharing(study, {}, bytes_of)
    found = gpus.Sharing(study, answers, bytes_of)
    if resources.gpu == "auto" and found.together:
        plural = "s" if found.together > 1 else ""
        work.say(f"on GPUs, {found.together} trial{plural} on each at a time")
    return found


class _Unpickled:
    """Tune pickles its callbacks for a restore that never comes: it gets an empty object instead."""

    def __reduce__(self) -> tuple:
        return object, ()

    def __deepcopy__(self, memo: dict) -> _Unpickled:
        return self


class _Bridge(_Unpickled, Searcher):
    """Tune asks, the work answers; at most `capacity` trials at a time."""

    def __init__(self, study: Study, work: Work, health: Health):
        super().__init__(metric=None, mode=None)
        self.study, self.work, self.health = study, work, health
        self._capacity, self._looked = 1, -math.inf
        self.trials: dict[str, int] = {}  # {Tune's name: number} of those in training
        # Those that Tune has given up and the watcher has not heard of.
        self.lost: dict[str, int] = {}

    @property
    def capacity(self) -> int:
        """Trials at the same time, on the nodes that are there now."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            before, self._capacity = (
                self._capacity,
                capacity.trials_at_once(self.study, self.health),
            )
            if self._capacity != before:
                log.info("%d trials at a time", self._capacity)
        return self._capacity

    def shared(self, study: Study) -> None:
        """Trials take another share of a GPU from here on."""
        self.study, self._looked = study, -math.inf

    def suggest(self, trial_id: str) -> Any:
        full = len(self.trials) >= self.capacity
        config = None if full or self.work.stopping else self.work.next()
        if config is None:
            later = self.trials or (self.work.waiting and not self.work.stopping)
            return None if later else Searcher.FINISHED
        self.trials[trial_id] = config["trial"]
        unwanted = self.health.failed_on(config["trial"]) | set(config.pop("failed_on", ()))
        never = self.health.nodes_aside
        found = capacity.avoidable(self.study, unwanted, never) if unwanted or never else []
        config["avoided"] = found
        config["room"] = {"CPU": self.study.resources.cpu, "GPU": config["gpu"]}
        # By reference: Tune copies and writes down whatever is in a configuration.
        for name in ("restore", "earlier"):
            for piece in config[name] or ():
                piece.data = [ray.put(piece.data)]
        return config

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        trial = self.trials.pop(trial_id, None)
        if error and trial is not None:
            self.lost[trial_id] = trial

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""


class _Watcher(_Unpickled, tune.Callback):
    """Hands what Tune's trials report to the work, and ends those that take too long.

    over: running trials have been saved, or need not be; Tune may end them.
    """

    def __init__(self, study: Study, work: Work, bridge: _Bridge, sharing: gpus.Sharing):
        self.study, self.work, self.bridge, self.sharing = study, work, bridge, sharing
        # {Tune's name: (trial, when it started)} of those in training.
        self.started: dict[str, tuple[Any, float]] = {}
        self.spots: dict[int, Spot] = {}  # where trials in training have been heard of
        self.health, self.reserve = bridge.health, Reserve(capacity.share(study) or 1.0)
        self.overdue: set[str] = set()
        self.losses = capacity.Losses()
        self.heard = time.monotonic()
        self._saved = False

    @property
    def over(self) -> bool:
        return self._saved or self.work.at_once

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.started[trial.trial_id] = trial, time.monotonic()
        self.work.started(self.bridge.trials[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict, **info: Any
    ) -> None:
        # Taken out: Tune keeps every trial's last result in memory.
        taken = {
            name: result.pop(name, None) for name in ("progress", "saved", "finished", "failure")
        }
        spot, notes = result.pop("spot", None), result.pop("notes", None)
        held = result.pop("memory", None)
        number = self.bridge.trials.get(trial.trial_id)
        if number is None or self.over:
            return
        if result.get("done"):
            self.started.pop(trial.trial_id, None)
        for note in notes or ():
            log.warning("trial %d: %s", number, note)
        if spot is not None:
            self.spots[number] = spot
        if held is not None:
            self._share_anew(Configuration(**trial.config["configuration"]), held)
        self._tell(number, bool(result.get("done")), **taken)

    def _share_anew(self, configuration: Configuration, held: int) -> None:
        """A trial has told what it holds of a GPU: those that start from here on may share one otherwise."""
        said = self.sharing.told(configuration, held)
        if said is not None:
            self.study = self.sharing.study
            self.bridge.shared(self.study)
            self.work.shared(self.study, said)

    def _tell(
        self, trial: int, done: bool, progress: Any, saved: Any, finished: Any, failure: Any
    ) -> None:
        if failure is not None:
            self._blame(trial, failure)
            self.work.failed(trial, failure)
            return
        if (spot := self.spots.get(trial)) is not None and (progress or finished):
            works = (
                self.health.completed(trial, spot) if finished else self.health.got_further(spot)
            )
            self._set_aside(works)
        # A trial that is pruned here is committed before its last report is noted.
        pruned = done and finished is None
        for piece in _fetched(saved):
            self.work.saved(trial, piece)
        if finished is not None and finished.final is not None:
            finished.final = _fetched(finished.final)
        self.work.reported(trial, progress, last=pruned)
        if finished is not None:
            self.work.measured(trial, finished)
        elif pruned:
            self.work.pruned(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The worker died: its node is gone, the system killed it, or it took too long."""
        self.started.pop(trial.trial_id, None)
        number = self.bridge.lost.pop(trial.trial_id, None)
        if number is None or self.over:
            return
        ended = _ended(trial)
        if ended is not None:
            self.spots[number] = ended.spot
            of_device = ended.trouble.kind == "device"
            self._blame(number, ended.trouble.text, of_device)
            (self.work.faulted if of_device else self.work.failed)(number, str(ended))
            return
        limit = self.study.faults.time_limit_s
        why = (
            f"it took longer than faults.time_limit_s, {limit} s"
            if trial.trial_id in self.overdue
            else self._why(trial)
        )
        if why != NODE_DIED and trial.trial_id not in self.overdue:
            self._blame(number, why)
        self.work.lost(number, why, node=why == NODE_DIED)

    def _blame(self, trial: int, why: str, of_device: bool = False) -> None:
        """Remember where a trial failed, and set that aside where it is the place that fails."""
        spot = self.spots.pop(trial, None)
        if spot is None:
            return
        self.work.blamed(trial, spot.node)
        self._set_aside(self.health.failed(trial, spot, why.strip().splitlines()[-1], of_device))
        if self.health.hopeless is not None:
            self.work.hopeless(self.health.hopeless)

    def _set_aside(self, spots: list[Spot]) -> None:
        for spot in spots:
            self.work.set_aside(str(spot), self.health.aside[spot])
            if spot.gpus:
                self.reserve.hold(spot)

    def _why(self, trial: Any) -> str:
        """Why a worker is gone, as far as Ray knows."""
        # The file may be missing, and the reason is only for people.
        with contextlib.suppress(Exception):
            said = Path(trial.error_file).read_text(errors="replace")
            if "OutOfMemoryError" in said or "running low on memory" in said:
                return "its worker was ended: the machine was out of memory"
            if "node" in said and "died" in said.partition("node")[2][:60]:
                return NODE_DIED
        return NODE_DIED if self.losses.recent() else "its worker died"

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        running = [trial for trial, _ in self.started.values()]  # `trials` is all there ever were
        self.work.tick(len(running))
        self.reserve.tick()
        limit = self.study.faults.time_limit_s
        for trial in running:
            late = limit is not None and time.monotonic() - self.started[trial.trial_id][1] > limit
            actor = trial.temporary_state.ray_actor
            if late and actor is not None and trial.trial_id not in self.overdue:
                self.overdue.add(trial.trial_id)
                ray.kill(actor)
        if self.work.stopping and not self.over:
            self._save(running)
            self._saved = True
        self._say_when_nothing_runs(bool(running))

    def _save(self, running: list) -> None:
        """The last checkpoints of trials that are about to be stopped."""
        asked = {}
        for trial in running:
            number, actor = self.bridge.trials.get(trial.trial_id), trial.temporary_state.ray_actor
            if number is not None and actor is not None:
                asked[actor.snapshot.remote()] = number
        if not asked:
            return
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=SNAPSHOTS_S)
        for reference in ready:
            saved: list[Saved] = []
            with contextlib.suppress(ray.exceptions.RayError):
                saved = ray.get(reference)
            for piece in _fetched(saved):
                self.work.saved(asked[reference], piece)

    def _say_when_nothing_runs(self, running: bool) -> None:
        now = time.monotonic()
        if running or not self.bridge.trials:
            self.heard = now
        elif now - self.heard > WAITING_S:
            wanted = capacity.wanted(self.study)
            self.work.say(
                f"waiting: no trial has begun for {WAITING_S:.0f} s; each takes {wanted}, and the cluster has "
                f"{capacity.described()}, busy with something else or with starting"
            )
            self.heard = now + 10 * WAITING_S


class _Stopper(_Unpickled, tune.Stopper):
    """Ends Tune's run once running trials have been saved."""

    def __init__(self, watcher: _Watcher):
        self.watcher = watcher

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.watcher.over


def _fetched(pieces: list[Saved] | None) -> list[Saved]:
    """Pieces with their bytes, one at a time; without those whose worker and node are gone."""
    found = []
    for piece in pieces or ():
        with contextlib.suppress(ray.exceptions.RayError):
            if isinstance(piece.data, list):
                piece.data = ray.get(piece.data[0])
            found.append(piece)
    return found


def _ended(trial: Any) -> Ended | None:
    """The error by which a trial's actor ended itself; None where it ended otherwise."""
    with contextlib.suppress(Exception):  # Tune's file of it may be missing or cut short
        error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        cause = getattr(error, "cause", None)
        return cause if isinstance(cause, Ended) else None
    return None


def _trial_folder(trial: Any) -> str:
    """Tune's own name for the folder spells out every value and outgrows file systems."""
    return f"trial-{trial.config['trial']}-{trial.trial_id}"
