"""R copies of a module, each with its own parameters, buffers and random state: the way that is always right.

Whatever torch can train, this trains: the modules are called as they are, one after the other. Parameters and
buffers are views of one stacked storage, so that everything else (early stopping, checkpoints, probes) sees
the same tensors [R, ...] as with a stacked cohort. Knows nothing of data, losses or schedules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engram.models import attributes, several, streams
from engram.models.cohort import MOST_CALLS, Part, State, frozen, put, stacked
from engram.models.dropout import Dropout
from engram.models.explain import in_their_code
from engram.models.families import ModelError

ALIGNMENT = 16  # numbers: 64 bytes of float32


class PlainCohort:
    """R modules with the interface of a `Cohort`. reason: why they are not stacked.

    Buffers and parameters may be assigned (`self.mean = ...`) as well as changed in place. What else the modules
    keep is in checkpoints with the rest (attributes.py). moved: whether parameters and buffers are moved into stacked
    storage; one network may be left where it is, to see whether that makes a difference.
    """

    way = "plain"
    stack = 1
    direct = False
    every_step = False  # whether outputs are to be [B, T, C], for a target at each position
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        modules: Sequence[nn.Module],
        device: torch.device,
        reason: str | None = None,
        moved: bool = True,
    ):
        self.replicas, self.device, self.reason = len(modules), device, reason
        self.modules = [module.to(device) for module in modules]
        self.module = self.modules[0]
        self.frozen = frozen(modules)
        self.moved = moved
        self._parameters: State = {}
        self._buffers: State = {}
        self.parameter_count = sum(p.numel() for p in self.module.parameters())
        self.dropouts = [n for n, m in self.module.named_modules() if isinstance(m, Dropout)]
        self._collect()

    @property
    def parameters(self) -> State:
        """Stacked, [R, ...]: views of what the modules hold."""
        self._collect()
        return self._parameters

    @property
    def buffers(self) -> State:
        """Stacked, [R, ...]: views of what the modules hold."""
        self._collect()
        return self._buffers

    @property
    def parts(self) -> list[Part]:
        return [
            Part(r, r + 1, dict(m.named_parameters()), dict(m.named_buffers()))
            for r, m in enumerate(self.modules)
        ]

    @torch.no_grad()
    def _collect(self) -> None:
        """Take in what was assigned since, and make the modules' own tensors views of the stacked ones again."""
        parameters: list[State] = [{**dict(m.named_parameters())} for m in self.modules]
        self._gather("parameter", self._parameters, parameters)
        self._gather("buffer", self._buffers, [dict(m.named_buffers()) for m in self.modules])

    def _gather(self, what: str, kept: State, held: list[dict[str, Tensor]]) -> None:
        for name in [name for name in held[0] if name not in kept]:
            if any(name not in each for each in held):
                raise ModelError(f"its {what} {name} is there in some replicas and not in others")
            together = stacked([{name: each[name]} for each in held], self.device)[name]
            kept[name] = _aligned(together) if self.moved else held[0][name].detach()[None]
        for name, storage in kept.items():
            for index, own in enumerate(held):
                view, tensor = storage[index], own.get(name)
                if tensor is None or tensor.shape != view.shape or tensor.dtype != view.dtype:
                    raise ModelError(
                        f"its {what} {name} changes its shape or type while it is in use: it must keep both, for "
                        "replicas to be saved and compared"
                    )
                if tensor.data_ptr() == view.data_ptr() or not tensor.numel():
                    continue
                if self.moved:
                    view.copy_(tensor)
                    tensor.data = view  # the same object, which the module may know by other names
                else:
                    kept[name] = tensor.detach()[None]

    def split(self, stack: int) -> None:
        """Nothing: there is one replica in a pass."""

    def trained(self) -> list[Tensor]:
        """The stacked parameters that an optimizer may change."""
        return [p for name, p in self.parameters.items() if name not in self.frozen]

    def zero_grad(self) -> None:
        """As torch's optimizers do: a parameter that a step does not use has no gradient."""
        for module in self.modules:
            for parameter in module.parameters():
                parameter.grad = None

    def clip(self, limit: float) -> None:
        """Scale each replica's gradient to a norm of at most `limit`, on its own."""
        for module in self.modules:
            nn.utils.clip_grad_norm_(module.parameters(), limit)

    def set_streams(self, streams: Tensor) -> None:
        """For modules whose dropout was adopted: int32 [layers, R]."""
        for layer, name in enumerate(self.dropouts):
            for replica, module in enumerate(self.modules):
                module.get_submodule(name).get_buffer("stream").copy_(streams[layer, replica])

    def seed(self, part: Part, key: int) -> None:
        """Start the random numbers of one replica's pass: torch's, numpy's and Python's."""
        streams.seed_all(key)

    def forward(self, part: Part, inputs: Tensor, shared: bool = False, turn: int = 0) -> Tensor:
        """Outputs [1, B, ...] of the part's replica; inputs [1, B, ...], or [B, ...] with `shared`."""
        module = self.modules[part.start]
        for name in self.dropouts:
            layer: Any = module.get_submodule(name)
            layer.calls = turn * MOST_CALLS
        own = inputs if shared else inputs[0]
        with in_their_code(type(module), several.said(module, own)):
            return checked(module(own), own, type(module), self.every_step)[None]

    def train(self, mode: bool) -> None:
        """Switch dropout and batch statistics on (training) or off (evaluation)."""
        for module in self.modules:
            module.train(mode)

    def state_dict(self) -> State:
        """Copies of parameters and buffers, stacked: name -> [R, ...] on the CPU."""
        return {n: t.detach().cpu().clone() for n, t in {**self.parameters, **self.buffers}.items()}

    @torch.no_grad()
    def load_state_dict(self, state: State) -> None:
        """Copy a stacked state in; KeyError or RuntimeError when it does not fit."""
        held = {name: tensor.to(self.device) for name, tensor in state.items()}
        for index, module in enumerate(self.modules):
            put(module, held, index)
        self._collect()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Puts back what happens to the modules meanwhile: how often they are evaluated leaves training alone."""
        tensors = {n: t.detach().clone() for n, t in {**self.parameters, **self.buffers}.items()}
        kept = self.attributes()
        yield
        now = {**self.parameters, **self.buffers}
        with torch.no_grad():
            for name, tensor in tensors.items():
                # On a device to compare is to wait.
                if self.device.type != "cpu" or not torch.equal(now[name], tensor):
                    now[name].copy_(tensor)
        for index, before in kept.items():
            after = attributes.of_module(self.modules[int(index)])
            changed = {n: v for n, v in before.items() if not attributes.same(after.get(n), v)}
            attributes.to_module(self.modules[int(index)], changed)

    def attributes(self) -> dict[str, Any]:
        """What the modules keep besides parameters and buffers: {replica: {"module name:attribute": encoded}}."""
        each = {str(r): attributes.of_module(m) for r, m in enumerate(self.modules)}
        return each if any(each.values()) else {}

    def load_attributes(self, state: dict[str, Any]) -> None:
        """Put back what `attributes` gave."""
        for index, kept in state.items():
            attributes.to_module(self.modules[int(index)], kept)

    def replica(self, index: int) -> nn.Module:
        """One replica as an ordinary module of its own, on the CPU, in eval mode."""
        module = attributes.copied(self.modules[index]).cpu()
        return put(module, {**self.parameters, **self.buffers}, index).eval()


def _aligned(tensor: Tensor) -> Tensor:
    """The same [R, ...], each replica's part at the start of a cache line, as a tensor of its own would be.

    Kernels add up in another order elsewhere, and Adam makes steps of such a last digit."""
    count = tensor[0].numel()
    padded = -(-count // ALIGNMENT) * ALIGNMENT
    storage = tensor.new_zeros(len(tensor), max(padded, ALIGNMENT))
    view = storage[:, :count].unflatten(1, tensor.shape[1:]) if tensor.dim() > 1 else storage[:, 0]
    return view.copy_(tensor)


def checked(outputs: Any, inputs: Tensor, cls: type, every_step: bool = False) -> Tensor:
    """The outputs, where they are one row of numbers an example (or a position); ModelError that says what they are instead."""
    where = f"{cls.__module__}:{cls.__qualname__}"
    if not isinstance(outputs, Tensor):
        raise ModelError(f"{where} returns {_said(outputs)}")
    if outputs.is_complex():
        raise ModelError(
            f"{where} returns complex numbers, and a loss needs real ones: .abs() or .real"
        )
    if not outputs.is_floating_point():
        raise ModelError(
            f"{where} returns whole numbers ({outputs.dtype}), and a loss needs floating-point outputs: return the "
            "logits, not argmax"
        )
    if every_step:
        if outputs.dim() != 3 or outputs.shape[:2] != inputs.shape[:2]:
            raise ModelError(
                f"{where} returns outputs of shape {list(outputs.shape)} for tokens {list(inputs.shape)}: return "
                "a row for each position, [B, T, outputs]"
            )
        return outputs
    if outputs.dim() != 2 or len(outputs) != len(inputs):
        fix = "return one row an example, [B, outputs]"
        if outputs.shape == inputs.shape[:1]:
            fix = "return [B, 1]: outputs.unsqueeze(-1)"
        elif outputs.dim() > 2 and len(outputs) == len(inputs):
            fix = "pool or flatten what is left: outputs.mean(1) of a sequence, outputs.flatten(1) of positions"
        raise ModelError(
            f"{where} returns outputs of shape {list(outputs.shape)} for {len(inputs)} examples: {fix}"
        )
    return outputs


def _said(outputs: Any) -> str:
    if isinstance(outputs, dict):
        names = ", ".join(map(str, outputs))
        logits = next((n for n in outputs if n in ("logits", "outputs", "out", "pred")), "logits")
        return f"a dict ({names}), and a loss needs one tensor: return outputs[{logits!r}] from forward"
    if isinstance(outputs, tuple | list):
        return f"a {type(outputs).__name__} of {len(outputs)}, and a loss needs one tensor: return the logits alone"
    if hasattr(outputs, "logits"):
        return f"{type(outputs).__name__}, and a loss needs one tensor: return outputs.logits from forward"
    return f"{type(outputs).__name__}, and a loss needs one tensor [B, outputs]"
