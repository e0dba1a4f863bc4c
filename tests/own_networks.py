"""Networks as people write them, each for one thing that training many at once may get wrong.

Every class takes (shape, outputs, ...), as the product asks; shape is (16,), or (1, 8, 8) for images.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections import deque

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


class OtherDropout(Perceptron):
    """A kind of dropout that we have no layer for."""

    def __init__(self, shape, outputs, dropout=0.3):
        super().__init__(shape, outputs)
        self.drop = nn.AlphaDropout(dropout)

    def hidden(self, x):
        return self.drop(super().hidden(x))


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


class AlwaysUpdated(Perceptron):
    """A normaliser that does not ask whether it is training: how often it is evaluated must not matter."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("mean", torch.zeros(shape[0]))
        self.calls_seen = 0

    def hidden(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        self.calls_seen += 1
        return super().hidden(x - self.mean) / self.calls_seen**0.1


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


class CellsInTime(nn.Module):
    """A GRU of cells, unrolled by hand."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.cell = nn.GRUCell(1, 6)
        self.last = nn.Linear(6, outputs)

    def forward(self, x):
        h = x.new_zeros(len(x), 6)
        for value in x[:, :5].unbind(1):
            h = self.cell(value[:, None], h)
        return self.last(h)


class Packed(nn.Module):
    """Sequences whose lengths depend on the data."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True)
        self.last = nn.Linear(6, outputs)

    def forward(self, x):
        lengths = (x > 0).sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            x[..., None], lengths, batch_first=True, enforce_sorted=False
        )
        return self.last(self.gru(packed)[1][0])


class ForgottenFlag(Perceptron):
    """Functional dropout that nobody switches off."""

    def hidden(self, x):
        return F.dropout(super().hidden(x), 0.3)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 1.5

    @staticmethod
    def backward(context, gradient):
        return gradient * 3


class OwnFunction(Perceptron):
    def hidden(self, x):
        return Doubled.apply(super().hidden(x))


class Heads(nn.Module):
    def __init__(self, shape, outputs, width=8):
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.2, batch_first=True)
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        h = self.embed(x[:, :6, None])
        return self.last(self.attention(h, h, h)[0].mean(1))


class InPlace(Perceptron):
    """Changes its inputs, and what it works with, in place."""

    def hidden(self, x):
        x -= x.mean(1, keepdim=True)
        h = self.first(x)
        h *= 0.5
        return h.relu_()


class NormedTable(Tokens):
    """A table that keeps its rows short by itself, with a row that stays zero."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.table = nn.Embedding(50, 8, padding_idx=0, max_norm=1.0)


class TiedAndFrozen(Tied):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.a.weight.requires_grad_(False)


class Complex(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.filter = nn.Parameter(torch.randn(shape[0] // 2 + 1, dtype=torch.cfloat))

    def hidden(self, x):
        return super().hidden(torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=x.shape[1]))


class Doubles(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


class Queue(Perceptron):
    """What passed last, in a queue."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.queue = deque(maxlen=3)

    def hidden(self, x):
        h = super().hidden(x)
        if self.training:
            self.queue.append(h.detach().mean(0))
        return h - sum(self.queue) / max(1, len(self.queue))


class Running:
    """A mean that runs along, in a class of its own."""

    def __init__(self, size):
        self.mean, self.count = torch.zeros(size), 0

    def update(self, x):
        self.count += 1
        self.mean = self.mean + (x.mean(0) - self.mean) / self.count


class InObjects(Perceptron):
    """State in an object, in a dict, and in a dict of an object."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.running, self.memory = Running(12), {"scale": [1.0], "steps": 0}

    def hidden(self, x):
        h = super().hidden(x)
        if self.training:
            self.running.update(h.detach())
            self.memory["steps"] += 1
            self.memory["scale"].append(1 / self.memory["steps"])
        return (h - self.running.mean) * (1 + self.memory["scale"][-1])


class OwnGenerator(Perceptron):
    """Noise from a generator of the module's own."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))

    def hidden(self, x):
        h = super().hidden(x)
        return h + 0.1 * torch.randn(h.shape, generator=self.generator) if self.training else h


class RandomDepth(Perceptron):
    def hidden(self, x):
        h = super().hidden(x)
        return h * 0.5 if self.training and random.random() < 0.5 else h


class Teacher(Perceptron):
    """A frozen copy that follows, assigned as momentum encoders have it."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.teacher = copy.deepcopy(self.first).requires_grad_(False)

    def hidden(self, x):
        if self.training:
            for old, new in zip(self.teacher.parameters(), self.first.parameters(), strict=True):
                old.data = 0.9 * old.data + 0.1 * new.data
        return super().hidden(x) + torch.tanh(self.teacher(x))


class TwoNames(Perceptron):
    """A buffer that is also known by another name, and changed by that one."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.register_buffer("mean", torch.zeros(shape[0]))
        self.stats = [self.mean]

    def hidden(self, x):
        if self.training:
            self.stats[0].mul_(0.9).add_(0.1 * x.mean(0))
        return super().hidden(x - self.mean)


class Unregistered(Perceptron):
    """Layers in an ordinary list, which torch does not train."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.layers = [nn.Linear(12, 12)]

    def hidden(self, x):
        return torch.tanh(self.layers[0](super().hidden(x)))


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


class LateParameter(Perceptron):
    def hidden(self, x):
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(12))
        return super().hidden(x) * self.scale


SHARED = torch.Generator().manual_seed(0)


class SharedGenerator(Perceptron):
    """Noise from a generator of the file's, which all replicas would draw from in turn."""

    def hidden(self, x):
        h = super().hidden(x)
        return h + 0.1 * torch.randn(h.shape, generator=SHARED) if self.training else h


class ViewOfItself(Perceptron):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.seen = self.first.weight.data.view(-1)

    def hidden(self, x):
        return super().hidden(x) * self.seen.abs().mean()


class Unkept(Perceptron):
    """A count that nobody can write down."""

    def __init__(self, shape, outputs):
        super().__init__(shape, outputs)
        self.steps = (step / 10 for step in itertools.count())

    def hidden(self, x):
        return super().hidden(x) * (next(self.steps) if self.training else 1)


class SparseTable(nn.Module):
    """The gradient of its table has the rows of the batch alone."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.table = nn.Embedding(40, 8, sparse=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.table((x * 8).long().remainder(40)).mean(1))


class ComplexOutputs(Perceptron):
    def forward(self, x):
        return torch.fft.fft(super().forward(x))
