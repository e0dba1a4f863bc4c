"""A trial as Ray Tune sees it: an actor that trains one cohort after another, evaluation by evaluation."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from engram.sweeps.cluster.faults import Ended, Spot, Trouble
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import outcomes
from engram.sweeps.trial.messages import Finished, Progress, Saved

EPOCH = "epoch"
HEARTBEAT_S = 5.0  # a trial is heard of at least this often while it trains
KEPT_OF_FINAL = (
    "step",
    "seconds",
    "cohort",
    "diverged",
)  # no optimizer: nothing trains on from there


class CohortTrainable(tune.Trainable):
    """Trains the cohort of one configuration. Actors are reused: `reset_config` starts the next trial.

    config: trial (number), configuration (a Configuration as plain values), about (what its
    checkpoints belong to), cache (folder of what this machine remembers), measures, device, deterministic, gpu (its share of one),
    scratch (folder that a learner may write in), threads, stack (most replicas in one pass, or None), checkpoint (a CheckpointConfig as plain values),
    dataset (key into `datasets`); restore, earlier: None, or a list of one reference to a checkpoint to
    go on from, or to the final weights of the trial's first replicas.
    datasets: {key: Dataset}, shared through the object store.
    A result has `spot` (where it runs), `progress` (evaluations not told before), `memory` (bytes of a GPU), and now and then `saved` and
    `notes` (lines for the log); `done` comes with `finished` or with `failure`. An error that belongs to the process
    or its device is raised, as Ended: what is tried in this process afterwards would fail with it.
    """

    trial: Any = None

    def setup(self, config: dict, datasets: dict | None = None) -> None:
        import torch

        from engram.models import device, memory
        from engram.sweeps.trial import checkpoint

        memory.keep_freed()
        device.settle(config["deterministic"])
        if datasets is not None:
            self.datasets = datasets
        torch.set_num_threads(config["threads"])
        self.spot = _here()
        self._drop()  # made by the first step, whose time is measured
        memory.give_back()  # what the trial before it held
        self.told = 0  # evaluations that the driver has heard of from this attempt
        self.notes: list[str] = []
        self.saved_at, self.saved_step = time.monotonic(), 0
        self.failure: str | None = None
        # Most replicas in one pass, where memory has said so.
        self.stack: int | None = config["stack"]
        self.width = self._replicas  # replicas in one pass, as it was tried last
        self.may_record, self.records = True, False  # steps, to be replayed (models/captured.py)
        self.safe = _fetched(config["restore"])
        earlier = _fetched(config["earlier"])
        self.earlier = None if earlier is None else checkpoint.decode(earlier)[0]

    def reset_config(self, new_config: dict) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict:
        """Up to the next evaluation, or for a few seconds; the last one also carries the measures."""
        result = self._step()
        return result | {"spot": self.spot, "notes": self._taken_notes()}

    def _step(self) -> dict:
        if self.failure is None:
            try:
                if self.trial is None:
                    self._prepare()
                return self._advance()
            except Exception as error:
                trouble = Trouble.of(error)
            # Out of the handler: the error and its frames, which hold the cohort, are gone.
            self._recover(trouble)
        if self.failure is None:
            return {EPOCH: self._epoch, "progress": []}
        # Reported, not raised: the actor lives on, and the study goes on without this trial.
        return {"done": True, EPOCH: 0, "failure": self.failure}

    def _taken_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes

    def snapshot(self) -> Saved | None:
        """The trial as it stands, for a driver that is about to stop it."""
        if self.failure is not None or self.trial is None or not self.trial.trainer.step:
            return None
        return self._saved()

    def cleanup(self) -> None:
        self._drop()

    def _drop(self) -> None:
        """Let go of the trial, and of what it still runs."""
        held, self.trial = self.trial, None
        if held is not None:
            held.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: checkpoints travel in results, for which no file system has to be shared."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see save_checkpoint."""

    # -- one step -------------------------------------------------------------------------------

    def _advance(self) -> dict:
        from engram.models import memory
        from engram.sweeps.trial import trial

        trainer = self.trial.trainer
        if not trainer.finished:
            self.trial.advance(HEARTBEAT_S)
        news = self.trial.history[self.told :]
        self.told = len(self.trial.history)
        held = memory.peak(trainer.device) if news else None
        result: dict[str, Any] = {
            EPOCH: self._epoch,
            "progress": [_progress(report, held) for report in news],
        }
        if news:
            result |= trial.summary(news[-1]) | {"last": trainer.finished, "memory": held}
        # Before the measures too: they may take longer than the training did.
        due = time.monotonic() - self.saved_at >= self.config["checkpoint"]["every_s"]
        due = due or trainer.commits
        if due and self.saved_step != trainer.step:
            result["saved"] = self._saved()
        elif trainer.finished:
            try:
                result["finished"] = self._finish()
                result["done"] = True
            except _Unjoinable:  # all replicas have to be trained together after all
                self.earlier = self.safe = None
                self._prepare()
                self.told = 0
        return result

    def _finish(self) -> Finished:
        from engram.models import device
        from engram.sweeps.trial import checkpoint, measuring

        state = _final_state(self.trial.state_dict())
        if self.earlier is not None:
            state = _joined(self.earlier, state)
            self._hold(state)
        wanted_final = self.config["checkpoint"]["final"]
        final = checkpoint.encode(state, self.config["about"]) if wanted_final else None
        wanted = MeasuresConfig(**self.config["measures"])
        record, arrays = measuring.measure(self.trial, wanted)
        record["device"] = device.described(self.trial.trainer.device)
        self.trial.close()
        return Finished(
            record, outcomes.packed(arrays), final
        )  # packed here, on as many cores as train

    @property
    def _epoch(self) -> int:
        return self.trial.history[-1].epoch if self.trial.history else 0

    # -- where training starts from --------------------------------------------------------------

    def _prepare(self) -> None:
        """The trial as it was saved last, or from the start."""
        import torch

        from engram.models import memory
        from engram.sweeps.trial import preparing

        configuration = Configuration(**self.config["configuration"])
        device = torch.device(self.config["device"])
        memory.keep_to_share(device, self.config["gpu"])
        dataset = self.datasets[self.config["dataset"]]
        self._choose(configuration, dataset, device)
        memory.count_anew(device)
        replicas = configuration.replicas.model_copy(update={"stack": self.width})
        configuration = configuration.model_copy(update={"replicas": replicas})
        first = 0 if self.earlier is None else len(self.earlier["trainer"]["diverged"])
        options: dict[str, Any] = {
            "wanted": MeasuresConfig(**self.config["measures"]),
            "first": first,
            "scratch": Path(self.config["scratch"]),
            "capture": self.records,
        }
        self.trial = preparing.prepare(configuration, dataset, device, **options)
        self.width = self.trial.trainer.cohort.stack  # 1 where it cannot be stacked
        if self.safe is not None and not self._takes_up(self.safe):
            self.trial = preparing.prepare(configuration, dataset, device, **options)

    def _choose(self, configuration: Configuration, dataset: Any, device: Any) -> None:
        """Replicas in one pass, as asked or as measured and no more than memory has been found to hold; recorded or not."""
        from engram.models.learners import kinds
        from engram.sweeps.trial import cohorts, stacking

        if kinds.of(configuration.model.family) is not None:
            self.width, self.records = 1, False
            return
        count, cache = configuration.replicas.count, Path(self.config["cache"])
        cohort = stacking.Cohort(
            configuration.model,
            configuration.training,
            count,
            dataset.shape,
            dataset.outputs,
            dataset.kind == "image",
            device,
            cohorts.way(configuration, dataset, device),
            dataset.tokens,
        )
        stack = configuration.replicas.stack
        if stack == "auto":
            stack = stacking.width(cohort, cache, self.stack)
        self.width = min(stack, self.stack or stack, count)
        self.records = self.may_record and stacking.captured(cohort, self.width, cache)

    def _takes_up(self, saved: bytes) -> bool:
        """Whether the trial goes on from its checkpoint. One that cannot be read, and only that, is left aside."""
        from engram.sweeps.trial import checkpoint

        try:
            self.trial.load_state_dict(checkpoint.decode(saved)[0])
            return True
        except (checkpoint.Unreadable, KeyError, IndexError, RuntimeError) as error:
            trouble = Trouble.of(error)
            if trouble.kind != "trial":
                raise  # the checkpoint is in order
            why = f"{type(error).__name__}: {error}"
        # Of another shape: the beginning is always right.
        self.notes.append(f"its checkpoint does not fit, and it starts from the beginning: {why}")
        self.safe = self.trial = None
        return False

    def _recover(self, trouble: Trouble) -> None:
        """Out of memory: go on from the last checkpoint with less at a time. Anything else has failed."""
        from engram.models import memory
        from engram.sweeps.trial import resident

        self.trial = None
        while trouble.kind == "memory":
            resident.forget()
            memory.give_back()  # before anything is built again: there is no room for two
            if self.records:
                self.may_record = False
                self.notes.append("out of memory with recorded steps: step by step from here on")
            elif self.width <= 1:
                self.failure = f"out of memory, even one replica at a time\n{trouble.text}"
                return
            else:
                self.stack = self.width // 2
                self.notes.append(
                    f"out of memory with {self.width} replicas at a time: {self.stack}"
                )
                self.width = self.stack
            try:
                self._prepare()
                self.told = 0
                return
            except Exception as error:
                trouble = Trouble.of(error)
            self.trial = None
        if trouble.kind in ("process", "device"):
            raise Ended(trouble, self.spot)
        self.failure = trouble.text

    @property
    def _replicas(self) -> int:
        return int(self.config["configuration"]["replicas"]["count"])

    # -- checkpoints ----------------------------------------------------------------------------

    def _saved(self) -> Saved:
        from engram.sweeps.trial import checkpoint

        self.safe = checkpoint.encode(self.trial.state_dict(), self.config["about"])
        self.saved_at, self.saved_step = time.monotonic(), self.trial.trainer.step
        return Saved(self.trial.trainer.step, self.safe)

    def _hold(self, state: dict) -> None:
        """Make the trial one of all replicas: those trained earlier, and those trained now."""
        import torch

        from engram.sweeps.trial import preparing

        whole = preparing.prepare(
            self.trial.configuration,
            self.trial.dataset,
            torch.device(self.config["device"]),
            wanted=MeasuresConfig(**self.config["measures"]),
            scratch=Path(self.config["scratch"]),
        )
        whole.load_state_dict({**state, "trainer": {**state["trainer"], "optimizer": {}}})
        self.trial = whole


