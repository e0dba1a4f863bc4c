"""The optimizer of a cohort: one over stacked parameters where it is elementwise, else one for each replica.

Elementwise optimizers on stacked parameters are R independent ones; one that looks at a whole parameter (its
rows, its norm) would mix replicas, so each replica has its own. A person's own is tried (elementwise.py).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from engram.models import attributes, elementwise, streams
from engram.models.cohort import Cohort
from engram.models.config import TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError
from engram.models.named import named
from engram.models.optimizer import KNOWN, Optimizer
from engram.models.pieces import OPTIMIZERS
from engram.models.plain import PlainCohort

CPU = torch.device("cpu")


class Steps(Protocol):
    """What training asks of an optimizer. lr may be set between steps; the state is a nest of dicts of tensors.

    way: "stacked", one for all replicas, or "replica by replica"."""

    lr: Any  # a number; for Optimizer, a tensor too
    way: str

    @property
    def bytes(self) -> int: ...

    def step(self, number: int) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def optimizer(cohort: Cohort | PlainCohort, config: TrainingConfig, keys: Sequence[int]) -> Steps:
    """The optimizer that a configuration names; ModelError for one that is not known or does not fit.

    keys: a name for each replica, of the random numbers that a person's own may draw."""
    own = keys if ":" in config.optimizer else None
    if isinstance(cohort, PlainCohort):
        # Torch's own classes, to the last bit: where a gradient is rounding alone, Adam makes steps of it.
        return EachReplica([Torchs(part.trained, config) for part in cohort.parts], own)
    whole = cohort.trained()
    if together(config, whole):
        return _one(whole, config)
    return EachReplica([_Views(whole, index, config) for index in range(cohort.replicas)], own)


def together(config: TrainingConfig, parameters: Sequence[Tensor]) -> bool:
    """Whether one optimizer on stacked parameters [R, ...] is as R of them: by the table, or for an own class by trying."""
    if ":" not in config.optimizer:
        return bool(row(config.optimizer).elementwise)
    return elementwise.tried(lambda some: Torchs(some, config), parameters)


def row(name: str) -> Any:
    """The table's row of an optimizer; ModelError for a name that it does not have."""
    if name not in OPTIMIZERS:
        known = ", ".join(OPTIMIZERS)
        raise ModelError(
            f"training.optimizer = {name!r} is no known optimizer: {known}, or package.module:Class"
        )
    return OPTIMIZERS[name]


def _one(parameters: list[Tensor], config: TrainingConfig) -> Steps:
    if config.optimizer in KNOWN and not config.options:
        return Optimizer(parameters, config)
    return Torchs(parameters, config)


def arguments(config: TrainingConfig) -> dict[str, Any]:
    """What the optimizer's class is called with besides the parameters."""
    cls = optimizer_class(config)
    takes = inspect.signature(cls.__init__).parameters
    found: dict[str, Any] = {"lr": config.lr}
    if config.optimizer == "sgd":
        found["momentum"] = config.momentum
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    if "weight_decay" in takes or (anything and config.weight_decay):
        found["weight_decay"] = config.weight_decay
    elif config.weight_decay:
        raise ModelError(
            f"training.weight_decay = {config.weight_decay}: {config.optimizer} has none"
        )
    unknown = [name for name in config.options if name not in takes]
    if unknown and not anything:
        own = [name for name in takes if name not in ("self", "params", "lr", "weight_decay")]
        raise ModelError(
            f"training.options.{unknown[0]}: {config.optimizer} takes no such argument; it takes {', '.join(own)}"
        )
    return found | {k: tuple(v) if isinstance(v, list) else v for k, v in config.options.items()}


