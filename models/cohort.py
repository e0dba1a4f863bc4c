"""R replicas of one network, stacked on a leading axis.

The state (parameters, buffers, gradients) is always stored stacked, [R, ...], so a stock elementwise
optimizer on it *is* R independent optimizers, and a checkpoint looks the same however the replicas
were run. Only the forward and backward passes are cut in parts: one part of R replicas (vmap), several
of fewer, or one replica at a time (the plain module, with torch's fused recurrent kernels).
This file knows nothing of data, losses or schedules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from engram.models import families
from engram.models.dropout import Dropout
from engram.models.families import is_own
from engram.models.recurrent import Recurrent

State = dict[str, Tensor]
MOST_ON_CPU = 32  # replicas in one pass: more outgrow its caches


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


class Cohort:
    """The stacked networks of one trial.

    modules: R networks of one architecture, each with its own initialization.
    stack: replicas per pass; None: all when they can be stacked, else one.
    Attributes: `parameters`, `buffers` (name -> [R, ...]), `replicas`, `stack`, `unstackable` (the
    reason why only one at a time is possible, or None), `parameter_count` (of one replica).
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        device: torch.device,
        stack: int | None = None,
        example: Tensor | None = None,
    ):
        self.replicas = len(modules)
        self.device = device
        # Stacked where the modules are, and moved once: the first one is moved only afterwards.
        self.parameters = self._stacked([dict(m.named_parameters()) for m in modules])
        self.buffers = self._stacked([dict(m.named_buffers()) for m in modules])
        self.module = modules[0].to(device)
        self.parameter_count = sum(p.numel() for p in modules[0].parameters())
        self.dropouts = [n for n, m in self.module.named_modules() if isinstance(m, Dropout)]
        self.direct = getattr(self.module, "takes_stacked_parameters", False)
        self.unstackable = None if example is None else self._refusal(example.to(device))
        self.split(1 if self.unstackable else stack or self.replicas)

    def _stacked(self, states: list[dict[str, Tensor]]) -> State:
        return {
            name: torch.stack([state[name].detach() for state in states]).to(self.device)
            for name in states[0]
        }

    def split(self, stack: int) -> None:
        """Run at most `stack` replicas in one pass from now on; nothing else changes."""
        self.stack = max(1, min(stack, self.replicas))
        for module in self.module.modules():
            if isinstance(module, Recurrent):
                module.fused = self.stack == 1
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        if self.stack == self.replicas and self.replicas > 1:
            for parameter in self.parameters.values():
                parameter.requires_grad_(True)
            self.parts = [Part(0, self.replicas, self.parameters, self.buffers)]
            return
        # Leaves are views of the storage, and their gradients views of one stacked gradient.
        for parameter in self.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        starts = range(0, self.replicas, self.stack)
        self.parts = [self._part(start, min(start + self.stack, self.replicas)) for start in starts]

    def _part(self, start: int, stop: int) -> Part:
        index: slice | int = start if self.stack == 1 else slice(start, stop)
        leaves = {}
        for name, parameter in self.parameters.items():
            leaf = parameter[index].detach().requires_grad_(True)
            assert parameter.grad is not None
            leaf.grad = parameter.grad[index]
            leaves[name] = leaf
        return Part(
            start, stop, leaves, {name: buffer[index] for name, buffer in self.buffers.items()}
        )

    def zero_grad(self) -> None:
        """Forget gradients: dropped where one part owns them, zeroed in place where parts share them."""
        for parameter in self.parameters.values():
            if parameter.requires_grad:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def set_streams(self, streams: Tensor) -> None:
        """Give each dropout layer its streams for one step: int32 [layers, R]."""
        for layer, name in enumerate(self.dropouts):
            self.buffers[f"{name}.stream" if name else "stream"].copy_(streams[layer])

    def forward(self, part: Part, inputs: Tensor, shared: bool = False) -> Tensor:
        """Outputs [r, B, ...] of the part's r replicas.

        inputs: [r, B, ...], each replica its own batch; or [B, ...] with `shared`, all the same.
        """
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

    def replica(self, index: int) -> nn.Module:
        """One replica as an ordinary module of its own, on the CPU."""
        import copy

        module = copy.deepcopy(self.module).cpu()
        state = {**self.parameters, **self.buffers}
        module.load_state_dict({n: state[n][index].detach().cpu() for n in module.state_dict()})
        return module.eval()

    def _refusal(self, example: Tensor) -> str | None:
        """Why the module cannot be stacked, found by trying: None when stacked and single runs agree.

        example: a batch [B, ...]. Module-wide state (batch statistics) and randomness that is not
        the replica's own both show here.
        """
        count = min(2, self.replicas)
        parameters = {n: p[:count].detach() for n, p in self.parameters.items()}
        buffers = {n: b[:count].clone() for n, b in self.buffers.items()}
        inputs = example.expand(count, *example.shape)
        self.module.train(True)
        try:
            with torch.no_grad():
                stacked = vmap(self._call)(parameters, buffers, inputs)
                for index in range(count):
                    own = {n: b[index].clone() for n, b in self.buffers.items()}
                    its = {n: p[index] for n, p in parameters.items()}
                    alone = self._call(its, own, inputs[index])
                    if not torch.allclose(
                        stacked[index], alone, rtol=1e-3, atol=1e-4, equal_nan=True
                    ):
                        return "stacked and single passes disagree"
                    if any(not torch.equal(own[n], buffers[n][index]) for n in own):
                        return "its buffers change differently when stacked"
        except (RuntimeError, ValueError, NotImplementedError) as error:
            return str(error).strip().splitlines()[0]
        return None


def default_stack(family: str, device: torch.device, replicas: int, image: bool = False) -> int:
    """Replicas per pass that is fastest for a family on a device, as benchmarks/training.py measures it.

    On a GPU one stack of all. On a CPU one by one where the family's row says so, else stacks of what
    its caches hold.
    """
    if device.type != "cpu":
        return replicas
    one_by_one = not is_own(family) and families.family(family).one_by_one(image)
    return 1 if one_by_one else min(replicas, MOST_ON_CPU)
