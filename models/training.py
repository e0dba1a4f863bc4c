"""Train a cohort: batches, steps, schedules, clipping, early stopping, evaluation, checkpoints.

Sees arrays and a `TrainingConfig`; knows nothing of studies or datasets by name.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engram.models import streams
from engram.models.cohort import Cohort, Part
from engram.models.config import TrainingConfig
from engram.models.losses import example_losses, mean_loss, training_loss
from engram.models.optimizers import optimizer
from engram.models.plain import PlainCohort
from engram.models.schedules import schedule

# Augmentation: (inputs [R, B, ...], uniforms [R, B, K]) -> inputs, or inputs and the share [R, B] of each example's
# own target, the next example's being the rest; and K for a shape.
Mixed = tuple[Tensor, Tensor] | None  # shares [R, B] of the own targets, and the others' targets
Augment = tuple[Callable[[Tensor, Tensor], Any], int]
EVALUATION_FLOATS = 2**22  # activations per evaluation pass: bounds memory, not results
# Examples per evaluation pass on a CPU, over all its replicas, and at least of each: what its caches like best.
CPU_EXAMPLES, CPU_EXAMPLES_OF_EACH = 2048, 128
PAUSE_STEPS = 50  # steps between two looks at the clock


@dataclass(frozen=True)
class Examples:
    """inputs [N, ...] float32 and targets [N] int64 (classes) or [N, K] float32 (values)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Examples:
        return Examples(self.inputs.to(device), self.targets.to(device))


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


@dataclass
class EarlyStopping:
    """Per replica: the best validation loss, how long ago, and the weights then."""

    patience: int
    best_loss: Tensor
    waited: Tensor
    best_step: Tensor
    stopped: Tensor
    best: dict[str, Tensor] = field(default_factory=dict)


def steps_of(config: TrainingConfig, train_size: int) -> tuple[int, int]:
    """(steps in an epoch, steps in all) for a training set of this size."""
    per_epoch = math.ceil(train_size / config.step_size)
    return per_epoch, config.steps or config.epochs * per_epoch


def evaluation_steps(config: TrainingConfig, train_size: int) -> list[int]:
    """The steps after which the cohort is evaluated; the last step is always among them."""
    per_epoch, total = steps_of(config, train_size)
    epochs = math.ceil(total / per_epoch)
    every = config.evaluate_every or max(1, round(epochs / 20))
    return [*range(every * per_epoch, total, every * per_epoch), total]


