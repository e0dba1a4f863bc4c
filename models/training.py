"""Train a cohort: batches, steps, schedules, clipping, checkpoints.

Sees arrays and a `TrainingConfig`; knows nothing of studies or datasets by name.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from engram.models import captured, streams, trouble
from engram.models.averaging import Average
from engram.models.captured import Steps
from engram.models.cohort import Part
from engram.models.config import TrainingConfig
from engram.models.early_stopping import EarlyStopping
from engram.models.evaluation import Evaluation, Networks
from engram.models.examples import Examples
from engram.models.losses import NONE, by_token, mean_loss, training_loss
from engram.models.optimizer import Optimizer
from engram.models.optimizers import optimizer
from engram.models.orders import Orders
from engram.models.schedules import evaluation_steps, schedule, steps_of

__all__ = ["Augment", "Examples", "Report", "Trainer", "on_host"]

# Augmentation: (inputs [R, B, ...], uniforms [R, B, K]) -> inputs, or inputs and the share [R, B] of each example's
# own target, the next example's being the rest; and K for a shape.
Mixed = tuple[Tensor, Tensor] | None  # shares [R, B] of the own targets, and the others' targets
Augment = tuple[Callable[[Tensor, Tensor], Any], int]
PAUSE_STEPS = 50  # steps between two looks at the clock


@dataclass(frozen=True)
class Report:
    """One evaluation: where training stands, and per replica [R] error and loss on each set.

    Error is the share of wrong classes, or the mean squared error of values; loss is the
    cross-entropy in nats, or the mean squared error. other: what a person's training function reports besides.
    """

    epoch: int
    step: int
    seconds: float
    error: dict[str, Tensor]
    loss: dict[str, Tensor]
    diverged: Tensor
    stopped: Tensor
    other: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains a cohort from evaluation to evaluation.

    pool: the examples that the subsets index; members: int64 [R, m]; sets: named evaluation sets
    ("validation", "test"), shared by the replicas; keys: one name per replica for its random
    streams, so that replica k is the same network whoever stands beside it. besides: int64 [R, k], what each
    trains on too, and is not evaluated on as its training subset.
    """

    commits = False  # a learner's trainer wants to be saved after each of its replicas

    def __init__(
        self,
        cohort: Networks,
        pool: Examples,
        members: Tensor,
        sets: dict[str, Examples],
        config: TrainingConfig,
        keys: list[int],
        augment: Augment | None = None,
        capture: bool = False,
        besides: Tensor | None = None,
    ):
        if len(keys) != cohort.replicas or members.shape[0] != cohort.replicas:
            raise ValueError(
                f"{cohort.replicas} replicas need as many keys ({len(keys)}) and subsets ({members.shape[0]})"
            )
        self.cohort, self.config, self.device = cohort, config, cohort.device
        cohort.every_step = pool.every_step
        self.gaps = pool.every_step and bool((pool.targets == NONE).any())
        self.pool = pool.to(self.device)
        self.subsets = members.to(self.device)
        more = () if besides is None else (besides.to(self.device),)
        self.members = torch.cat([self.subsets, *more], 1)  # all that each trains on
        self.sets = {
            name: examples.to(self.device) for name, examples in sets.items() if len(examples)
        }
        self.keys = keys
        self.key_tensor = torch.tensor(keys, dtype=torch.int64)
        self.device_keys = self.key_tensor.to(self.device)
        self.augment = augment
        self.classification = pool.classification
        self.steps_per_epoch, self.total_steps = steps_of(config, self.members.shape[1])
        self.evaluations = evaluation_steps(config, self.members.shape[1])
        self.orders = Orders(keys, self.members, math.ceil(self.total_steps / self.steps_per_epoch))
        self.step = 0
        self.seconds = 0.0
        self.diverged = torch.zeros(cohort.replicas, dtype=torch.bool)
        # Others of its cohort train elsewhere: they decide too when all have stopped (see `conclude`).
        self.in_company = False
        self.early_stopping: EarlyStopping | None = None
        if config.early_stopping is not None:
            if "validation" not in self.sets:
                raise ValueError("early stopping needs a validation set")
            self.early_stopping = EarlyStopping(config.early_stopping, cohort.replicas)
        self.optimizer = optimizer(cohort, config, keys)
        self.loss = training_loss(config, self.pool.targets, self.members)
        self.schedule = schedule(config, self.total_steps)
        self.average = None if config.ema is None else Average(cohort.parameters)
        self.evaluation = Evaluation(cohort, self.pool.inputs[:1])
        self.warm = 0  # steps since the optimizer's state was made or put back
        self.graph: Steps | None = None
        self.not_captured = self._unfit() if capture else "it was not asked for"

    # -- what a newcomer reads first ------------------------------------------------------------

    @property
    def finished(self) -> bool:
        if self.step >= self.total_steps or self.in_company:
            return self.step >= self.total_steps
        all_stopped = self.early_stopping is not None and bool(self.early_stopping.stopped.all())
        return all_stopped or bool(self.diverged.all())

    def advance(self, pause_after_s: float = math.inf) -> Report | None:
        """Train up to the next evaluation, evaluate, and say how it stands.

        None where that takes longer than pause_after_s: between two steps, call again to go on.
        """
        started = time.perf_counter()
        target = next(s for s in self.evaluations if s > self.step)
        longest = self.total_steps if math.isinf(pause_after_s) else self._between_looks()
        self.cohort.train(True)
        while self.step < target:
            epoch, within = divmod(self.step, self.steps_per_epoch)
            last = min(self.steps_per_epoch, within + min(longest, target - self.step))
            self.train_epoch(epoch, within, last)
            if self.step < target and time.perf_counter() - started > pause_after_s:
                self.seconds += time.perf_counter() - started
                return None
        report = self.evaluate()
        if self.early_stopping is not None:
            averaged = {} if self.average is None else self.average.weights
            weights = {**self.cohort.parameters, **self.cohort.buffers, **averaged}
            self.early_stopping.update(report.loss["validation"], self.step, weights)
            report = replace(report, stopped=self.early_stopping.stopped)
        if self.finished:
            self._end()
        self.seconds += time.perf_counter() - started
        return report

    def train_epoch(self, epoch: int, first: int, last: int) -> None:
        """Steps [first, last) of an epoch; each replica in its own order."""
        order = self.orders.of(epoch)  # [R, m] pool indices
        step_streams = streams.step_streams(
            self.device_keys, self._purposes, self.step, last - first
        )
        position, size = first, self.config.step_size
        while position < last:
            graph = self._recorded(last - position, self.members.shape[1] - position * size)
            count = graph.count if graph else 1
            batches = order[:, position * size : (position + count) * size]
            stream = step_streams[position - first : position - first + count]
            if graph is not None:
                graph.replay(batches, stream, [self._pace(self.step + k) for k in range(count)])
            elif self.not_captured is None:
                with captured.aside(self.device):
                    self.work(batches, stream[0], *self._pace(self.step))
            else:
                self.work(batches, stream[0], *self._pace(self.step))
            position, self.step, self.warm = position + count, self.step + count, self.warm + count

    def work(
        self, batch: Tensor, stream: Tensor, rate: float | Tensor, newest: float | Tensor
    ) -> None:
        """One optimizer step of all replicas, on the device alone: nothing waits for it, nothing goes to it.

        batch: pool indices [R, B]; stream: int32 [purposes, R]; newest: the new weights' share in their average.
        """
        inputs, targets, mixed = self._batch(batch, stream[0])
        self.cohort.set_streams(stream[1:])
        self.optimizer.lr = rate
        self.cohort.zero_grad()
        for part in self.cohort.parts:
            # Randomness of a person's module: tied to the replica and the step.
            self.cohort.seed(part, streams.key(self.keys[part.start], "module", self.step))
            own = None if mixed is None else (mixed[0][part.replicas], mixed[1][part.replicas])
            self._backward(part, inputs[part.replicas], targets[part.replicas], own)
        if self.config.clip is not None:
            self.cohort.clip(self.config.clip)
        self.optimizer.step(self.step)
        if self.average is not None:
            self.average.update(newest)

    def conclude(self) -> None:
        """Its cohort has stopped: end here."""
        self.in_company = False
        self._end()

    def _end(self) -> None:
        """Put in place what training ends in: averaged weights, or each replica's best."""
        if self.average is not None:
            self.average.keep()
            self.average = None
        if self.early_stopping is not None:
            self.cohort.load_state_dict(self.early_stopping.best)

    def _batch(self, batch: Tensor, stream: Tensor) -> tuple[Tensor, Tensor, Mixed]:
        """The examples [R, B, ...] of a step with their targets, changed at random where the study says so."""
        flat = batch.reshape(-1)
        inputs = self.pool.inputs.index_select(0, flat).view(
            *batch.shape, *self.pool.inputs.shape[1:]
        )
        targets = self.pool.targets.index_select(0, flat).view(
            *batch.shape, *self.pool.targets.shape[1:]
        )
        if self.augment is None:
            return inputs, targets, None
        transform, count = self.augment
        if on_host(self.augment):
            stream = streams.step_streams(self.key_tensor, 1, self.step, 1)[0, 0]
        numbers = streams.uniforms(stream, batch.shape[1] * count)
        changed = transform(inputs, numbers.view(*batch.shape, count))
        if isinstance(changed, tuple):
            inputs, shares = changed
            return inputs, targets, (shares, targets.roll(-1, 1))
        return changed, targets, None

    def _backward(self, part: Part, inputs: Tensor, targets: Tensor, mixed: Mixed) -> None:
        """Gradients of the sum over the part's replicas of each one's mean loss: they stay apart."""
        size, whole = self.config.batch_size, inputs.shape[1]
        if whole <= size:
            self._loss(part, inputs, targets, mixed).backward()
            return
        for turn, start in enumerate(range(0, whole, size)):
            piece = slice(start, min(start + size, whole))
            own = None if mixed is None else (mixed[0][:, piece], mixed[1][:, piece])
            some, share = targets[:, piece], None
            if self.gaps:  # what a piece weighs is how many targets it has
                of = [(wanted != NONE).sum((1, 2)) / wanted.shape[1] for wanted in (some, targets)]
                share = of[0] / of[1]
            loss = self._loss(part, inputs[:, piece], some, own, turn, share)
            (loss * ((piece.stop - piece.start) / whole)).backward()

    def _loss(
        self,
        part: Part,
        inputs: Tensor,
        targets: Tensor,
        mixed: Mixed,
        turn: int = 0,
        share: Tensor | None = None,
    ) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        ):
            outputs = self.cohort.forward(part, inputs, turn=turn)
        outputs, targets = by_token(outputs.float(), targets)
        alone = self.cohort.way == "plain"
        each = mean_loss(self.loss, outputs, targets, part.replicas, mixed, alone, self.gaps)
        loss = (each if share is None else each * share).sum()
        if self.config.l1 > 0:
            loss = loss + self.config.l1 * sum(p.abs().sum() for p in part.trained)
        return loss

    # -- evaluation -----------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> Report:
        """Error and loss of each replica on its own training subset and on each shared set, in eval mode."""
        sets: dict[str, tuple[Examples, Tensor | None]] = {"train": (self.pool, self.subsets)}
        sets |= {name: (examples, None) for name, examples in self.sets.items()}
        with self._averaged():
            found = [
                self.evaluation.scores(examples, members, self._evaluation_key)
                for examples, members in sets.values()
            ]
        scores = torch.stack(found).cpu().double()  # [sets, 2, R]: the one wait for the device
        error = {name: scores[index, 0] for index, name in enumerate(sets)}
        loss = {name: scores[index, 1] for index, name in enumerate(sets)}
        self.diverged = self.diverged | ~scores[:, 1].isfinite().all(0)
        early = self.early_stopping
        stopped = torch.zeros_like(self.diverged) if early is None else early.stopped
        return Report(
            epoch=math.ceil(self.step / self.steps_per_epoch),
            step=self.step,
            seconds=self.seconds,
            error=error,
            loss=loss,
            diverged=self.diverged,
            stopped=stopped,
        )

    def predict(self, examples: Examples) -> Tensor:
        """Outputs [R, N, C] (logits, or values) on shared examples, in eval mode, float32 on the CPU."""
        return self._outputs(examples.inputs, lambda outputs: outputs.cpu())

    def classes(self, inputs: Tensor) -> Tensor:
        """The class [R, N] that each replica gives to each of shared examples, in eval mode, on the CPU."""
        return self._outputs(inputs, lambda outputs: outputs.argmax(-1)).cpu()

    def last(self, inputs: Tensor, count: int) -> Tensor:
        """Outputs [R, N, count, C] at the last positions of shared tokens [N, T], in eval mode, on the CPU."""
        return self._outputs(inputs, lambda outputs: outputs[..., -count:, :].cpu())

    def _outputs(self, inputs: Tensor, kept: Callable[[Tensor], Tensor]) -> Tensor:
        with self._averaged():
            return self.evaluation.outputs(inputs, kept, self._evaluation_key)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.average is None else self.average.in_place()

    def _evaluation_key(self, part: Part) -> int:
        return streams.key(self.keys[part.start], "evaluation", self.step)

    # -- recorded steps -------------------------------------------------------------------------

    def _unfit(self) -> str | None:
        """Why steps cannot be recorded; None where they can."""
        if self.cohort.way != "stacked":
            return "a network of one's own may do things on the host"
        if ":" in self.config.loss or on_host(self.augment):
            return "a loss or augmentation of one's own may do things on the host"
        if not isinstance(self.optimizer, Optimizer):
            return f"{self.config.optimizer} keeps numbers on the host"
        if self.members.shape[1] < 2 * self.config.step_size:
            return "an epoch has fewer than two whole batches"
        return None

    @property
    def captured(self) -> bool:
        """Whether recorded steps are replayed."""
        return self.graph is not None

    @property
    def _purposes(self) -> int:
        """Random streams of a replica in a step: its augmentation's, and each dropout layer's."""
        return len(self.cohort.dropouts) + 1

    @property
    def _in_graph(self) -> int:
        return captured.steps_in_graph(self.members.shape[1] // self.config.step_size)

    def _between_looks(self) -> int:
        """Steps between two looks at the clock: whole replays, where there are any."""
        return PAUSE_STEPS if self.not_captured else PAUSE_STEPS // self._in_graph * self._in_graph

    def _recorded(self, steps: int, examples: int) -> Steps | None:
        """Recorded steps, where so many are asked for and so many examples of the epoch are left; else None."""
        if self.not_captured or self.warm < captured.WARM_UP_STEPS:
            return None
        count, size = self._in_graph, self.config.step_size
        if steps < count or examples < count * size:
            return None
        if self.graph is None:
            sizes = count, self.cohort.replicas, size, self._purposes
            try:
                self.graph = Steps(self.work, *sizes, self.device)
            except Exception as error:
                if trouble.kind(error) == "memory":
                    raise
                self.not_captured = f"{type(error).__name__}: {error}"
        return self.graph

    def _pace(self, step: int) -> tuple[float, float]:
        """The learning rate of a step, and the newest weights' share in their average after it.

        A young average forgets faster, as in TensorFlow's and timm's."""
        rate = self.config.lr * (1.0 if self.schedule is None else self.schedule(step))
        if self.config.ema is None:
            return rate, 1.0
        return rate, 1 - min(self.config.ema, (2 + step) / (11 + step))

    # -- checkpoints ----------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        """About what `state_dict` will hold; nothing is copied for it."""
        held = {**self.cohort.parameters, **self.cohort.buffers}
        found = sum(tensor.nbytes for tensor in held.values())
        for more in (
            self.average and self.average.weights,
            self.early_stopping and self.early_stopping.best,
        ):
            found += sum(tensor.nbytes for tensor in (more or {}).values())
        return found + self.optimizer.bytes

    def state_dict(self) -> dict:
        """Everything needed to go on exactly: tensors and plain numbers only.

        The random streams are functions of (key, step), so the step is all there is to keep of them.
        """
        state: dict = {
            "step": self.step,
            "seconds": self.seconds,
            "cohort": self.cohort.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "diverged": self.diverged.cpu().clone(),
        }
        if attributes := self.cohort.attributes():
            state["attributes"] = attributes
        if self.average is not None:
            state["average"] = {n: t.cpu().clone() for n, t in self.average.weights.items()}
        if self.early_stopping is not None:
            state |= self.early_stopping.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state made by `state_dict`; KeyError or RuntimeError when it does not fit."""
        self.cohort.load_state_dict(state["cohort"])
        self.cohort.load_attributes(state.get("attributes", {}))
        kept = state.get("average")
        if kept is None:
            self.average = None  # at the end, it is the weights themselves
        elif self.average is not None:
            self.average.weights = {n: t.to(self.device, copy=True) for n, t in kept.items()}
        self.step, self.seconds = state["step"], state["seconds"]
        self.diverged = state["diverged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.warm, self.graph = 0, None  # it reads the memory that was in use before
        if self.early_stopping is not None and "early_stopping" in state:
            self.early_stopping.load_state_dict(state, self.device)


def on_host(augment: Augment | None) -> bool:
    """Whether an augmentation wants its uniforms on the host."""
    return augment is not None and getattr(augment[0], "on_host", False)
