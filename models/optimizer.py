"""SGD, Adam and AdamW of torch on stacked parameters: elementwise, so R independent optimizers in one.

Their functional forms with fused kernels. The optimizer classes around them do the same arithmetic and import torch's
compiler: over a second in each process, for nothing. Other optimizers are in optimizers.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from engram.models.config import TrainingConfig
from engram.models.families import ModelError

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam: Kingma & Ba 2015; torch's defaults
LINE = 64  # bytes that a kernel takes at a time; torch's own chunks are whole ones
KNOWN = ("sgd", "adam", "adamw")


class Optimizer:
    """Updates parameters in place from their gradients; one without a gradient stays as it is.

    `lr` may be set between steps, to a number or to a tensor that a recorded step reads. `state` holds, for each parameter, tensors under the names that torch's optimizer
    classes give them: step, exp_avg and exp_avg_sq, or momentum_buffer; empty before the first step.
    """

    way = "stacked"

    def __init__(self, parameters: list[Tensor], config: TrainingConfig):
        if config.optimizer not in KNOWN:
            raise ModelError(
                f"training.optimizer = {config.optimizer!r} is none of {', '.join(KNOWN)}"
            )
        self.parameters, self.config = parameters, config
        self.lr: float | Tensor = config.lr
        self.state: list[dict[str, Tensor]] = [{} for _ in parameters]
        self._pieces: list[_Pieces | None] = [None] * len(parameters)

    @torch.no_grad()
    def step(self, number: int = 0) -> None:
        """One update of every replica; nothing in it depends on its number."""
        moved = [
            (self._pieces_of(index), parameter.grad)
            for index, parameter in enumerate(self.parameters)
            if parameter.grad is not None
        ]
        if not moved:
            return
        each = [one for pieces, gradient in moved for one in pieces.with_gradient(gradient)]
        parameters, gradients, states = map(list, zip(*each, strict=True))
        if self.config.optimizer == "sgd":
            self._sgd(parameters, gradients, states)
        else:
            self._adam(parameters, gradients, states)
        for pieces, _ in moved:
            pieces.put_back()

    def _pieces_of(self, index: int) -> _Pieces:
        parameter, state, pieces = self.parameters[index], self.state[index], self._pieces[index]
        if pieces is None or pieces.address != parameter.data_ptr():
            for name in self._kept() if not state else ():
                state[name] = _with_room(parameter)
            if self.config.optimizer != "sgd" and "step" not in state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            pieces = self._pieces[index] = _Pieces(parameter, state)
        return pieces

    def _kept(self) -> tuple[str, ...]:
        """What it keeps of each number."""
        if self.config.optimizer == "sgd":
            return ("momentum_buffer",) if self.config.momentum else ()
        return "exp_avg", "exp_avg_sq"

    def _sgd(self, parameters: list[Tensor], gradients: list[Tensor], states: list) -> None:
        sgd(
            parameters,
            gradients,
            [state.get("momentum_buffer") for state in states],
            fused=True,
            lr=self.lr,  # type: ignore[arg-type]  # a tensor too: the fused kernel takes both
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _adam(self, parameters: list[Tensor], gradients: list[Tensor], states: list) -> None:
        adam(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            decoupled_weight_decay=self.config.optimizer == "adamw",
            amsgrad=False,
            beta1=BETA1,
            beta2=BETA2,
            lr=self.lr,
            weight_decay=self.config.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    @property
    def bytes(self) -> int:
        """Of its state."""
        return sum(tensor.nbytes for state in self.state for tensor in state.values())

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU: "0.exp_avg" is the exp_avg of the first parameter."""
        return {
            f"{index}.{name}": tensor.detach().cpu().clone()
            for index, state in enumerate(self.state)
            for name, tensor in state.items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state made by `state_dict`; IndexError where it is of other parameters."""
        self.state = [{} for _ in self.parameters]
        self._pieces = [None] * len(self.parameters)
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            parameter = self.parameters[int(index)]
            if name == "step":
                self.state[int(index)][name] = tensor.to(parameter.device, copy=True)
            else:
                self.state[int(index)][name] = _with_room(parameter).copy_(tensor)


class _Pieces:
    """A parameter and its state as a kernel takes them, so that a number moves alike wherever it stands.

    The fused kernels of a CPU take lines of 64 bytes, and what remains at a tensor's end number by number, with other
    roundings. Where a tensor ends depends on how many replicas are stacked in it: the remainder is moved in a line of
    its own, and replica k is the same network in any company."""

    def __init__(self, parameter: Tensor, state: dict[str, Tensor]):
        self.address = parameter.data_ptr()
        line = LINE // parameter.element_size()
        rest = parameter.numel() % line
        lined = rest and parameter.device.type == "cpu" and parameter.is_contiguous()
        self.end = parameter.numel() - rest if lined else None
        if self.end is None:
            self.whole = (parameter, state)
            return
        flat = parameter.detach().view(-1)
        self.rest, self.line, self.gradient = (
            flat[self.end :],
            flat.new_zeros(line),
            flat.new_zeros(line),
        )
        self.body = flat[: self.end]
        kept = {name: tensor for name, tensor in state.items() if tensor.dim()}
        counted = {name: tensor for name, tensor in state.items() if not tensor.dim()}
        in_line = {n: t.as_strided((line,), (1,), self.end) for n, t in kept.items()}
        if self.end:
            in_body = {n: t.view(-1)[: self.end] for n, t in kept.items()}
            self.states = in_body | counted, in_line | {n: t.clone() for n, t in counted.items()}
        else:
            self.states = {}, in_line | counted

    def with_gradient(self, gradient: Tensor) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """(numbers, their gradient, their state) of each piece; `put_back` once they are moved."""
        if self.end is None:
            return [(self.whole[0], gradient, self.whole[1])]
        gradient = gradient.reshape(-1)
        self.line[: len(self.rest)] = self.rest
        self.gradient[: len(self.rest)] = gradient[self.end :]
        pieces = [(self.line, self.gradient, self.states[1])]
        if self.end:
            pieces.append((self.body, gradient[: self.end], self.states[0]))
        return pieces

    def put_back(self) -> None:
        if self.end is not None:
            self.rest.copy_(self.line[: len(self.rest)])


def _with_room(parameter: Tensor) -> Tensor:
    """Zeros like it, whose storage ends with a whole line."""
    if not parameter.is_contiguous():
        return torch.zeros_like(parameter)
    line = LINE // parameter.element_size()
    lines = -(-parameter.numel() // line)
    return parameter.detach().new_zeros(lines * line)[: parameter.numel()].view(parameter.shape)
