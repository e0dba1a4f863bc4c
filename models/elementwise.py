"""Whether an optimizer on stacked parameters [R, ...] is R independent ones: tried, where no table says so.

A few steps on the parameters' own shapes, with gradients whose size differs from replica to replica and from step
to step over twelve orders of magnitude, so that whatever looks at a norm, a shape or a count of numbers shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from engram.models import streams
from engram.models.families import ModelError

STEPS = 5
NEAR = 1e-5  # relative: of float32 sums in another order
Make = Callable[[list[Tensor]], Any]  # parameters -> an optimizer with step(number)


def tried(make: Make, parameters: Sequence[Tensor]) -> bool:
    """Whether one optimizer for all replicas does what one for each would; parameters [R, ...], which stay as they are.

    The first, the second and the last replica are compared. What is random in it, or fails on stacks, is not."""
    replicas = len(parameters[0]) if parameters else 0
    looked_at = sorted({0, min(1, replicas - 1), replicas - 1})
    whole = [parameter.detach().clone() for parameter in parameters]
    alone = {index: [p.detach()[index].clone() for p in parameters] for index in looked_at}
    generator = torch.Generator().manual_seed(streams.key("elementwise"))
    sizes = 10.0 ** torch.randint(-6, 4, (STEPS, replicas), generator=generator)
    try:
        one, each = make(whole), {index: make(alone[index]) for index in looked_at}
        for step in range(STEPS):
            _gradients(whole, alone, sizes[step], generator, missing=step == 2)
            streams.seed_all(streams.key("elementwise", step))
            one.step(step)
            for index in looked_at:
                streams.seed_all(streams.key("elementwise", step, index))
                each[index].step(step)
    except ModelError:
        return False  # where it fails for a replica by itself too, training says so
    return all(
        torch.allclose(tensor[index], own, rtol=NEAR, atol=NEAR * float(own.abs().max()))
        for index in looked_at
        for tensor, own in zip(whole, alone[index], strict=True)
    )


def _gradients(
    whole: list[Tensor],
    alone: dict[int, list[Tensor]],
    sizes: Tensor,
    generator: torch.Generator,
    missing: bool,
) -> None:
    """The same gradients for the stack and for each replica; missing: the first parameter has none."""
    for number, tensor in enumerate(whole):
        if missing and number == 0:
            gradient = None
        else:
            drawn = torch.randn(tensor.shape, generator=generator)
            drawn = drawn * sizes.view(-1, *[1] * (tensor.dim() - 1))
            gradient = drawn.to(tensor.device, tensor.dtype)
        tensor.grad = gradient
        for index, own in alone.items():
            own[number].grad = None if gradient is None else gradient[index].clone()
