"""Outputs and scores of a cohort on examples, in eval mode, in pieces that bound memory.

Sees a cohort and arrays; knows nothing of optimizers, steps or what the numbers are for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from engram.models.cohort import Cohort, Part
from engram.models.examples import Examples
from engram.models.losses import NONE, by_token, example_losses
from engram.models.plain import PlainCohort

EVALUATION_FLOATS = 2**22  # activations per evaluation pass: bounds memory, not results
# Examples per evaluation pass on a CPU, over all its replicas, and at least of each: what its caches like best.
CPU_EXAMPLES, CPU_EXAMPLES_OF_EACH = 2048, 128

Networks = Cohort | PlainCohort
Seed = Callable[[Part], int]  # the key of what is random in one replica's evaluation


class Evaluation:
    """Passes of a cohort over examples. example: inputs [1, ...] of the data, for what a pass takes."""

    def __init__(self, cohort: Networks, example: Tensor):
        self.cohort, self.example, self.device = cohort, example, cohort.device

    @torch.no_grad()
    def scores(self, examples: Examples, members: Tensor | None, seed: Seed) -> Tensor:
        """Mean error and loss [2, R], on the device; members [R, m]: each replica on its own examples, None: on all."""
        kind = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no doubles
        total = torch.zeros(2, self.cohort.replicas, dtype=kind, device=self.device)
        count: Tensor | int = len(examples) if members is None else members.shape[1]
        if examples.every_step:
            count = torch.zeros_like(total[0])
        for part, outputs, index in self._passes(examples, members, seed):
            targets = examples.targets[index]
            if members is None:
                targets = targets.expand(outputs.shape[0], *targets.shape)
            outputs, targets = by_token(outputs, targets)
            there: Tensor | None = None
            if examples.every_step:  # a position without a target counts nowhere
                there, targets = targets != NONE, targets.clamp(min=0)
            losses = example_losses(outputs, targets)
            wrong = losses
            if examples.classification:
                wrong = (outputs.argmax(-1) != targets).float()
            elif examples.labels:
                wrong = ((outputs > 0) != targets).float().mean(2)
            if there is not None:
                wrong, losses = wrong.where(there, 0), losses.where(there, 0)
                count[part.replicas] += there.sum(1)  # type: ignore[index]  # a tensor then
            total[:, part.replicas] += torch.stack([wrong.sum(1), losses.sum(1)])
        return total / count

    @torch.no_grad()
    def outputs(self, inputs: Tensor, kept: Callable[[Tensor], Tensor], seed: Seed) -> Tensor:
        """What is kept of the outputs [r, b, C] of each pass, put together: [R, N, ...]."""
        inputs = inputs.to(self.device)
        examples = Examples(inputs, inputs)  # targets play no part
        pieces: dict[int, list[Tensor]] = {}
        for part, outputs, _ in self._passes(examples, None, seed):
            pieces.setdefault(part.start, []).append(kept(outputs))
        return torch.cat([torch.cat(piece, 1) for _, piece in sorted(pieces.items())])

    def _passes(
        self, examples: Examples, members: Tensor | None, seed: Seed
    ) -> Iterator[tuple[Part, Tensor, Tensor | slice]]:
        """(part, outputs [r, b, C], index of the examples) over pieces that bound memory."""
        cohort = self.cohort
        count = len(examples) if members is None else members.shape[1]
        cohort.train(False)
        with cohort.unchanged():
            for part in cohort.parts:
                size = self._examples_at_once(part)
                # What is random in evaluation too begins anew, so that one evaluation is as another.
                cohort.seed(part, seed(part))
                for start in range(0, count, size):
                    piece = slice(start, start + size)
                    index = piece if members is None else members[part.replicas, piece]
                    inputs = examples.inputs[index]
                    if members is None and not cohort.direct:
                        inputs = inputs.clone()  # a person's network may work on them in place
                    outputs = cohort.forward(part, inputs, shared=members is None)
                    yield part, outputs.float(), index
        cohort.train(True)

    def _examples_at_once(self, part: Part) -> int:
        """Examples of each of a part's replicas in one pass."""
        replicas = part.stop - part.start
        if self.device.type == "cuda":
            # By all replicas, not by the part's: a stack halved for want of memory takes half of it.
            return max(1, _floats_on(self.device) // (self._floats * self.cohort.replicas))
        size = max(1, EVALUATION_FLOATS // (max(self.example.numel(), 256) * replicas))
        if self.device.type == "cpu":
            size = min(size, max(CPU_EXAMPLES // replicas, CPU_EXAMPLES_OF_EACH))
        return size

    @functools.cached_property
    def _floats(self) -> int:
        """Numbers that a pass holds of one example of one replica: the largest that it makes, three times."""
        part = self.cohort.parts[0]
        with _Largest() as largest:
            self.cohort.forward(part, self.example.clone(), shared=True)
        return max(256, 3 * largest.numbers // (part.stop - part.start))


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
