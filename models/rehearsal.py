"""Which way a person's network runs: stacked by vmap where that is proven to agree with plain training, else plain.

A few real training steps and an evaluation on real examples, both ways, with the same starts, batches and random
numbers; losses, gradients, parameters, buffers and predictions have to agree, with SGD and with AdamW, which makes
much of rounding where a gradient is nothing else. An attempt at plain training comes first (attempt.py). Seconds,
once per kind of network in each process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engram.models import attributes, streams
from engram.models.attempt import EPOCHS, Case, attempt, close, said
from engram.models.cohort import Cohort
from engram.models.config import TrainingConfig
from engram.models.dropout import Dropout, adopt
from engram.models.evaluation import Networks
from engram.models.families import Way
from engram.models.plain import PlainCohort
from engram.models.training import Examples, Trainer
from engram.models.trouble import kind

DROPOUTS = nn.modules.dropout._DropoutNd  # of every kind; nn.Dropout alone is adopted
# What torch's vmap says -> what it means.
OBJECTIONS = {
    "randomness error mode": "it draws random numbers in forward, other than by nn.Dropout",
    "data-dependent control flow": "it branches on values",
    "setup_context": "an autograd function in it is not made for vmap",
    "may have escaped": "it keeps tensors from one call to another, or something in it does (checkpointing, say)",
    "`.item()`": "it makes Python numbers of tensors",
}
REPLICAS = 3
STACKS = (3, 2, 1)  # all in one pass, in unequal parts, one by one
# Relative differences: of two orders of the same float32 sums; after Adam's steps.
LOOSE, TIGHT = 1e-3, 2e-5


def rehearse(case: Case) -> Way:
    """The way for networks of a case; ModelError, explained, where not even plain training works."""
    notes = attempt(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap tells what it has no fast rule for
        try:
            differs = _difference_of_ways(case)
            reason = f"stacked, {differs}" if differs else None
        except Exception as error:  # whatever vmap, or code under it, objects to
            if kind(error) != "trial":
                raise
            reason = f"it cannot be stacked: {_words(str(error))}"
    return Way("plain" if reason else "vmapped", reason, notes)


def _words(error: str) -> str:
    """What vmap objects to, in the words of a network."""
    return next((words for part, words in OBJECTIONS.items() if part in error), said(error))


def _difference_of_ways(case: Case) -> str | None:
    """The first thing in which a stacked run is not as the plain one; None where all agrees."""
    quiet = case.training.model_copy(update=_short(case.batch))
    longer = {"epochs": 2 * EPOCHS, "evaluate_every": 2 * EPOCHS}
    adam = quiet.model_copy(update={"optimizer": "adamw", "lr": 0.01, **longer})
    for recipe, stacks, near in ((quiet, STACKS, LOOSE), (adam, STACKS[:1], TIGHT)):
        reference = _run(PlainCohort(_still(case, False), case.device), case, recipe)
        for stack in stacks:
            found = _run(Cohort(_still(case, True), case.device, stack), case, recipe)
            if differs := _difference(reference, found, near):
                return (
                    f"{differs} of AdamW, which makes steps of rounding"
                    if near == TIGHT
                    else differs
                )
    if any(isinstance(m, DROPOUTS) and m.p > 0 for m in case.make(0).modules()):
        reference = _run(PlainCohort(_adopted(case), case.device), case, quiet)
        for stack in STACKS[:2]:
            found = _run(Cohort(_adopted(case), case.device, stack), case, quiet)
            if differs := _difference(reference, found, LOOSE):
                return f"and with dropout, {differs}"
    return None


def _adopted(case: Case) -> list[nn.Module]:
    return [adopt(case.make(replica)) for replica in range(REPLICAS)]


def _short(batch: int) -> dict:
    """Few plain steps of SGD, whose weight decay shows what is trained and should not be."""
    return {
        **{"optimizer": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.1, "options": {}},
        **{"batch_size": batch, "accumulate": 1, "epochs": EPOCHS, "steps": None},
        **{"early_stopping": None, "ema": None, "clip": None, "l1": 0.0, "loss": "auto"},
        **{"class_weights": None, "label_smoothing": 0.0, "precision": "float32"},
        **{"schedule": "constant", "warmup": 0.0, "evaluate_every": EPOCHS},
    }


def _still(case: Case, adopted: bool) -> list[nn.Module]:
    """The replicas with their dropout at rate 0, so that nothing of it is random."""
    modules = []
    for replica in range(REPLICAS):
        module = case.make(replica)
        if adopted:
            adopt(module)
        for layer in module.modules():
            if isinstance(layer, DROPOUTS):
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


def _run(cohort: Networks, case: Case, config: TrainingConfig) -> _Seen:
    seen: list[tuple[str, Tensor]] = []
    examples: Examples = case.few
    orders = [
        torch.randperm(case.size, generator=streams.generator("rehearsal", replica))
        for replica in range(REPLICAS)
    ]
    keys = [streams.key("rehearsal", replica) for replica in range(REPLICAS)]
    trainer = Trainer(cohort, examples, torch.stack(orders), {}, config, keys)
    before = attributes.of_module(cohort.module)
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
    now = attributes.of_module(cohort.module)
    changed = next((n for n in now if not attributes.same(before.get(n), now[n])), None)
    report = trainer.evaluate()
    seen.append(("the loss differs", report.loss["train"]))
    seen.append(("predictions differ", trainer.predict(examples)))
    for name, tensor in cohort.buffers.items():
        if not name.endswith("stream"):
            seen.append((f"the buffer {name} differs after an evaluation", tensor.detach().clone()))
    return _Seen(seen, changed)


def _gradient(cohort: Networks, name: str) -> Tensor:
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
        if not close(wanted, found, near):
            return name
    return None


_KNOWN: dict[tuple, Way] = {}


def known(kind: tuple, rehearsal: Callable[[], Way]) -> Way:
    """The answer for a kind of network, found once in each process."""
    if kind not in _KNOWN:
        _KNOWN[kind] = rehearsal()
    return _KNOWN[kind]
