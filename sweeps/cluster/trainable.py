"""A trial as Ray Tune sees it: an actor that trains one cohort after another, evaluation by evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from engram.sweeps.cluster.attempt import (
    EPOCH,
    HEARTBEAT_S,
    Attempt,
    final_state,
    progress_of,
)
from engram.sweeps.cluster.company import Company, Hand, Here
from engram.sweeps.cluster.faults import Trouble
from engram.sweeps.cluster.remote import Remote, fetched, here
from engram.sweeps.cluster.shard import Shard
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import outcomes
from engram.sweeps.trial.messages import Finished, Saved

IN_A_RESULT = 32 * 2**20  # bytes of checkpoints in one message


class CohortTrainable(Attempt, tune.Trainable):
    """Trains the cohort of one configuration. Actors are reused: `reset_config` starts the next trial.

    config: trial (number), configuration (a Configuration as plain values), about (what its
    checkpoints belong to), cache (folder of what this machine remembers), measures, device, deterministic, gpu (its share of one),
    scratch (folder that a learner may write in), threads, stack (most replicas in one pass, or None), checkpoint (a CheckpointConfig as plain values),
    dataset (key into `datasets`), workers (processes that share its replicas, this one among them), room (what each of
    them takes), held (replicas whose states a worker may hold at once, where that is known), in_turns (whether some replicas may be trained to the end before others begin); restore, earlier: None, or
    the pieces of a checkpoint to go on from, or the final weights of the trial's first replicas.
    datasets: {key: Dataset}, or a list of one reference to it in the object store.
    A result has `spot` (where it runs), `progress` (evaluations not told before), `memory` (bytes of a GPU), and now and then `saved` (pieces) and
    `notes` (lines for the log); `done` comes with `finished` or with `failure`. An error that belongs to the process
    or its device is raised, as Ended: what is tried in this process afterwards would fail with it.
    """

    company: Any = None

    def setup(self, config: dict, datasets: Any = None) -> None:
        import torch

        from engram.models import device, memory
        from engram.sweeps.trial import checkpoint, states

        memory.keep_freed()
        device.settle(config["deterministic"])
        if datasets is not None:
            self.kept = datasets
            self.datasets = datasets if isinstance(datasets, dict) else ray.get(datasets[0])
        torch.set_num_threads(config["threads"])
        self.spot = here()
        self.earlier, earlier = None, config["earlier"]
        self.begin(0, config["configuration"]["replicas"]["count"], None)
        memory.give_back()  # what the trial before it held
        if self._is_shared(config):
            self._share(config)
            return
        self._leave_company()
        if earlier is not None:
            each = [checkpoint.decode(self.fetched(piece.data))[0] for piece in earlier]
            self.earlier = states.joined(each)
        self.safe = config["restore"]

    def reset_config(self, new_config: dict) -> bool:
        self.setup(new_config)
        return True

    def fetched(self, data: Any) -> bytes:
        return fetched(data)

    def _out_of_room(self, trouble: Trouble) -> None:
        """One replica at a time in a pass, and still out of memory: fewer states at once, where nothing asks for all."""
        if not self.config["in_turns"] or self.beyond - self.first == 1:
            super()._out_of_room(trouble)
            return
        self.notes.append(
            "out of memory, even one replica at a time: some are trained to the end, and then others"
        )
        half = (self.beyond - self.first + 1) // 2
        notes = self.notes
        self._share({**self.config, "restore": self.safe, "stack": 1, "held": half})
        self.company.notes += notes

    def step(self) -> dict:
        """Up to the next evaluation, or for a few seconds; the last one also carries the measures."""
        if self.company is None:
            return self._step() | {"spot": self.spot, "notes": self._taken_notes()}
        result = self.company.step()
        return result | {"spot": self.spot, "notes": self.company.taken_notes()}

    def _step(self) -> dict:
        result = self._tried(self._advance)
        if result is not None:
            return result
        if self.failure is None:
            return {EPOCH: self._epoch, "progress": []}
        # Reported, not raised: the actor lives on, and the study goes on without this trial.
        return {"done": True, EPOCH: 0, "failure": self.failure}

    def snapshot(self) -> list[Saved]:
        """The trial as it stands, for a driver that is about to stop it."""
        if self.company is not None:
            return self.company.snapshot()
        if self.failure is not None or self.trial is None or not self.trial.trainer.step:
            return []
        return self._sent(self.saved(self.pieces()))

    def cleanup(self) -> None:
        self._drop()
        self._leave_company()

    def _leave_company(self) -> None:
        if self.company is not None:
            self.company.close()
            self.company = None

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: checkpoints travel in results, for which no file system has to be shared."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: see save_checkpoint."""

    # -- one step -------------------------------------------------------------------------------

    def _advance(self) -> dict:
        from engram.models import memory
        from engram.sweeps.trial import states, trial

        trainer = self.trial.trainer
        if not trainer.finished:
            self.trial.advance(HEARTBEAT_S)
        news = self.trial.history[self.told :]
        self.told = len(self.trial.history)
        held = memory.peak(trainer.device) if news else None
        result: dict[str, Any] = {
            EPOCH: self._epoch,
            "progress": [progress_of(report, held) for report in news],
        }
        if news:
            result |= trial.summary(news[-1]) | {"last": trainer.finished, "memory": held}
        # Before the measures too: they may take longer than the training did.
        if self.due:
            result["saved"] = self._sent(self.saved(self.pieces()))
        elif trainer.finished:
            try:
                result["finished"] = self._finish()
                result["done"] = True
            except states.Unjoinable:  # all replicas have to be trained together after all
                self.earlier = None
                self.begin(0, self.beyond, None)
        return result

    def _finish(self) -> Finished:
        from engram.models import device
        from engram.sweeps.trial import measuring, states

        if self.earlier is not None:
            state = final_state(self.trial.state_dict())
            self._hold(states.joined([self.earlier, state]))
        wanted_final = self.config["checkpoint"]["final"]
        final = self._sent(self.saved(self.pieces(True), True)) if wanted_final else None
        wanted = MeasuresConfig(**self.config["measures"])
        record, arrays = measuring.measure(self.trial, wanted)
        record["device"] = device.described(self.trial.trainer.device)
        self.trial.close()
        return Finished(
            record, outcomes.packed(arrays), final
        )  # packed here, on as many cores as train

    def _prepare(self) -> None:
        from engram.sweeps.trial import states

        self.first = 0 if self.earlier is None else states.replicas(self.earlier)
        super()._prepare()

    @property
    def _epoch(self) -> int:
        return self.trial.history[-1].epoch if self.trial and self.trial.history else 0

    def _sent(self, made: list[Saved]) -> list[Saved]:
        """Pieces for a result: with several, or a large one, each goes through the object store by itself."""
        if sum(len(piece.data) for piece in made) <= IN_A_RESULT or not ray.is_initialized():
            return made
        return [replace(piece, data=[ray.put(piece.data)]) for piece in made]

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
        self.trial, self.first = whole, 0

    # -- replicas that are shared, or trained in turns ------------------------------------------------

    def _is_shared(self, config: dict) -> bool:
        """Whether there is more to it than one process that trains all replicas together, from one step."""
        count = config["configuration"]["replicas"]["count"]
        if config["workers"] > 1 or (config["held"] or self.fits() or count) < count:
            return True
        pieces = sorted(config["restore"] or [], key=lambda piece: piece.first)
        ends = [piece.stop for piece in config["earlier"] or ()]
        begins = [max(ends, default=0), *(piece.stop for piece in pieces)]
        whole = all(piece.first == begin for piece, begin in zip(pieces, begins, strict=False))
        return (
            not whole
            or len({(piece.step, piece.final) for piece in pieces}) > 1
            or any(piece.final for piece in pieces)
        )

    def _share(self, config: dict) -> None:
        if self.company is None:
            shard = Shard()
            shard.datasets, shard.spot = self.datasets, self.spot
            shard.fetched = self.fetched  # type: ignore[method-assign]
            bundles = range(1, config["workers"])
            others: list[Hand] = [
                Remote(bundle, config["room"], self._shared_data()) for bundle in bundles
            ]
            self.company = Company(Here(shard, self._sent), others)
        self.company.begin(config, self.datasets[config["dataset"]])

    def _shared_data(self) -> list:
        return self.kept if isinstance(self.kept, list) else [ray.put(self.kept)]
