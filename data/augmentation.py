"""Random changes of the training examples at each use, as pure functions of given uniforms.

The caller owns the random streams (one per replica) and hands the numbers over, so the result is
the same on every device and for a replica alone or in company. Inputs are [R, B, ...example];
uniforms u are [R, B, K] in [0, 1), K = uniforms(example shape).
"""

from __future__ import annotations

import importlib
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from engram.data.config import AUGMENTATION_KINDS
from engram.data.subsets import wrong_kind


class Augmentation(Protocol):
    """A random change of examples."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        """How many uniforms one example of this shape needs."""
        ...

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """inputs [R, B, ...], u [R, B, K] -> changed inputs of the same shape and type.

        Where targets are mixed too, with the share [R, B] of each example's own."""
        ...


def get(name: str, kind: str) -> Augmentation | None:
    """The augmentation of this name; None for "none". DataError where the kind does not fit."""
    if name == "none":
        return None
    if ":" in name:
        return Own(name)
    if kind not in AUGMENTATION_KINDS[name]:
        raise wrong_kind(name, kind)
    return _BY_NAME[name]()


class Shift:
    """Sequences: turned in a circle by up to a tenth of the length, either way."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 1

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        length = inputs.shape[-1]
        reach = max(1, length // 10)
        step = _whole(u[..., 0], 2 * reach + 1) - reach  # [R, B] in -reach..reach
        place = torch.arange(length, device=inputs.device) - step[..., None]  # [R, B, T]
        index = _like(place % length, inputs, trailing=1).expand(inputs.shape)
        return inputs.gather(-1, index)


class Scale:
    """Sequences: multiplied by a factor between 0.8 and 1.2, as MNIST-1D's own templates are."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 1

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        factor = (0.8 + 0.4 * u[..., 0]).to(inputs.dtype)  # [R, B]
        return inputs * _like(factor, inputs, trailing=0)


class Noise:
    """Any kind: normal noise of standard deviation 0.1 on every value."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        # Inverse of the normal distribution; the ends are kept off so that u = 0 stays finite.
        inside = u.clamp(2**-24, 1 - 2**-24)
        normal = math.sqrt(2) * torch.erfinv(2 * inside - 1)
        return inputs + 0.1 * normal.reshape(inputs.shape).to(inputs.dtype)


class Flip:
    """Images: left and right exchanged with probability one half."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 1

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        turned = _like(u[..., 0] < 0.5, inputs, trailing=0)
        return torch.where(turned, inputs.flip(-1), inputs)


class Crop:
    """Images: moved by up to an eighth of the side in each direction, zeros coming in."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 2

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        for axis, uniform in ((-2, u[..., 0]), (-1, u[..., 1])):
            inputs = self._move(inputs, uniform, axis)
        return inputs

    @staticmethod
    def _move(inputs: Tensor, uniform: Tensor, axis: int) -> Tensor:
        side = inputs.shape[axis]
        reach = max(1, math.ceil(side / 8))
        step = _whole(uniform, 2 * reach + 1) - reach  # [R, B]
        place = torch.arange(side, device=inputs.device) + step[..., None]  # [R, B, side]
        inside = _like((place >= 0) & (place < side), inputs, trailing=1)
        index = _like(place.clamp(0, side - 1), inputs, trailing=1)
        if axis == -2:  # [R, B, .., 1, H] -> [R, B, .., H, 1]
            inside, index = inside.transpose(-1, -2), index.transpose(-1, -2)
        return inputs.gather(axis, index.expand(inputs.shape)) * inside


class Cutout:
    """Images: a square of a quarter of the shorter side set to zero, anywhere, cut at the edges."""

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 2

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        height, width = inputs.shape[-2:]
        size = max(1, min(height, width) // 4)
        rows = self._covered(u[..., 0], height, size)[..., :, None]  # [R, B, H, 1]
        columns = self._covered(u[..., 1], width, size)[..., None, :]  # [R, B, 1, W]
        return inputs.masked_fill(_like(rows & columns, inputs, trailing=2), 0.0)

    @staticmethod
    def _covered(uniform: Tensor, side: int, size: int) -> Tensor:
        first = _whole(uniform, side)[..., None] - size // 2  # [R, B, 1]
        place = torch.arange(side, device=uniform.device)
        return (place >= first) & (place < first + size)


class Mixup:
    """Any kind: each example mixed with the next of its batch, by a share drawn evenly from 0 to 1.

    Gives the mixed inputs and the share [R, B] of each example's own target; the next one's is the rest.
    Source: Zhang et al. 2018, arXiv:1710.09412, with alpha = 1 and a share for each example.
    """

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 1

    def __call__(self, inputs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        share = u[..., 0].to(inputs.dtype)  # [R, B]
        own = _like(share, inputs, trailing=0)
        return own * inputs + (1 - own) * inputs.roll(-1, 1), share


class Own:
    """A person's function(inputs [B, ...]) -> inputs, called replica by replica.

    Torch's random state is set anew before each call, from the replica's own uniforms, and put back after it."""

    on_host = True  # wants its uniforms there: to read them from a device is to wait for it

    def __init__(self, path: str) -> None:
        module, _, attribute = path.partition(":")
        self.path = path
        self.function: Any = importlib.import_module(module)
        for part in attribute.split("."):
            self.function = getattr(self.function, part)

    def uniforms(self, shape: tuple[int, ...]) -> int:
        return 2

    def __call__(self, inputs: Tensor, u: Tensor) -> Tensor:
        changed = []
        with torch.random.fork_rng():
            for own, numbers in zip(inputs, u, strict=True):
                high, low = (int(n * 2**24) for n in numbers[0].tolist())
                torch.manual_seed((high << 24) | low)
                found = self.function(own)
                if not isinstance(found, Tensor) or found.shape != own.shape:
                    said = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                    raise ValueError(
                        f"data.augmentation = {self.path} gives {said} for inputs {list(own.shape)}: "
                        "it is to keep their shape"
                    )
                changed.append(found.to(own.dtype))
        return torch.stack(changed)


def _whole(u: Tensor, count: int) -> Tensor:
    """Uniforms in [0, 1) -> whole numbers in 0..count-1, were the product to round up."""
    return (u * count).long().clamp(max=count - 1)


def _like(values: Tensor, inputs: Tensor, trailing: int) -> Tensor:
    """[R, B, *trailing axes] -> the same with ones between, to broadcast against the inputs."""
    ones = (1,) * (inputs.dim() - values.dim())
    lead = values.dim() - trailing
    return values.reshape(values.shape[:lead] + ones + values.shape[lead:])


_BY_NAME: dict[str, type] = {
    "shift": Shift,
    "scale": Scale,
    "noise": Noise,
    "flip": Flip,
    "crop": Crop,
    "cutout": Cutout,
    "mixup": Mixup,
}
assert set(_BY_NAME) == set(AUGMENTATION_KINDS) - {"none"}
