"""A few steps of a network on its own, before anything relies on it: does it train, the same again, and from a checkpoint?

What fails there is the person's to mend, and is explained. Seconds, once per kind of network in each process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engram.models import attributes, streams
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError, Shape
from engram.models.family import Words, build
from engram.models.named import listed
from engram.models.plain import PlainCohort
from engram.models.training import Augment, Examples, Trainer

CPU = torch.device("cpu")
MOST_BATCH, EPOCHS = 16, 2
TINY = 1e-5  # a difference that is none, absolute
AGAIN = {
    "cpu": 1e-5
}  # relative difference of the same steps done again; other devices add up in any order
AGAIN_ELSEWHERE = 1e-3
# Of training, what the way or its success may depend on.
ASKED_OF = (
    "optimizer options loss label_smoothing class_weights schedule accumulate batch_size ema precision"
).split()
# And of these, whether there is any: torch's steps with it are others than without.
ANY_OF = "momentum weight_decay clip l1".split()


@dataclass(frozen=True)
class Case:
    """A kind of network and how it is to be trained.

    shape: of one example; outputs: classes, or values to predict; examples: some of the study's own;
    train_size: of a replica, for the last batch of an epoch."""

    model: ModelConfig
    training: TrainingConfig
    shape: Shape
    outputs: int
    image: bool
    examples: Examples
    train_size: int
    device: torch.device = CPU
    augment: Augment | None = None
    tokens: Words | None = None  # inputs are whole numbers

    def make(self, replica: int) -> nn.Module:
        """Fresh networks by number: the same number gives the same network."""
        with streams.forked():
            streams.seed_all(streams.key("rehearsal", replica))
            return build(self.model, self.shape, self.outputs, self.image, self.tokens)

    @property
    def kind(self) -> tuple:
        """What the way depends on, of all this."""
        asked = (
            *(str(getattr(self.training, name)) for name in ASKED_OF),
            *(bool(getattr(self.training, name)) for name in ANY_OF),
        )
        last = self.train_size % self.training.step_size % self.training.batch_size
        sizes = self.shape, self.outputs, self.image, last, self.tokens and len(self.tokens.words)
        return self.model.model_dump_json(), asked, sizes, self.device.type, self.augment is None

    @property
    def batch(self) -> int:
        return min(self.training.batch_size, MOST_BATCH, self.train_size)

    @property
    def few(self) -> Examples:
        """A whole batch and a last one, which may be of one example."""
        training = self.training
        last = self.train_size % training.step_size % training.batch_size or self.batch
        size = max(2, self.batch + min(last, self.batch))
        index = torch.arange(size) % len(self.examples)
        return Examples(self.examples.inputs[index], self.examples.targets[index])

    @property
    def size(self) -> int:
        """Examples in an epoch of the few."""
        training = self.training
        last = self.train_size % training.step_size % training.batch_size or self.batch
        return self.batch + min(last, self.batch)


def attempt(case: Case) -> tuple[str, ...]:
    """Train one plain replica for two short epochs as the study has it; what a person is to know of it.

    ModelError, explained, where it fails, where it is not the same when done again, or not from a checkpoint."""
    network = case.make(0)
    where = f"{type(network).__module__}:{type(network).__qualname__}"
    names = {name for name, _ in network.named_parameters()}
    trainer = _trainer(case, network)
    with in_their_code(type(network), "a training step"):
        trainer.advance()
        _no_new_parameters(network, names, where)
        halfway = trainer.state_dict()
        trainer.advance()
        ended = _ended(trainer)
        found = _predicted(trainer, 0).shape[-1]
    if found != case.outputs:
        what = "classes" if case.examples.classification else "values to predict"
        what = "labels" if case.examples.labels else what
        raise ModelError(
            f"{where} returns {found} numbers an example, and the data has {case.outputs} {what}: build the last layer "
            "with `outputs`"
        )
    with in_their_code(type(network), "training again"):
        again = _trainer(case, case.make(0), moved=False)
        for _ in range(EPOCHS):
            again.advance()
        if not _alike(ended, _ended(again), case.device):
            _refuse(case, ended, where)
        again = _trainer(case, case.make(0))
        again.load_state_dict(halfway)
        again.advance()
        if not _alike(ended, _ended(again), case.device):
            raise ModelError(
                f"{where} goes on from a checkpoint otherwise than without one: what it keeps from step to step is to be "
                "a parameter, a buffer, or an attribute that holds numbers, text, tensors, arrays, random generators, or "
                "lists, queues, dicts and plain objects of these"
            )
    return tuple(_notes(trainer, network))


def _trainer(case: Case, network: nn.Module, moved: bool = True) -> Trainer:
    short = {"batch_size": case.batch, "accumulate": 1, "epochs": EPOCHS, "steps": None}
    config = case.training.model_copy(update={**short, "evaluate_every": 1, "early_stopping": None})
    cohort = PlainCohort([network], case.device, moved=moved)
    members = torch.arange(case.size)[None]
    return Trainer(
        cohort, case.few, members, {}, config, [streams.key("rehearsal", 0)], case.augment
    )


def _no_new_parameters(network: nn.Module, names: set[str], where: str) -> None:
    new = [name for name, _ in network.named_parameters() if name not in names]
    if new:
        raise ModelError(
            f"{where} creates the parameter {new[0]} in forward, where no optimizer knows of it: create it in __init__, "
            "or use a lazy layer"
        )


def _refuse(case: Case, ended: dict[str, Tensor], where: str) -> None:
    """Say whether it differs whenever it is done again, or only where its tensors are left where they were made."""
    whole = _trainer(case, case.make(0))
    for _ in range(EPOCHS):
        whole.advance()
    if _alike(ended, _ended(whole), case.device):
        raise ModelError(
            f"{where} keeps a view of its own parameters or buffers, which is left behind where they move (to a GPU, or "
            "into a stack): use them by their own names in forward"
        )
    raise ModelError(
        f"{where} does not train the same twice from one start and one seed: a generator, a counter or a clock outside "
        "the module has a part in it. Draw from torch's global random numbers, or make a generator in __init__ and keep "
        "it there"
    )


def _ended(trainer: Trainer) -> dict[str, Tensor]:
    return {**trainer.cohort.state_dict(), " predictions": _predicted(trainer, 0)}


def _predicted(trainer: Trainer, key: int) -> Tensor:
    inputs = trainer.pool.inputs[:2]
    return trainer.evaluation.outputs(inputs, lambda outputs: outputs.cpu(), lambda part: key)


def _alike(one: dict[str, Tensor], other: dict[str, Tensor], device: torch.device) -> bool:
    near = AGAIN.get(device.type, AGAIN_ELSEWHERE)
    return one.keys() == other.keys() and all(close(one[n], other[n], near) for n in one)


def close(wanted: Tensor, found: Tensor, near: float) -> bool:
    """Whether numbers agree, to `near` of the largest; whole numbers exactly."""
    wanted, found = wanted.cpu(), found.cpu()
    if wanted.shape != found.shape:
        return False
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(wanted, found)
    finite = wanted[wanted.isfinite()].abs()
    scale = finite.max().item() if len(finite) else 0.0
    tolerance = TINY + near * (scale if math.isfinite(scale) else 0.0)
    return torch.allclose(wanted, found, rtol=near, atol=tolerance, equal_nan=True)


def _notes(trainer: Trainer, network: nn.Module) -> Iterator[str]:
    """What is as a plain loop has it, and may not be what was meant."""
    unused = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    if unused:
        yield f"not trained, for lack of a gradient: {listed(unused)}"
    if hidden := attributes.hidden(network):
        yield (
            f"the modules in {listed(hidden)} are not registered, so they are not trained: nn.ModuleList or "
            "nn.ModuleDict registers them"
        )
    first, second = _predicted(trainer, 1), _predicted(trainer, 2)
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        yield (
            "random in evaluation too: its predictions are one draw (F.dropout wants training=self.training)"
        )
    before = trainer.cohort.state_dict()
    with torch.no_grad():
        network.eval()(trainer.pool.inputs.clone())
    after = trainer.cohort.state_dict()
    changed = [name for name in before if not attributes.same(before[name], after[name])]
    if changed and first.isfinite().all():
        yield f"changes {listed(changed)} in evaluation too; here that is put back each time"


def said(value: Any, most: int = 160) -> str:
    """One line of an error, or its name."""
    lines = str(value).strip().splitlines()
    text = lines[0] if lines else repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
