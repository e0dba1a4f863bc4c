"""Residual networks over sequences and images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from engram.models.convolutional import PADDING, Convolution1d, Convolution2d
from engram.models.dropout import Dropout
from engram.models.feedforward import ACTIVATIONS, Linear

NORMS = ("group", "batch", "none")
MOST_GROUPS = 8


class GroupNorm(nn.GroupNorm):
    """Group normalization that takes stacked parameters as they are: [R, B, C, ...] with weights [R, C].

    Source: Wu & He 2018, arXiv:1803.08494."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(inputs)
        plain = functional.group_norm(inputs.flatten(0, 1), self.num_groups, eps=self.eps)
        shape = (len(inputs), 1, -1, *[1] * (inputs.dim() - 3))  # [R, 1, C, 1, ...]
        return plain.view_as(inputs) * self.weight.view(shape) + self.bias.view(shape)


def normalization(norm: str, channels: int, image: bool) -> nn.Module:
    """A layer between convolutions: groups of at least two channels, at most MOST_GROUPS of them."""
    if norm == "group":
        fitting = [g for g in range(1, MOST_GROUPS + 1) if channels % g == 0 and channels // g > 1]
        return GroupNorm(max(fitting, default=1), channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels) if image else nn.BatchNorm1d(channels)
    return nn.Identity()


class Block(nn.Module):
    """Two convolutions around which the input is handed on: norm, activation, convolution, twice.

    Where sides halve and channels double, what is handed on is every second position, with zeros for the new channels.
    Source: He et al. 2016, arXiv:1603.05027 (the order); arXiv:1512.03385, option A (the shortcut)."""

    def __init__(
        self,
        inward: int,
        width: int,
        stride: int,
        activation: str,
        dropout: float,
        norm: str,
        image: bool,
    ):
        super().__init__()
        convolution = Convolution2d if image else Convolution1d
        self.stride, self.more, self.sides = stride, width - inward, 2 if image else 1
        self.first = nn.Sequential(
            normalization(norm, inward, image),
            ACTIVATIONS[activation](),
            convolution(inward, width, 3, stride, padding=PADDING),
        )
        self.second = nn.Sequential(
            normalization(norm, width, image),
            ACTIVATIONS[activation](),
            Dropout(dropout) if dropout > 0 else nn.Identity(),
            convolution(width, width, 3, 1, padding=PADDING),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., B, C, sides..] -> [..., B, C', sides..]."""
        handed = inputs
        if self.stride > 1:
            handed = handed[..., :: self.stride]
            if self.sides == 2:
                handed = handed[..., :: self.stride, :]
        if self.more:
            handed = functional.pad(handed, (0, 0) * self.sides + (0, self.more))
        return handed + self.second(self.first(inputs))


class Residual(nn.Module):
    """`depth` residual blocks in `stages`, `width` channels in the first; then the mean over positions, and a read-out.

    Each further stage halves the sides and doubles the channels, while the input allows. Over [T] or [C, T] inputs
    convolutions are one-dimensional, over [H, W] or [C, H, W] two-dimensional. norm: group, batch (statistics of
    each replica's own batches, so its replicas run one by one) or none.
    inputs [B, ...shape] -> [B, outputs]; stacked, [R, B, ...shape] -> [R, B, outputs].
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 16,
        depth: int = 3,
        activation: str = "relu",
        dropout: float = 0.0,
        image: bool = False,
        norm: str = "group",
        stages: int = 3,
    ):
        super().__init__()
        sides = 2 if image else 1
        if len(shape) not in (sides, sides + 1):
            raise ValueError(
                f"model.family = residual: needs inputs of {sides} or {sides + 1} axes, not {shape}"
            )
        if norm not in NORMS:
            raise ValueError(f"model.options.norm = {norm!r} is none of {', '.join(NORMS)}")
        if isinstance(stages, bool) or not isinstance(stages, int) or stages < 1:
            raise ValueError(f"model.options.stages = {stages!r} is no whole number from 1 on")
        # Batch statistics are of one network's batch: see `takes_stacked_parameters` in models/cohort.py.
        self.takes_stacked_parameters = norm != "batch"
        self.axes, self.channels = len(shape), shape[0] if len(shape) == sides + 1 else 1
        self.size = tuple(shape[-sides:])
        convolution = Convolution2d if image else Convolution1d
        self.stem = convolution(self.channels, width, 3, 1, padding=PADDING)
        blocks: list[nn.Module] = []
        channels, side, per_stage = width, min(self.size), -(-depth // stages)
        for number in range(depth):
            halves = number > 0 and number % per_stage == 0 and side >= 4
            wider = 2 * channels if halves else channels
            blocks.append(Block(channels, wider, 1 + halves, activation, dropout, norm, image))
            channels, side = wider, -(-side // 2) if halves else side
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(normalization(norm, channels, image), ACTIVATIONS[activation]())
        self.readout = Linear(channels, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.flatten(-self.axes).unflatten(-1, (self.channels, *self.size))
        hidden = self.last(self.blocks(self.stem(inputs)))
        return self.readout(hidden.flatten(-len(self.size)).mean(-1))
