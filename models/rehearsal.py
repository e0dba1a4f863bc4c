"""Which way a person's network runs: stacked by vmap where that is proven to agree with plain training, else plain.

A few real training steps and an evaluation on real examples, both ways, with the same starts, batches and random
numbers; losses, gradients, parameters, buffers and predictions have to agree, with SGD and with AdamW, which makes
much of rounding where a gradient is nothing else. The plain run comes first: what
fails there is the person's to mend, and is explained. Seconds, once per kind of network in each process.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engram.models import streams
from engram.models.cohort import Cohort
from engram.models.config import TrainingConfig
from engram.models.dropout import Dropout, adopt
from engram.models.explain import in_their_code
from engram.models.families import ModelError, Way
from engram.models.plain import PlainCohort, plain_state
from engram.models.training import Augment, Examples, Trainer
from engram.models.trouble import kind

REPLICAS, MOST_BATCH, EPOCHS = 3, 16, 2
STACKS = (3, 2, 1)  # all in one pass, in unequal parts, one by one
LOOSE, TIGHT = (
    1e-3,
    2e-5,
)  # relative differences: of two orders of the same float32 sums; after Adam's steps
TINY = 1e-5  # a difference that is none, absolute

Make = Callable[[int], nn.Module]  # replica -> a fresh network


def rehearse(
    make: Make,
    examples: Examples,
    outputs: int,
    config: TrainingConfig,
    train_size: int,
    device: torch.device,
    augment: Augment | None = None,
) -> Way:
    """The way for networks made by `make`; ModelError, explained, where not even plain training works.

    examples: some of the study's own; outputs: classes, or values."""
    attempt(make, examples, outputs, config, train_size, device, augment)
    batch, size = _sizes(config, train_size)
    examples = _enough(examples, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap tells what it has no fast rule for
        return _compared(make, examples, config, batch, size, device)


def _compared(
    make: Make,
    examples: Examples,
    config: TrainingConfig,
    batch: int,
    size: int,
    device: torch.device,
) -> Way:
    """The way, by comparing runs; what a difference is called is the reason."""
    quiet = config.model_copy(update=_short(batch))
    longer = {"epochs": 2 * EPOCHS, "evaluate_every": 2 * EPOCHS}
    adam = quiet.model_copy(update={"optimizer": "adamw", "lr": 0.01, **longer})
    try:
        for recipe, stacks, near in ((quiet, STACKS, LOOSE), (adam, STACKS[:1], TIGHT)):
            reference = _run(PlainCohort(_still(make, False), device), examples, recipe, size)
            for stack in stacks:
                found = _run(Cohort(_still(make, True), device, stack), examples, recipe, size)
                differs = _difference(reference, found, near)
                if differs:
                    return Way("plain", f"stacked, {differs}")
        if any(isinstance(m, Dropout) and m.rate > 0 for m in adopt(make(0)).modules()):
            reference = _run(PlainCohort(_adopted(make), device), examples, quiet, size)
            for stack in STACKS[:2]:
                found = _run(Cohort(_adopted(make), device, stack), examples, quiet, size)
                differs = _difference(reference, found, LOOSE)
                if differs:
                    return Way("plain", f"stacked and with dropout, {differs}")
    except Exception as error:  # whatever vmap, or code under it, objects to
        if kind(error) != "trial":
            raise
        said = str(error).strip().splitlines()
        return Way("plain", f"it cannot be stacked: {_shortened(said[0] if said else repr(error))}")
    return Way("vmapped")


def _adopted(make: Make) -> list[nn.Module]:
    return [adopt(make(replica)) for replica in range(REPLICAS)]


def _short(batch: int) -> dict:
    """Few plain steps of SGD, whose weight decay shows what is trained and should not be."""
    return {
        **{"optimizer": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.1, "options": {}},
        **{"batch_size": batch, "accumulate": 1, "epochs": EPOCHS, "steps": None},
        **{"early_stopping": None, "ema": None, "clip": None, "l1": 0.0, "loss": "auto"},
        **{"class_weights": None, "label_smoothing": 0.0, "precision": "float32"},
        **{"schedule": "constant", "warmup": 0.0, "evaluate_every": EPOCHS},
    }


def _enough(examples: Examples, size: int) -> Examples:
    index = torch.arange(max(size, 2)) % len(examples)
    return Examples(examples.inputs[index], examples.targets[index])


def _sizes(config: TrainingConfig, train_size: int) -> tuple[int, int]:
    """(examples in a batch, in an epoch): a whole batch and a last one, which may be of one example."""
    batch = min(config.batch_size, MOST_BATCH, train_size)
    last = train_size % config.step_size % config.batch_size or batch
    return batch, batch + min(last, batch)


def attempt(
    make: Make,
    examples: Examples,
    outputs: int,
    config: TrainingConfig,
    train_size: int,
    device: torch.device,
    augment: Augment | None = None,
) -> None:
    """One plain replica through two short epochs as the study has them; ModelError, explained, where it fails."""
    batch, size = _sizes(config, train_size)
    examples = _enough(examples, size)
    network = make(0)
    config = config.model_copy(
        update={
            "batch_size": batch,
            "accumulate": 1,
            "epochs": EPOCHS,
            "steps": None,
            "early_stopping": None,
        }
    )
    trainer = Trainer(
        PlainCohort([network], device),
        examples,
        torch.arange(size)[None],
        {},
        config,
        [streams.key("rehearsal", 0)],
        augment,
    )
    with in_their_code(type(network), "a training step"):
        trainer.advance()
        trainer.state_dict()
        found = trainer.predict(Examples(examples.inputs[:2], examples.targets[:2])).shape[-1]
    if found != outputs:
        what = "values to predict" if examples.targets.is_floating_point() else "classes"
        where = f"{type(network).__module__}:{type(network).__qualname__}"
        raise ModelError(
            f"{where} returns {found} numbers an example, and the data has {outputs} {what}: build the last layer "
            "with `outputs`"
        )


def _still(make: Make, adopted: bool) -> list[nn.Module]:
    """The replicas with their dropout at rate 0, so that nothing of it is random."""
    modules = []
    for replica in range(REPLICAS):
        module = make(replica)
        if adopted:
            adopt(module)
        for layer in module.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.p = 0.0
            elif isinstance(layer, Dropout):
                layer.rate = 0.0
        modules.append(module)
    return modules


@dataclass
class _Seen:
    """What a run showed, as named tensors [R, ...] in order, and what it did to plain attributes."""

    tensors: list[tuple[str, Tensor]]
    changed: str | None


def _run(
    cohort: Cohort | PlainCohort, examples: Examples, config: TrainingConfig, size: int
) -> _Seen:
    seen: list[tuple[str, Tensor]] = []
    orders = [
        torch.randperm(size, generator=streams.generator("rehearsal", replica))
        for replica in range(REPLICAS)
    ]
    keys = [streams.key("rehearsal", replica) for replica in range(REPLICAS)]
    trainer = Trainer(cohort, examples, torch.stack(orders), {}, config, keys)
    before = plain_state(cohort.module)
    cohort.train(True)
    for step in range(trainer.total_steps):
        epoch, within = divmod(step, trainer.steps_per_epoch)
        trainer.train_epoch(epoch, within, within + 1)
        seen += [
            (f"the gradient of {name} differs", _gradient(cohort, name))
            for name in cohort.parameters
        ]
        for name, tensor in {**cohort.parameters, **cohort.buffers}.items():
            if not name.endswith("stream"):
                kind = "parameter" if name in cohort.parameters else "buffer"
                seen.append((f"the {kind} {name} differs after a step", tensor.detach().clone()))
    changed = next(
        (n for n, v in plain_state(cohort.module).items() if _changed(before.get(n), v)), None
    )
    report = trainer.evaluate()
    seen.append(("the loss differs", report.loss["train"]))
    seen.append(("predictions differ", trainer.predict(examples)))
    for name, tensor in cohort.buffers.items():
        if not name.endswith("stream"):
            seen.append((f"the buffer {name} differs after an evaluation", tensor.detach().clone()))
    return _Seen(seen, changed)


def _changed(before: object, now: object) -> bool:
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return before.shape != now.shape or not torch.equal(before, now)
    return type(before) is not type(now) or before != now


def _gradient(cohort: Cohort | PlainCohort, name: str) -> Tensor:
    """Stacked, zeros where there is none."""
    if isinstance(cohort, Cohort):
        stacked = cohort.parameters[name]
        return torch.zeros_like(stacked) if stacked.grad is None else stacked.grad.detach().clone()
    each = [dict(m.named_parameters())[name] for m in cohort.modules]
    return torch.stack([torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in each])


def _difference(plain: _Seen, other: _Seen, near: float) -> str | None:
    """The first thing in which a run is not as the plain one; None where all agrees."""
    if other.changed is not None:
        return f"its attribute {other.changed.lstrip(':').replace(':', '.')} would be shared by all replicas"
    if [name for name, _ in plain.tensors] != [name for name, _ in other.tensors]:
        return "its parameters or buffers are others"
    for (name, wanted), (_, found) in zip(plain.tensors, other.tensors, strict=True):
        # Adam's own gradients are left out: they are as the parameters are.
        if near == TIGHT and name.startswith("the gradient"):
            continue
        if wanted.shape != found.shape or not _close(wanted, found, near):
            return name
    return None


def _close(wanted: Tensor, found: Tensor, near: float) -> bool:
    wanted, found = wanted.cpu(), found.cpu()
    if not wanted.is_floating_point():
        return torch.equal(wanted, found)
    scale = wanted[wanted.isfinite()].abs().max().item() if wanted.isfinite().any() else 0.0
    tolerance = TINY + near * (scale if math.isfinite(scale) else 0.0)
    return torch.allclose(wanted, found, rtol=near, atol=tolerance, equal_nan=True)


def _shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


_KNOWN: dict[tuple, Way] = {}


def known(kind: tuple, rehearsal: Callable[[], Way]) -> Way:
    """The answer for a kind of network, found once in each process."""
    if kind not in _KNOWN:
        _KNOWN[kind] = rehearsal()
    return _KNOWN[kind]
