"""Train a cohort: batches, steps, schedules, clipping, early stopping, evaluation, checkpoints.

Sees arrays and a `TrainingConfig`; knows nothing of studies or datasets by name.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engram.models import captured, streams, trouble
from engram.models.cohort import Cohort, Part
from engram.models.config import TrainingConfig
from engram.models.losses import example_losses, mean_loss, training_loss
from engram.models.optimizer import Optimizer
from engram.models.optimizers import optimizer
from engram.models.orders import Orders
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
        capture: bool = False,
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
        self.key_tensor = torch.tensor(keys, dtype=torch.int64)
        self.device_keys = self.key_tensor.to(self.device)
        self.augment = augment
        self.classification = not pool.targets.is_floating_point()
        self.steps_per_epoch, self.total_steps = steps_of(config, members.shape[1])
        self.evaluations = evaluation_steps(config, members.shape[1])
        self.orders = Orders(keys, self.members, math.ceil(self.total_steps / self.steps_per_epoch))
        self.step = 0
        self.seconds = 0.0
        self.diverged = torch.zeros(cohort.replicas, dtype=torch.bool)
        self.early_stopping = self._early_stopping()
        self.optimizer = optimizer(cohort, config)
        weighted = config.class_weights is not None
        self.loss = training_loss(
            config, self.pool.targets[self.members.flatten()] if weighted else self.pool.targets
        )
        self.schedule = schedule(config, self.total_steps)
        self.average: dict[str, Tensor] = {}
        if config.ema is not None:
            self.average = {n: p.detach().clone() for n, p in cohort.parameters.items()}
        self._averaged_now = False
        self.warm = 0  # steps since the optimizer's state was made or put back
        self.graph: captured.Steps | None = None
        self.not_captured = self._unfit() if capture else "it was not asked for"

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
        self._update_early_stopping(report)
        if self.finished:
            self._keep_average()
            self._restore_best()
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
        self.optimizer.step()
        if self.average:
            self._update_average(newest)

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
            loss = self._loss(part, inputs[:, piece], targets[:, piece], own, turn)
            (loss * ((piece.stop - piece.start) / whole)).backward()

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
        return self._outputs(examples.inputs, lambda outputs: outputs.cpu())

    @torch.no_grad()
    def classes(self, inputs: Tensor) -> Tensor:
        """The class [R, N] that each replica gives to each of shared examples, in eval mode, on the CPU."""
        return self._outputs(inputs, lambda outputs: outputs.argmax(-1)).cpu()

    def _outputs(self, inputs: Tensor, kept: Callable[[Tensor], Tensor]) -> Tensor:
        """What is kept of the outputs [r, b, C] of each pass, put together: [R, N, ...]."""
        inputs = inputs.to(self.device)
        examples = Examples(inputs, inputs)  # targets play no part
        pieces: dict[int, list[Tensor]] = {}
        with self._averaged():
            for part, outputs, _ in self._passes(examples, None):
                pieces.setdefault(part.start, []).append(kept(outputs))
        return torch.cat([torch.cat(piece, 1) for _, piece in sorted(pieces.items())])

    def _passes(self, examples: Examples, members: Tensor | None):
        """(part, outputs [r, b, C], index of the examples) over pieces that bound memory."""
        self.cohort.train(False)
        count = len(examples) if members is None else members.shape[1]
        for part in self.cohort.parts:
            size = self._examples_at_once(part)
            # What is random in evaluation too begins anew, so that one evaluation is as another.
            self.cohort.seed(part, streams.key(self.keys[part.start], "evaluation", self.step))
            for start in range(0, count, size):
                piece = slice(start, start + size)
                index = piece if members is None else members[part.replicas, piece]
                outputs = self.cohort.forward(part, examples.inputs[index], shared=members is None)
                yield part, outputs.float(), index
        self.cohort.train(True)

    def _examples_at_once(self, part: Part) -> int:
        """Examples of each of a part's replicas in one evaluation pass."""
        replicas = part.stop - part.start
        if self.device.type == "cuda":
            # By all replicas, not by the part's: a stack halved for want of memory takes half of it.
            return max(1, _floats_on(self.device) // (self._floats * self.cohort.replicas))
        size = max(1, EVALUATION_FLOATS // (max(self.pool.inputs[0].numel(), 256) * replicas))
        if self.device.type == "cpu":
            size = min(size, max(CPU_EXAMPLES // replicas, CPU_EXAMPLES_OF_EACH))
        return size

    @functools.cached_property
    def _floats(self) -> int:
        """Numbers that a pass holds of one example of one replica: the largest that it makes, three times."""
        part, example = self.cohort.parts[0], self.pool.inputs[:1]
        with _Largest() as largest:
            self.cohort.forward(part, example, shared=True)
        return max(256, 3 * largest.numbers // (part.stop - part.start))

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

    def _recorded(self, steps: int, examples: int) -> captured.Steps | None:
        """Recorded steps, where so many are asked for and so many examples of the epoch are left; else None."""
        if self.not_captured or self.warm < captured.WARM_UP_STEPS:
            return None
        count, size = self._in_graph, self.config.step_size
        if steps < count or examples < count * size:
            return None
        if self.graph is None:
            sizes = count, self.cohort.replicas, size, self._purposes
            try:
                self.graph = captured.Steps(self.work, *sizes, self.device)
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

    # -- averaged weights -----------------------------------------------------------------------

    @torch.no_grad()
    def _update_average(self, newest: float | Tensor) -> None:
        """One step of the exponential average."""
        for name, parameter in self.cohort.parameters.items():
            self.average[name].lerp_(parameter.detach(), newest)

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
        self.warm, self.graph = 0, None  # it reads the memory that was in use before
        if self.early_stopping is not None:
            for name, value in state["early_stopping"].items():
                setattr(self.early_stopping, name, value)
            self.early_stopping.best = {n: t.to(self.device) for n, t in state["best"].items()}


def on_host(augment: Augment | None) -> bool:
    """Whether an augmentation wants its uniforms on the host."""
    return augment is not None and getattr(augment[0], "on_host", False)


class _Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that is calculated meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def _floats_on(device: torch.device) -> int:
    """Activations per evaluation pass on a GPU: a 32nd of its memory, the same whatever else is on it."""
    return int(torch.cuda.get_device_properties(device).total_memory) // (4 * 32)