def optimizer_class(config: TrainingConfig) -> Any:
    """The class of the optimizer that a configuration names."""
    path = config.optimizer if ":" in config.optimizer else row(config.optimizer).cls
    cls = named(path, "training.optimizer")
    if not (inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer)):
        raise ModelError(
            f"training.optimizer = {config.optimizer!r} is no subclass of torch.optim.Optimizer"
        )
    closure = inspect.signature(cls.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ModelError(
            f"training.optimizer = {config.optimizer!r} evaluates the loss several times in a step (its step needs a "
            "closure), and training here gives it one gradient a step: choose another"
        )
    return cls


@functools.cache
def _of_torch() -> frozenset[str]:
    """What every optimizer of torch has; a person's own may keep more. Late: the classes import torch's compiler."""
    return frozenset(vars(torch.optim.SGD([torch.zeros(1)])))


class Torchs:
    """Optimizers of torch, or of a person, as they are. Muon is for matrices; it leaves the rest to AdamW."""

    way = "stacked"

    def __init__(self, parameters: list[Tensor], config: TrainingConfig):
        cls, given = optimizer_class(config), arguments(config)
        groups = [(cls, given, parameters)]
        if config.optimizer == "muon":
            rest = {"lr": config.lr, "weight_decay": config.weight_decay}
            groups = [
                (cls, given, [p for p in parameters if p.dim() == 2]),
                (torch.optim.AdamW, rest, [p for p in parameters if p.dim() != 2]),
            ]
        self.optimizers = []
        for kind, options, some in groups:
            if some:
                with in_their_code(kind, f"the call with {', '.join(options)}"):
                    self.optimizers.append(kind(some, **options))
        self.name = config.optimizer

    @property
    def lr(self) -> float:
        return float(self.optimizers[0].param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = value

    def step(self, number: int) -> None:
        """One update."""
        for optimizer in self.optimizers:
            with in_their_code(type(optimizer), "step()"):
                optimizer.step()

    @property
    def bytes(self) -> int:
        """Of its tensors."""
        each = [s for o in self.optimizers for s in o.state.values() if isinstance(s, dict)]
        return sum(t.nbytes for state in each for t in state.values() if isinstance(t, Tensor))

    def state_dict(self) -> dict[str, Any]:
        """Copies on the CPU, of each optimizer: its parameters' state, its groups' settings, and what else it keeps."""
        found = {}
        for number, optimizer in enumerate(self.optimizers):
            kept = optimizer.state_dict()
            groups = [{k: v for k, v in g.items() if k != "params"} for g in kept["param_groups"]]
            own = {k: v for k, v in vars(optimizer).items() if k not in _of_torch()}
            everything = {"state": kept["state"], "groups": groups, "own": own}
            found[str(number)] = {k: attributes.encode(v) for k, v in everything.items()}
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state made by `state_dict`; {} is a beginning."""
        for number, optimizer in enumerate(self.optimizers if state else ()):
            kept = {k: attributes.decode(v, None, CPU) for k, v in state[str(number)].items()}
            whole = optimizer.state_dict()
            groups = [a | b for a, b in zip(whole["param_groups"], kept["groups"], strict=True)]
            optimizer.load_state_dict({"state": kept["state"], "param_groups": groups})
            vars(optimizer).update(kept["own"])


class _Views:
    """One replica's optimizer on views of stacked parameters."""

    def __init__(self, whole: list[Tensor], index: int, config: TrainingConfig):
        self.index, self.whole = index, whole
        self.views = [parameter[index].detach() for parameter in self.whole]
        self.inner = _one(self.views, config)

    @property
    def lr(self) -> float:
        return self.inner.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.inner.lr = value

    def step(self, number: int) -> None:
        for view, parameter in zip(self.views, self.whole, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad[self.index]
        self.inner.step(number)

    @property
    def bytes(self) -> int:
        return self.inner.bytes

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)


class EachReplica:
    """One optimizer for each replica. keys: of what is random in it, where that may be; the replica's own."""

    way = "replica by replica"

    def __init__(self, replicas: list[Any], keys: Sequence[int] | None):
        self.replicas, self.keys = replicas, keys

    @property
    def lr(self) -> float:
        return float(self.replicas[0].lr)

    @lr.setter
    def lr(self, value: float) -> None:
        for each in self.replicas:
            each.lr = value

    def step(self, number: int) -> None:
        """One update of every replica, the one of this number."""
        for index, each in enumerate(self.replicas):
            if self.keys is not None:
                streams.seed_all(streams.key(self.keys[index], "optimizer", number))
            each.step(number)

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return sum(each.bytes for each in self.replicas)

    def state_dict(self) -> dict[str, Any]:
        """{replica: its optimizer's state}."""
        return {str(index): each.state_dict() for index, each in enumerate(self.replicas)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state made by `state_dict`; {} is a beginning."""
        if not state:
            return
        for index, each in enumerate(self.replicas):
            each.load_state_dict(state[str(index)])
