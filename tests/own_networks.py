"""Networks as people write them, each for one thing that training many at once may get wrong.

Every class takes (shape, outputs, ...), as the product asks; shape is (16,), or (1, 8, 8) for images.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Perceptron(nn.Module):
    def __init__(self, shape, outputs, width=12):
        super().__init__()
        self.first = nn.Linear(shape[0], width)
        self.last = nn.Linear(width, outputs)

    def hidden(self, x):
        return torch.tanh(self.first(x))

    def forward(self, x):
        return self.last(self.hidden(x))


class Residual(nn.Module):
    """A block of two convolutions, with a norm of any kind."""

    def __init__(self, shape, outputs, width=4, groups=0):
        super().__init__()
        norm = (lambda c: nn.GroupNorm(groups, c)) if groups else nn.BatchNorm2d
        self.stem = nn.Conv2d(shape[0], width, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(norm(width) for _ in range(3))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in "ab"
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        h = F.relu(self.norms[0](self.stem(x)))
        inner = F.relu(self.norms[1](self.convolutions[0](h)))
        h = F.relu(h + self.norms[2](self.convolutions[1](inner)))
        return self.head(h.mean((2, 3)))


class GroupNormed(Residual):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs, groups=2)


class BatchNormed(Perceptron):
    def __init__(self, shape, outputs, width=12):
        super().__init__(shape, outputs, width)
        self.norm = nn.BatchNorm1d(width)

    def hidden(self, x):
        return F.relu(self.norm(self.first(x)))


class FunctionalDropout(Perceptron):
    def __init__(self, shape, outputs, dropout=0.3):
        super().__init__(shape, outputs)
        self.rate = dropout

    def hidden(self, x):
        return F.dropout(super().hidden(x), self.rate, self.training)


class OneDropout(Perceptron):
    """One layer of dropout called at two places."""

    def __init__(self, shape, outputs, dropout=0.5):
        super().__init__(shape, outputs)
        self.middle = nn.Linear(12, 12)
        self.drop = nn.Dropout(dropout)

    def hidden(self, x):
        return self.drop(torch.tanh(self.middle(self.drop(super().hidden(x)))))


class DropoutInTime(nn.Module):
    """A cell unrolled by hand, the same dropout at each step."""

    def __init__(self, shape, outputs, dropout=0.4):
        super().__init__()
        self.cell = nn.Linear(1 + 8, 8)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        h = x.new_zeros(len(x), 8)
        for value in x[:, :6].unbind(1):
            h = self.drop(torch.tanh(self.cell(torch.cat([value[:, None], h], 1))))
        return self.last(h)


class Frozen(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.first.requires_grad_(False)


class Checkpointed(Perceptron):
    reentrant = False

    def __init__(self, shape, outputs, dropout=0.0):
        super().__init__(shape, outputs)
        self.block = nn.Sequential(
            nn.Linear(12, 12), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 12)
        )

    def hidden(self, x):
        return checkpoint(self.block, super().hidden(x), use_reentrant=self.reentrant)


class CheckpointedAgain(Checkpointed):
    reentrant = True


class CheckpointedDropout(Checkpointed):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs, dropout=0.4)


class AssignedBuffer(Perceptron):
    """A running normaliser whose state is assigned, not changed in place."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("mean", torch.zeros(shape[0]))

    def hidden(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return super().hidden(x - self.mean)


class LateBuffer(Perceptron):
    """A buffer that is nothing until the first batch."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("scale", None)

    def hidden(self, x):
        if self.scale is None:
            self.scale = x.abs().mean(0)
        return super().hidden(x / self.scale)


class GrowingBuffer(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("seen", torch.zeros(0, shape[0]))

    def hidden(self, x):
        if self.training:
            self.seen = torch.cat([self.seen, x[:1]])
        return super().hidden(x)


class ManyBuffers(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("mask", torch.rand(12) > 0.2)
        self.register_buffer("order", torch.randperm(12))
        self.register_buffer("kept_out", torch.ones(12), persistent=False)
        self.register_buffer("nothing", None)

    def hidden(self, x):
        return (super().hidden(x) * self.mask * self.kept_out)[:, self.order]


class RandomAttribute(Perceptron):
    """Random features as an ordinary attribute: each replica has its own."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.features = torch.randn(shape[0], shape[0])

    def hidden(self, x):
        return super().hidden(x @ self.features)


class Counter(Perceptron):
    """A number that grows as it trains, and matters."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.steps = 0

    def hidden(self, x):
        self.steps += self.training
        return super().hidden(x) * min(1.0, self.steps / 15)


class Tied(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.a, self.b = nn.Linear(12, 12, bias=False), nn.Linear(12, 12, bias=False)
        self.b.weight = self.a.weight

    def hidden(self, x):
        return torch.tanh(self.b(torch.tanh(self.a(super().hidden(x)))))


class Hooked(Perceptron):
    """A hook that changes what a layer gives, and one that changes a gradient."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.first.register_forward_hook(lambda module, inputs, found: found * 0.5)
        self.last.weight.register_hook(lambda gradient: gradient * 2)


class WeightNormed(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.first = parametrizations.weight_norm(self.first)


class OldWeightNormed(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.first = nn.utils.weight_norm(self.first)


class SpectralNormed(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.first = parametrizations.spectral_norm(self.first)


class Branching(Perceptron):
    def hidden(self, x):
        h = super().hidden(x)
        return h * 2 if h.mean() > 0 else h


class Unused(Perceptron):
    """A branch that is not always taken: its parameters have no gradient then, and do not decay."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.spare = nn.Linear(12, 12)


class Lazy(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.first, self.last = nn.LazyLinear(12), nn.LazyLinear(outputs)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Attention(nn.Module):
    def __init__(self, shape, outputs, width=8, heads=2, dropout=0.0):
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.layer = nn.TransformerEncoderLayer(width, heads, 16, dropout, batch_first=True)
        self.head = nn.Linear(width * shape[0], outputs)

    def forward(self, x):
        return self.head(self.layer(self.embed(x[..., None])).flatten(1))


class Tokens(nn.Module):
    def __init__(self, shape, outputs, width=8):
        super().__init__()
        self.table = nn.Embedding(50, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(self.table(x.long().abs() % 50).mean(1))


# -- refused ----------------------------------------------------------------------------------------


class TokensAsFloats(Tokens):
    def forward(self, x):
        return self.head(self.table(x).mean(1))


class Pair(Perceptron):
    def forward(self, x):
        return super().forward(x), self.hidden(x)


class Dictionary(Perceptron):
    def forward(self, x):
        return {"logits": super().forward(x), "hidden": self.hidden(x)}


class ChannelsLast(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.c = nn.Conv2d(shape[-1], 4, 3)
        self.head = nn.Linear(4, outputs)

    def forward(self, x):
        return self.head(self.c(x).mean((2, 3)))


class WrongWidth(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs + 2)


class Everything(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.requires_grad_(False)


class LightningModule(nn.Module):
    """By its name; the package is not needed to refuse it."""


class Lightning(LightningModule):
    def __init__(self, shape, outputs):
        super().__init__()
        self.net = Perceptron(shape, outputs)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        raise AssertionError("never called")
