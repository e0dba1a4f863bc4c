"""Networks over tokens: an output at each position, no look ahead, padding without effect, stacked as a plain loop has it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram.models import streams, ways
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import ModelError
from engram.models.family import build
from engram.models.training import Examples, Trainer

FAMILIES = ["transformer", "rnn", "gru", "lstm"]
WORDS, LENGTH, CLASSES = tuple("abcdefg"), 9, 3
NEXT = SimpleNamespace(words=WORDS, every_step=True, padded=False)
PADDED = SimpleNamespace(words=WORDS, every_step=False, padded=True)
TOLERANCE = dict(rtol=1e-4, atol=1e-5)
CPU = torch.device("cpu")


def network(family: str, tokens, replica: int = 0, dropout: float = 0.0) -> nn.Module:
    outputs = len(WORDS) if tokens.every_step else CLASSES
    config = ModelConfig(family=family, width=8, depth=2, dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(replica)
        return build(config, (LENGTH,), outputs, tokens=tokens)


def data(tokens, count: int = 24) -> Examples:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randint(len(WORDS), (count, LENGTH), generator=generator)
    if tokens.every_step:
        return Examples(inputs, torch.randint(len(WORDS), (count, LENGTH), generator=generator))
    lengths = torch.randint(1, LENGTH + 1, (count, 1), generator=generator)
    inputs = inputs.masked_fill(torch.arange(LENGTH) >= lengths, -1)
    return Examples(inputs, torch.randint(CLASSES, (count,), generator=generator))


@pytest.mark.parametrize("family", FAMILIES)
def test_each_position_is_answered_from_what_comes_before_alone(family):
    net = network(family, NEXT).eval()
    inputs = data(NEXT).inputs
    outputs = net(inputs)
    assert outputs.shape == (len(inputs), LENGTH, len(WORDS))
    changed = inputs.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % len(WORDS)
    torch.testing.assert_close(net(changed)[:, :5], outputs[:, :5], **TOLERANCE)
    assert not torch.allclose(net(changed)[:, 5], outputs[:, 5])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_padding_has_no_effect(family):
    """A shorter example gives what it gives alone, in a network as long as it is."""
    net = network(family, PADDED).eval()
    inputs = data(PADDED).inputs
    outputs = net(inputs)
    for row in range(8):
        length = int((inputs[row] >= 0).sum())
        if family == "transformer":
            hidden = net.read(inputs[row : row + 1, :length]) + net.position[:length]
            for layer in net.layers:
                hidden = layer(hidden)
            alone = net.readout(net.norm(hidden).mean(1))
        else:
            hidden = net.read(inputs[row : row + 1, :length])
            for layer in net.layers:
                hidden = layer(hidden)[0]
            alone = net.readout(hidden[:, -1])
        torch.testing.assert_close(outputs[row : row + 1], alone, **TOLERANCE)


@pytest.mark.parametrize("tokens", [NEXT, PADDED], ids=["next", "padded"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stack", [3, 2, 1])
def test_stacked_training_is_a_plain_loop(family, tokens, stack):
    pool, replicas = data(tokens), 3
    config = TrainingConfig(optimizer="sgd", lr=0.1, momentum=0.9, batch_size=8, epochs=2)
    members = torch.stack([torch.randperm(24)[:16] for _ in range(replicas)])
    modules = [network(family, tokens, r) for r in range(replicas)]
    cohort = ways.cohort(modules, CPU, stack, ways.STACKED)
    keys = [streams.key(0, "replica", r) for r in range(replicas)]
    trainer = Trainer(cohort, pool, members, {"test": pool}, config, keys)
    while not trainer.finished:
        report = trainer.advance()
    for replica in range(replicas):
        net = network(family, tokens, replica)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for epoch in range(2):
            for batch in trainer.orders.of(epoch)[replica].split(8):
                optimizer.zero_grad()
                outputs, targets = net(pool.inputs[batch]), pool.targets[batch]
                F.cross_entropy(
                    outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)
                ).backward()
                optimizer.step()
        outputs = net.eval()(pool.inputs)
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(cohort.parameters[name][replica], parameter, **TOLERANCE)
        loss = F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), pool.targets.reshape(-1))
        assert report.loss["test"][replica] == pytest.approx(loss.item(), rel=1e-4)
        wrong = (outputs.argmax(-1) != pool.targets).double().mean()
        assert report.error["test"][replica] == pytest.approx(wrong.item(), abs=1e-6)


class Own(nn.Module):
    """A person's: a table and a read-out at each position."""

    def __init__(self, shape, outputs, vocabulary, flat=False):
        super().__init__()
        self.table, self.readout = nn.Embedding(vocabulary, 6), nn.Linear(6, outputs)
        self.flat = flat

    def forward(self, inputs):
        outputs = self.readout(self.table(inputs))
        return outputs.mean(1) if self.flat else outputs


@pytest.mark.parametrize("flat", [False, True])
def test_a_persons_network_gets_the_vocabulary_and_answers_each_position(flat):
    model = ModelConfig(family=f"{__name__}:Own", options={"flat": flat})
    case = ways.Case(
        model, TrainingConfig(batch_size=8), (LENGTH,), len(WORDS), False, data(NEXT), 16, tokens=NEXT
    )  # fmt: skip
    if flat:
        with pytest.raises(ModelError, match="a row for each position"):
            ways.way(case)
    else:
        assert ways.way(case).way == "vmapped"


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("feedforward", {}, "reads numbers, and the inputs are tokens: take one of transformer"),
        ("transformer", {"causal": False}, "see the token that it is to predict"),
        ("lstm", {"vocabulary": 4}, "the data has 7 tokens"),
    ],
)
def test_networks_that_cannot_are_refused(family, options, said):
    with pytest.raises(ModelError, match=said):
        build(ModelConfig(family=family, width=8, options=options), (9,), 7, tokens=NEXT)
