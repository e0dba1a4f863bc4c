"""Training some replicas of one configuration in this process, with less at a time where memory runs out.

Knows nothing of Ray, nor of who else trains replicas of the same trial.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engram.sweeps.cluster.faults import Ended, Spot, Trouble
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial.messages import Progress, Saved

EPOCH = "epoch"
HEARTBEAT_S = 5.0  # a trial is heard of at least this often while it trains
PIECE = 256 * 2**20  # bytes of one checkpoint file, and of one message; a replica is never divided
MIB = 2**20
KEPT_OF_FINAL = (
    "step",
    "seconds",
    "cohort",
    "attributes",
    "diverged",
)  # no optimizer: nothing trains on from there


class Attempt:
    """Trains replicas [first, stop) of a trial. config: of CohortTrainable; datasets: {key: Dataset}; safe: the pieces
    of a checkpoint that they go on from, all of one step, or None.

    width: replicas in one pass, as it was tried last; stack: the most, where memory has said so; failure: why it
    cannot be trained. An error that belongs to the process or its device is raised, as Ended."""

    config: dict[str, Any]
    datasets: dict[str, Any]
    trial: Any = None
    spot = Spot("", "")
    in_company = False  # others train replicas of the same trial

    def begin(self, first: int, stop: int, safe: list[Saved] | None) -> None:
        """From here on train these replicas; the first step makes them, so that its time is measured."""
        self._drop()
        self.first, self.beyond, self.safe = first, stop, safe
        self.told = 0  # evaluations that others have heard of from this attempt
        self.notes: list[str] = []
        self.saved_at, self.saved_step = time.monotonic(), 0
        self.failure: str | None = None
        self.stack: int | None = self.config["stack"]
        self.width = stop - first
        self.may_record, self.records = True, False  # steps, to be replayed (models/captured.py)
        self._too_large = False

    def fetched(self, data: Any) -> bytes:
        """The bytes of a piece."""
        found: bytes = data
        return found

    def _drop(self) -> None:
        """Let go of the trial, and of what it still runs."""
        held, self.trial = self.trial, None
        if held is not None:
            held.close()

    def _taken_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes

    def _tried(self, do: Callable[[], Any]) -> Any:
        """What it gives once there is a trial; None where memory ran out, or where it has failed for good."""
        if self.failure is not None:
            return None
        try:
            if self.trial is None:
                self._prepare()
            return do()
        except Exception as error:
            trouble = Trouble.of(error)
        # Out of the handler: the error and its frames, which hold the cohort, are gone.
        self._recover(trouble)
        return None

    def fits(self) -> int | None:
        """Replicas whose states this process has room for at once; None where all are needed at once, or nothing is known."""
        if not self.config["in_turns"]:
            return None
        import torch

        from engram.models import memory
        from engram.models.family import build

        asked, dataset = (
            Configuration(**self.config["configuration"]),
            self.datasets[self.config["dataset"]],
        )
        with contextlib.suppress(Exception):  # a person's own may need a device to be counted on
            with torch.device("meta"):
                shape, outputs = dataset.shape, dataset.outputs
                network = build(
                    asked.model, shape, outputs, dataset.kind == "image", dataset.tokens
                )
            each = memory.state_bytes(sum(p.numel() for p in network.parameters()))
            device = torch.device(self.config["device"])
            room = memory.room(device, self.config["gpu"], self.config["room"]["CPU"])
            return max(1, int(room / each))
        return None

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
        options: dict[str, Any] = {
            "wanted": MeasuresConfig(**self.config["measures"]),
            "first": self.first,
            "stop": self.beyond,
            "scratch": Path(self.config["scratch"]),
            "capture": self.records,
        }
        self.trial = preparing.prepare(configuration, dataset, device, **options)
        self.width = self.trial.trainer.cohort.stack  # 1 where it cannot be stacked
        if self.safe is not None and not self._takes_up(self.safe):
            self.trial = preparing.prepare(configuration, dataset, device, **options)
        self.trial.trainer.in_company = self.in_company

    def _choose(self, configuration: Configuration, dataset: Any, device: Any) -> None:
        """Replicas in one pass, as asked or as measured and no more than memory has been found to hold; recorded or not."""
        from engram.models.learners import kinds
        from engram.sweeps.trial import cohorts, stacking

        if kinds.of(configuration.model.family) is not None:
            self.width, self.records = 1, False
            return
        count, cache = self.beyond - self.first, Path(self.config["cache"])
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

    def _takes_up(self, pieces: list[Saved]) -> bool:
        """Whether the trial goes on from its checkpoint. One that cannot be read, and only that, is left aside."""
        from engram.sweeps.trial import checkpoint, states

        try:
            each = []
            for piece in pieces:
                state = checkpoint.decode(self.fetched(piece.data))[0]
                own = max(piece.first, self.first), min(piece.stop, self.beyond)
                each.append(states.part(state, own[0] - piece.first, own[1] - piece.first))
            state = states.joined(each)
            state["trainer"].setdefault("optimizer", {})
            self.trial.load_state_dict(state)
            return True
        except (
            checkpoint.Unreadable,
            states.Unjoinable,
            KeyError,
            IndexError,
            RuntimeError,
        ) as error:
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
                self._out_of_room(trouble)
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

    def _out_of_room(self, trouble: Trouble) -> None:
        self.failure = f"out of memory, even one replica at a time\n{trouble.text}"

    # -- checkpoints ----------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time to be saved, and there is something new."""
        trainer = self.trial.trainer
        late = time.monotonic() - self.saved_at >= self.config["checkpoint"]["every_s"]
        return bool((late or trainer.commits) and self.saved_step != trainer.step)

    def pieces(self, final: bool = False) -> list[tuple[int, int]]:
        """The replicas of each piece that `saved` gives; none where a checkpoint would be too large."""
        trainer = self.trial.trainer
        count = trainer.step if trainer.commits else self.beyond - self.first
        held = (
            {**trainer.cohort.parameters, **trainer.cohort.buffers}
            if final and not trainer.commits
            else None
        )
        size = trainer.bytes if held is None else sum(tensor.nbytes for tensor in held.values())
        each = size / max(1, count)
        replicas, most = (
            self.config["configuration"]["replicas"]["count"],
            self.config["checkpoint"]["max_mb"],
        )
        if each * replicas > most * MIB:
            if not self._too_large:
                said = f"a checkpoint takes {each * replicas / MIB:.0f} MiB, over checkpoint.max_mb: none is made"
                self.notes.append(said)
            self._too_large = True
            return []
        at_once = max(1, int(PIECE / max(1.0, each)))
        starts = range(0, count, at_once)
        return [(self.first + a, self.first + min(a + at_once, count)) for a in starts]

    def saved(self, pieces: list[tuple[int, int]], final: bool = False) -> list[Saved]:
        """The replicas as they stand, in these pieces."""
        from engram.sweeps.trial import checkpoint, states

        step = self.trial.trainer.step
        if not final:
            self.saved_at, self.saved_step = time.monotonic(), step
        if not pieces:
            return []
        state = self.trial.state_dict()
        state = final_state(state) if final else state
        made = []
        for first, stop in pieces:
            own = states.part(state, first - self.first, stop - self.first)
            about = {**self.config["about"], "replicas": [first, stop]}
            made.append(Saved(step, checkpoint.encode(own, about), first, stop, final))
        if not final:
            self.safe = made
        return made


def progress_of(report: Any, memory: int | None) -> Progress:
    """What an evaluation tells the driver."""
    from engram.sweeps.trial import trial

    means, intervals = trial.summary(report), trial.intervals_of(report)
    return Progress(report.epoch, report.step, report.seconds, means, intervals, memory)


def final_state(state: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a trained cohort: nothing trains on from there."""
    kept = {name: value for name, value in state["trainer"].items() if name in KEPT_OF_FINAL}
    return {**state, "trainer": kept}
