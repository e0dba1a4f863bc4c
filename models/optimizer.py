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

    @torch.no_grad()
    def step(self, number: int = 0) -> None:
        """One update of every replica; nothing in it depends on its number."""
        moved = [
            (p, p.grad, s)
            for p, s in zip(self.parameters, self.state, strict=True)
            if p.grad is not None
        ]
        if not moved:
            return
        parameters, gradients, states = map(list, zip(*moved, strict=True))
        if self.config.optimizer == "sgd":
            self._sgd(parameters, gradients, states)
        else:
            self._adam(parameters, gradients, states)

    def _sgd(self, parameters: list[Tensor], gradients: list[Tensor], states: list) -> None:
        buffers = [state.get("momentum_buffer") for state in states]
        sgd(
            parameters,
            gradients,
            buffers,
            fused=True,
            lr=self.lr,  # type: ignore[arg-type]  # a tensor too: the fused kernel takes both
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if self.config.momentum:
            for state, buffer in zip(states, buffers, strict=True):
                state["momentum_buffer"] = buffer

    def _adam(self, parameters: list[Tensor], gradients: list[Tensor], states: list) -> None:
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
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
        for key, tensor in state.items():
            index, _, name = key.partition(".")
            device = self.parameters[int(index)].device
            self.state[int(index)][name] = tensor.to(device, copy=True)