class Trainer:
    """Trains a cohort from evaluation to evaluation.

    pool: the examples that the subsets index; members: int64 [R, m]; sets: named evaluation sets
    ("validation", "test"), shared by the replicas; keys: one name per replica for its random
    streams, so that replica k is the same network whoever stands beside it.
    """

    commits = False  # a learner's trainer wants to be saved after each of its replicas

    def __init__(
        self,
        cohort: Cohort | PlainCohort,
        pool: Examples,
        members: Tensor,
        sets: dict[str, Examples],
        config: TrainingConfig,
        keys: list[int],
        augment: Augment | None = None,
    ):
        if len(keys) != cohort.replicas or members.shape[0] != cohort.replicas:
            raise ValueError(
                f"{cohort.replicas} replicas need as many keys ({len(keys)}) and subsets ({members.shape[0]})"
            )
        self.cohort, self.config, self.device = cohort, config, cohort.device
        self.pool = pool.to(self.device)
        self.members = members.to(self.device)
        self.sets = {
            name: examples.to(self.device) for name, examples in sets.items() if len(examples)
        }
        self.keys = keys
        self.key_tensor = torch.tensor(keys, dtype=torch.int64, device=self.device)
        self.augment = augment
        self.classification = not pool.targets.is_floating_point()
        self.steps_per_epoch, self.total_steps = steps_of(config, members.shape[1])
        self.evaluations = evaluation_steps(config, members.shape[1])
        self.step = 0
        self.seconds = 0.0
        self._epoch_order: tuple[int, Tensor] | None = None
        self.diverged = torch.zeros(cohort.replicas, dtype=torch.bool)
        self.early_stopping = self._early_stopping()
        self.optimizer = optimizer(cohort, config)
        self.loss = training_loss(config, self.pool.targets[self.members.flatten()])
        self.schedule = schedule(config, self.total_steps)
        self.average: dict[str, Tensor] = {}
        if config.ema is not None:
            self.average = {n: p.detach().clone() for n, p in cohort.parameters.items()}
        self._averaged_now = False

    # -- what a newcomer reads first ------------------------------------------------------------

    @property
    def finished(self) -> bool:
        all_stopped = self.early_stopping is not None and bool(self.early_stopping.stopped.all())
        return self.step >= self.total_steps or all_stopped or bool(self.diverged.all())

    def advance(self, pause_after_s: float = math.inf) -> Report | None:
        """Train up to the next evaluation, evaluate, and say how it stands.

        None where that takes longer than pause_after_s: between two steps, call again to go on.
        """
        started = time.perf_counter()
        target = next(s for s in self.evaluations if s > self.step)
        longest = self.total_steps if math.isinf(pause_after_s) else PAUSE_STEPS
        self.cohort.train(True)
        while self.step < target:
            epoch, within = divmod(self.step, self.steps_per_epoch)
            last = min(self.steps_per_epoch, within + min(longest, target - self.step))
            self.train_epoch(epoch, within, last)
            if self.step < target and time.perf_counter() - started > pause_after_s:
                self.seconds += time.perf_counter() - started
                return None
        report = self.evaluate()
        self._update_early_stopping(report)
        if self.finished:
            self._keep_average()
            self._restore_best()
        self.seconds += time.perf_counter() - started
        return report

    def train_epoch(self, epoch: int, first: int, last: int) -> None:
        """Steps [first, last) of an epoch; each replica in its own order."""
        order = self._order(epoch)  # [R, m] pool indices
        size = self.config.step_size
        purposes = len(self.cohort.dropouts) + 1
        step_streams = streams.step_streams(self.key_tensor, purposes, self.step, last - first)
        for position in range(first, last):
            stream = step_streams[position - first]  # [purposes, R]
            self.cohort.set_streams(stream[1:])
            self._train_step(order[:, position * size : (position + 1) * size], stream[0])

    def _train_step(self, batch: Tensor, augmentation_stream: Tensor) -> list[Tensor]:
        """One optimizer step of all replicas; batch: pool indices [R, B]. The losses of its parts."""
        flat = batch.reshape(-1)
        inputs = self.pool.inputs.index_select(0, flat).view(
            *batch.shape, *self.pool.inputs.shape[1:]
        )
        targets = self.pool.targets.index_select(0, flat).view(
            *batch.shape, *self.pool.targets.shape[1:]
        )
        mixed: Mixed = None
        if self.augment is not None:
            transform, count = self.augment
            numbers = streams.uniforms(augmentation_stream, batch.shape[1] * count)
            inputs = transform(inputs, numbers.view(*batch.shape, count))
            if isinstance(inputs, tuple):
                inputs, shares = inputs
                mixed = shares, targets.roll(-1, 1)
        if self.schedule is not None:
            self.optimizer.lr = self.config.lr * self.schedule(self.step)
        self.cohort.zero_grad()
        losses = []
        for part in self.cohort.parts:
            # Randomness of a person's module: tied to the replica and the step.
            self.cohort.seed(part, streams.key(self.keys[part.start], "module", self.step))
            own = None if mixed is None else (mixed[0][part.replicas], mixed[1][part.replicas])
            losses.append(self._backward(part, inputs[part.replicas], targets[part.replicas], own))
        if self.config.clip is not None:
            self.cohort.clip(self.config.clip)
        self.optimizer.step()
        self.step += 1
        if self.average:
            self._update_average()
        return losses

    def _backward(self, part: Part, inputs: Tensor, targets: Tensor, mixed: Mixed) -> Tensor:
        """Gradients of the sum over the part's replicas of each one's mean loss: they stay apart. That sum."""
        size, whole = self.config.batch_size, inputs.shape[1]
        if whole <= size:
            loss = self._loss(part, inputs, targets, mixed)
            loss.backward()
            return loss.detach()
        losses = []
        for turn, start in enumerate(range(0, whole, size)):
            piece = slice(start, min(start + size, whole))
            own = None if mixed is None else (mixed[0][:, piece], mixed[1][:, piece])
            loss = self._loss(part, inputs[:, piece], targets[:, piece], own, turn)
            loss = loss * ((piece.stop - piece.start) / whole)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _loss(
        self, part: Part, inputs: Tensor, targets: Tensor, mixed: Mixed, turn: int = 0
    ) -> Tensor:
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        ):
            outputs = self.cohort.forward(part, inputs, turn=turn)
        outputs = outputs.float()
        alone = self.cohort.way == "plain"
        loss = mean_loss(self.loss, outputs, targets, mixed, alone).sum()
        if self.config.l1 > 0:
            loss = loss + self.config.l1 * sum(p.abs().sum() for p in part.trained)
        return loss

    # -- evaluation -----------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> Report:
        """Error and loss of each replica on its own training subset and on each shared set, in eval mode."""
        with self._averaged():
            found = [self._scores(self.pool, self.members)]
            found += [self._scores(examples, None) for examples in self.sets.values()]
        scores = torch.stack(found).cpu().double()  # [sets, 2, R]: the one wait for the device
        error = {name: scores[index, 0] for index, name in enumerate(["train", *self.sets])}
        loss = {name: scores[index, 1] for index, name in enumerate(["train", *self.sets])}
        self.diverged = self.diverged | ~torch.stack(list(loss.values())).isfinite().all(0)
        stopped = (
            self.early_stopping.stopped if self.early_stopping else torch.zeros_like(self.diverged)
        )
        return Report(
            epoch=math.ceil(self.step / self.steps_per_epoch),
            step=self.step,
            seconds=self.seconds,
            error=error,
            loss=loss,
            diverged=self.diverged,
            stopped=stopped,
        )

    def _scores(self, examples: Examples, members: Tensor | None) -> Tensor:
        """Mean error and loss [2, R], on the device; members [R, m]: each replica on its own examples, None: on all."""
        count = len(examples) if members is None else members.shape[1]
        kind = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no doubles
        total = torch.zeros(2, self.cohort.replicas, dtype=kind, device=self.device)
        for part, outputs, index in self._passes(examples, members):
            targets = examples.targets[index]
            if members is None:
                targets = targets.expand(outputs.shape[0], *targets.shape)
            losses = example_losses(outputs, targets)
            wrong = (outputs.argmax(-1) != targets).float() if self.classification else losses
            total[:, part.replicas] += torch.stack([wrong.sum(1), losses.sum(1)])
        return total / count

    @torch.no_grad()
    def predict(self, examples: Examples) -> Tensor:
        """Outputs [R, N, C] (logits, or values) on shared examples, in eval mode, float32 on the CPU."""
        examples = examples.to(self.device)
        pieces: dict[int, list[Tensor]] = {}
        with self._averaged():
            for part, outputs, _ in self._passes(examples, None):
                pieces.setdefault(part.start, []).append(outputs.cpu())
        return torch.cat([torch.cat(piece, 1) for _, piece in sorted(pieces.items())])

    def _passes(self, examples: Examples, members: Tensor | None):
        """(part, outputs [r, b, C], index of the examples) over pieces that bound memory."""
        self.cohort.train(False)
        count = len(examples) if members is None else members.shape[1]
        per_example = max(examples.inputs[0].numel(), 256)
        for part in self.cohort.parts:
            # What is random in evaluation too begins anew, so that one evaluation is as another.
            self.cohort.seed(part, streams.key(self.keys[part.start], "evaluation", self.step))
            replicas = part.stop - part.start
            if self.device.type == "cuda":
                # By all replicas, not by the part's: a stack halved for want of memory takes half of it.
                size = max(1, _floats_on(self.device) // (per_example * self.cohort.replicas))
            else:
                size = max(1, EVALUATION_FLOATS // (per_example * replicas))
            if self.device.type == "cpu":
                size = min(size, max(CPU_EXAMPLES // replicas, CPU_EXAMPLES_OF_EACH))
            for start in range(0, count, size):
                piece = slice(start, start + size)
                index = piece if members is None else members[part.replicas, piece]
                outputs = self.cohort.forward(part, examples.inputs[index], shared=members is None)
                yield part, outputs.float(), index
        self.cohort.train(True)

    # -- pieces of a step -----------------------------------------------------------------------

    def _order(self, epoch: int) -> Tensor:
        """Each replica's examples in this epoch's order: pool indices [R, m]."""
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            size = self.members.shape[1]
            orders = [
                torch.randperm(size, generator=streams.generator(key, "order", epoch))
                for key in self.keys
            ]
            self._epoch_order = epoch, self.members.gather(1, torch.stack(orders).to(self.device))
        return self._epoch_order[1]

    # -- averaged weights -----------------------------------------------------------------------

    @torch.no_grad()
    def _update_average(self) -> None:
        """One step of the exponential average; a young one forgets faster, as in TensorFlow's and timm's."""
        assert self.config.ema is not None
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, parameter in self.cohort.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the last ones, for a while; in place, since parts are views."""
        if not self.average or self._averaged_now:
            yield
            return
        live = {name: p.detach().clone() for name, p in self.cohort.parameters.items()}
        self._put(self.average)
        self._averaged_now = True
        try:
            yield
        finally:
            self._averaged_now = False
            self._put(live)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.cohort.parameters.items():
            parameter.copy_(weights[name])

    def _keep_average(self) -> None:
        """The averaged weights are what training ends in."""
        if self.average:
            self._put(self.average)
            self.average = {}

    # -- early stopping -------------------------------------------------------------------------

    def _early_stopping(self) -> EarlyStopping | None:
        if self.config.early_stopping is None:
            return None
        if "validation" not in self.sets:
            raise ValueError("early stopping needs a validation set")
        zeros = torch.zeros(self.cohort.replicas, dtype=torch.int64)
        infinite = torch.full(zeros.shape, math.inf, dtype=torch.float64)
        return EarlyStopping(
            self.config.early_stopping, infinite, zeros, zeros.clone(), zeros.bool()
        )

    def _update_early_stopping(self, report: Report) -> None:
        """Note which replicas improved; those that waited too long stop and keep their best weights."""
        state = self.early_stopping
        if state is None:
            return
        loss = report.loss["validation"]
        better = (loss < state.best_loss) & ~state.stopped
        state.best_loss = torch.where(better, loss, state.best_loss)
        state.best_step = torch.where(better, self.step, state.best_step)
        state.waited = torch.where(better, 0, state.waited + 1)
        state.stopped = state.stopped | (state.waited >= state.patience)
        improved = better.to(self.device)
        for name, tensor in {
            **self.cohort.parameters,
            **self.cohort.buffers,
            **self.average,
        }.items():
            kept = state.best.get(name, tensor.detach())
            chosen = improved.view(-1, *[1] * (tensor.dim() - 1))
            state.best[name] = torch.where(chosen, tensor.detach(), kept).clone()

    def _restore_best(self) -> None:
        if self.early_stopping is not None:
            self.cohort.load_state_dict(self.early_stopping.best)

    # -- checkpoints ----------------------------------------------------------------------------

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
        if self.average:
            state["average"] = {n: t.detach().cpu().clone() for n, t in self.average.items()}
        if self.early_stopping is not None:
            stop = self.early_stopping
            state["early_stopping"] = {
                name: getattr(stop, name).cpu().clone()
                for name in ("best_loss", "waited", "best_step", "stopped")
            }
            state["best"] = {n: t.cpu().clone() for n, t in stop.best.items()}
        return state

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state made by `state_dict`; KeyError or RuntimeError when it does not fit."""
        self.cohort.load_state_dict(state["cohort"])
        self.cohort.load_attributes(state.get("attributes", {}))
        self.average = {
            n: t.to(self.device, copy=True) for n, t in state.get("average", {}).items()
        }
        self.step, self.seconds = state["step"], state["seconds"]
        self.diverged = state["diverged"]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.early_stopping is not None:
            for name, value in state["early_stopping"].items():
                setattr(self.early_stopping, name, value)
            self.early_stopping.best = {n: t.to(self.device) for n, t in state["best"].items()}


def _floats_on(device: torch.device) -> int:
    """Activations per evaluation pass on a GPU: a 32nd of its memory, the same whatever else is on it."""
    return int(torch.cuda.get_device_properties(device).total_memory) // (4 * 32)
