"""R replicas of one network, stacked on a leading axis.

The state (parameters, buffers, gradients) is always stored stacked, [R, ...], so a stock elementwise
optimizer on it *is* R independent optimizers, and a checkpoint looks the same however the replicas
were run. Only the forward and backward passes are cut in parts: one part of R replicas (vmap), several
of fewer, or one replica at a time (the module itself, with torch's fused recurrent kernels).
models/plain.py is the reference that this way has to agree with. Knows nothing of data, losses or schedules.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from engram.models import families
from engram.models.dropout import Dropout, give_back
from engram.models.families import ModelError
from engram.models.recurrent import Recurrent

State = dict[str, Tensor]
MOST_ON_CPU = 32  # replicas in one pass: more outgrow its caches
MOST_CALLS = 2**16  # of one dropout layer in one pass


@dataclass(frozen=True)
class Part:
    """Replicas [start, stop) run in one pass: leaves that share the cohort's storage."""

    start: int
    stop: int
    parameters: State
    buffers: State

    @property
    def replicas(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def trained(self) -> list[Tensor]:
        """The parameters that are not frozen."""
        return [p for p in self.parameters.values() if p.requires_grad]


class Cohort:
    """The stacked networks of one trial.

    modules: R networks of one architecture, each with its own initialization.
    stack: replicas per pass; None: all. reason: why it runs this way, where there is more to say.
    Attributes: `parameters`, `buffers` (name -> [R, ...]), `frozen` (names that are not trained),
    `replicas`, `stack`, `way` ("stacked": takes stacked parameters as they are, "vmapped": through vmap),
    `parameter_count` (of one replica), `notes` (see `Way`).
    """

    notes: tuple[str, ...] = ()
    every_step = False  # whether outputs are to be [B, T, C], for a target at each position

    def __init__(
        self,
        modules: Sequence[nn.Module],
        device: torch.device,
        stack: int | None = None,
        reason: str | None = None,
    ):
        self.replicas = len(modules)
        self.device = device
        # Stacked where the modules are, and moved once: the first one is moved only afterwards.
        self.parameters = stacked([dict(m.named_parameters()) for m in modules], device)
        self.buffers = stacked([dict(m.named_buffers()) for m in modules], device)
        self.frozen = frozen(modules)
        self.module = modules[0].to(device)
        self.parameter_count = sum(p.numel() for p in modules[0].parameters())
        self.dropouts = [n for n, m in self.module.named_modules() if isinstance(m, Dropout)]
        self._layers: list[Any] = [self.module.get_submodule(name) for name in self.dropouts]
        self.direct = getattr(self.module, "takes_stacked_parameters", False)
        self.way, self.reason = "stacked" if self.direct else "vmapped", reason
        self.split(stack or self.replicas)

    def split(self, stack: int) -> None:
        """Run at most `stack` replicas in one pass from now on; nothing else changes."""
        self.stack = max(1, min(stack, self.replicas))
        for module in self.module.modules():
            if isinstance(module, Recurrent):
                module.fused = self.stack == 1
        trained = {n: p for n, p in self.parameters.items() if n not in self.frozen}
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        if self.stack == self.replicas and self.replicas > 1:
            for parameter in trained.values():
                parameter.requires_grad_(True)
            self.parts = [Part(0, self.replicas, self.parameters, self.buffers)]
            return
        # Leaves are views of the storage, and their gradients views of one stacked gradient.
        for parameter in trained.values():
            parameter.grad = torch.zeros_like(parameter)
        starts = range(0, self.replicas, self.stack)
        self.parts = [self._part(start, min(start + self.stack, self.replicas)) for start in starts]

    def _part(self, start: int, stop: int) -> Part:
        index: slice | int = start if self.stack == 1 else slice(start, stop)
        leaves = {}
        for name, parameter in self.parameters.items():
            leaves[name] = leaf = parameter[index].detach()
            if name not in self.frozen:
                assert parameter.grad is not None
                leaf.requires_grad_(True).grad = parameter.grad[index]
        return Part(
            start, stop, leaves, {name: buffer[index] for name, buffer in self.buffers.items()}
        )

    def trained(self) -> list[Tensor]:
        """The stacked parameters that an optimizer may change."""
        return [p for name, p in self.parameters.items() if name not in self.frozen]

    def zero_grad(self) -> None:
        """Forget gradients: dropped where one part owns them, zeroed in place where parts share them."""
        for parameter in self.parameters.values():
            if parameter.requires_grad:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def clip(self, limit: float) -> None:
        """Scale each replica's gradient to a norm of at most `limit`, on its own."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)  # [R]
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))

    def set_streams(self, streams: Tensor) -> None:
        """Give each dropout layer its streams for one step: int32 [layers, R]."""
        for layer, name in enumerate(self.dropouts):
            self.buffers[f"{name}.stream" if name else "stream"].copy_(streams[layer])

    def seed(self, part: Part, key: int) -> None:
        """Nothing: what is random here is drawn from the replicas' own streams."""

    def forward(self, part: Part, inputs: Tensor, shared: bool = False, turn: int = 0) -> Tensor:
        """Outputs [r, B, ...] of the part's r replicas.

        inputs: [r, B, ...], each replica its own batch; or [B, ...] with `shared`, all the same.
        turn: which of several passes of one step.
        """
        for layer in self._layers:
            layer.calls = turn * MOST_CALLS
        if self.stack == 1:
            own = inputs if shared else inputs[0]
            return self._call(part.parameters, part.buffers, own)[None]
        if self.direct:
            own = inputs.expand(part.stop - part.start, *inputs.shape) if shared else inputs
            return self._call(part.parameters, part.buffers, own)
        mapped = vmap(self._call, in_dims=(0, 0, None if shared else 0))
        return mapped(part.parameters, part.buffers, inputs)

    def _call(self, parameters: State, buffers: State, inputs: Tensor) -> Tensor:
        return functional_call(self.module, (parameters, buffers), (inputs,))

    def train(self, mode: bool) -> None:
        """Switch dropout and batch statistics on (training) or off (evaluation)."""
        self.module.train(mode)

    def state_dict(self) -> State:
        """Copies of parameters and buffers, stacked: name -> [R, ...] on the CPU."""
        return {n: t.detach().cpu().clone() for n, t in {**self.parameters, **self.buffers}.items()}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Copy a stacked state in, in place; KeyError or RuntimeError when it does not fit."""
        for name, tensor in {**self.parameters, **self.buffers}.items():
            tensor.copy_(state[name])

    def unchanged(self) -> AbstractContextManager[None]:
        """Nothing: an evaluation changes no network that runs this way."""
        return nullcontext()

    def attributes(self) -> dict:
        """Nothing besides parameters and buffers changes in a network that runs this way."""
        return {}

    def load_attributes(self, state: dict) -> None:
        """See `attributes`."""

    def replica(self, index: int) -> nn.Module:
        """One replica as an ordinary module of its own, on the CPU, in eval mode."""
        module = put(copy.deepcopy(self.module).cpu(), {**self.parameters, **self.buffers}, index)
        return (module if self.direct else give_back(module)).eval()


def stacked(states: list[State], device: torch.device) -> State:
    """Tensors of the same names, each stacked on a leading axis; ModelError where they differ in shape."""
    found = {}
    for name, first in states[0].items():
        each = [state.get(name) for state in states]
        if any(tensor is None or tensor.shape != first.shape for tensor in each):
            raise ModelError(
                f"its replicas differ in shape at {name}: every replica must be the same architecture"
            )
        found[name] = torch.stack([tensor.detach() for tensor in each if tensor is not None])
    return {name: tensor.to(device) for name, tensor in found.items()}


def frozen(modules: Sequence[nn.Module]) -> frozenset[str]:
    """Names of the parameters that the modules do not train; ModelError where they do not agree."""
    each = [
        frozenset(name for name, p in module.named_parameters() if not p.requires_grad)
        for module in modules
    ]
    if any(names != each[0] for names in each):
        raise ModelError("its replicas freeze different parameters")
    return each[0]


@torch.no_grad()
def put(module: nn.Module, state: State, index: int) -> nn.Module:
    """Give a module the parameters and buffers of one replica out of a stacked state, in place.

    By parameter and not by `load_state_dict`: a tied weight has two names there and one here, and a buffer
    that is not persistent has none.
    """
    for prefix, child in module.named_modules():
        for name in [name for name, buffer in child._buffers.items() if buffer is None]:
            full = f"{prefix}.{name}" if prefix else name
            if full in state:  # it came to be while training
                child._buffers[name] = state[full][index].clone()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tensor.copy_(state[name][index])
    return module


def default_stack(family: str, device: torch.device, replicas: int, image: bool = False) -> int:
    """Replicas per pass that is fastest for a family on a device, as benchmarks/training.py measures it.

    On a GPU one stack of all. On a CPU one by one where the family's row says so, else stacks of what
    its caches hold.
    """
    if device.type != "cpu":
        return replicas
    one_by_one = not families.is_own(family) and families.family(family).one_by_one(image)
    return 1 if one_by_one else min(replicas, MOST_ON_CPU)