def _here() -> Spot:
    """Where this process runs. Outside Ray there is nothing to be told apart."""
    if not ray.is_initialized():
        return Spot("", socket.gethostname())
    context = ray.get_runtime_context()
    gpus: list[str] = []
    with contextlib.suppress(
        Exception
    ):  # known to Ray alone, and only for people and for avoidance
        gpus = context.get_accelerator_ids().get("GPU", [])
    return Spot(context.get_node_id(), socket.gethostname(), tuple(gpus))


def _fetched(reference: list | None) -> bytes | None:
    return None if reference is None else ray.get(reference[0])


def _progress(report: Any, memory: int | None) -> Progress:
    from engram.sweeps.trial import trial

    means, intervals = trial.summary(report), trial.intervals_of(report)
    return Progress(report.epoch, report.step, report.seconds, means, intervals, memory)


def _final_state(state: dict) -> dict:
    return {**state, "trainer": {name: state["trainer"][name] for name in KEPT_OF_FINAL}}


class _Unjoinable(Exception):
    """Replicas that were not trained in the same steps."""


def _joined(first: dict, second: dict) -> dict:
    """Two final states of one training over other replicas, as one."""
    import torch

    a, b = first["trainer"], second["trainer"]
    past, news = first["history"], second["history"]
    unlike = {n: t.shape[1:] for n, t in a["cohort"].items()} != {
        n: t.shape[1:] for n, t in b["cohort"].items()
    }
    steps = ("step",) if "outputs/test" not in b["cohort"] else ()
    if "watch" in second or unlike or any(not torch.equal(past[n], news[n]) for n in steps):
        raise _Unjoinable
    trainer = {
        "step": a["step"],
        "seconds": a["seconds"] + b["seconds"],
        "cohort": {name: torch.cat([a["cohort"][name], b["cohort"][name]]) for name in b["cohort"]},
        "diverged": torch.cat([a["diverged"], b["diverged"]]),
    }
    history = {
        "epoch": past["epoch"],
        "step": past["step"],
        "seconds": past["seconds"] + news["seconds"],
    }
    for name in ("diverged", "stopped"):
        history[name] = torch.cat([past[name], news[name]], 1)  # [evaluations, R]
    for kind in ("error", "loss"):
        history[kind] = {n: torch.cat([past[kind][n], news[kind][n]], 1) for n in news[kind]}
    return {"trainer": trainer, "history": history}
