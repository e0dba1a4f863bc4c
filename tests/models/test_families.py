"""Each family computes what it says, on every shape of data it takes."""

import pytest
import torch
from torch import nn

from engram.models.config import ModelConfig
from engram.models.dropout import Dropout
from engram.models.family import ModelError, build

SEQUENCE, SEQUENCE_OF_VECTORS, IMAGE, COLOUR = (40,), (3, 40), (8, 8), (3, 8, 8)


@pytest.mark.parametrize("family", ["feedforward", "convolutional", "rnn", "gru", "lstm"])
@pytest.mark.parametrize("shape", [SEQUENCE, IMAGE, COLOUR])
@pytest.mark.parametrize("depth", [1, 4])
def test_outputs_have_one_row_an_example(family, shape, depth):
    config = ModelConfig(family=family, width=5, depth=depth, dropout=0.1)
    network = build(config, shape, 10, image=len(shape) > 1)
    assert network(torch.randn(7, *shape)).shape == (7, 10)


def test_depth_zero_is_linear():
    network = build(ModelConfig(depth=0), SEQUENCE, 3)
    a, b = torch.randn(2, 5, 40)
    total = network(a + b) + network(torch.zeros(5, 40))
    torch.testing.assert_close(total, network(a) + network(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "count"), [("feedforward", 15_210), ("convolutional", 5_210)])
def test_the_published_mnist1d_networks_have_their_published_sizes(family, count):
    """Greydanus & Kobak 2024: an MLP of 15,210 and a CNN of 5,210 parameters."""
    config = ModelConfig(
        family=family,
        width=100 if family == "feedforward" else 25,
        depth=2 if family == "feedforward" else 3,
    )
    network = build(config, SEQUENCE, 10)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("family", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_explicit_loop_equals_torchs_fused_kernels(family, activation):
    network = build(
        ModelConfig(family=family, width=6, depth=2, activation=activation), SEQUENCE, 4
    )
    inputs = torch.randn(5, 40)
    outputs = []
    for fused in (False, True):
        network.fused = fused
        network.zero_grad()
        out = network(inputs)
        out.square().sum().backward()
        outputs.append((out, [p.grad.clone() for p in network.parameters()]))
    torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=1e-4, atol=1e-5)
    for loop, fused in zip(outputs[0][1], outputs[1][1], strict=True):
        torch.testing.assert_close(loop, fused, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "layer"),
    [("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid)],
)
def test_the_activation_is_the_one_asked_for(activation, layer):
    network = build(ModelConfig(activation=activation, depth=3), SEQUENCE, 2)
    assert sum(isinstance(m, layer) for m in network.modules()) == 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
    dropout = Dropout(rate)
    dropout.stream.fill_(12345)
    outputs = dropout(torch.ones(400, 500))
    assert abs((outputs == 0).float().mean() - rate) < 0.005
    if rate < 1:
        assert abs(outputs.mean() - 1) < 0.02
    dropout.eval()
    assert torch.equal(dropout(torch.ones(3)), torch.ones(3))


@pytest.mark.parametrize(
    "path",
    ["no_such_module:Net", "tests.models.test_families:nothing", "math:sqrt", "json:JSONDecoder"],
)
def test_a_family_that_is_no_module_is_refused(path):
    with pytest.raises(ModelError, match=r"model\.family"):
        build(ModelConfig(family=path), SEQUENCE, 2)


def test_a_recurrent_net_without_layers_is_refused():
    with pytest.raises(ModelError, match="at least one layer"):
        build(ModelConfig(family="gru", depth=0), SEQUENCE, 2)
