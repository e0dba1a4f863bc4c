"""Residual networks and transformers: the plain network by hand, stacked gradients, options, batch statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram.models import ways
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import ModelError
from engram.models.family import build
from engram.sweeps.trial import stacking
from tests.models.conftest import train

CPU = torch.device("cpu")
SHAPES = [((12,), False), ((3, 9), False), ((8, 8), True), ((3, 8, 12), True)]
TOLERANCE = dict(rtol=1e-4, atol=1e-5)


def made(family: str, shape, image, **options) -> list[nn.Module]:
    config = ModelConfig(family=family, width=8, depth=3, options=options)
    return [build(config, shape, 4, image) for _ in range(3)]


@pytest.mark.parametrize("family", ["residual", "transformer"])
@pytest.mark.parametrize(("shape", "image"), SHAPES)
def test_stacked_is_each_module_alone(family, shape, image):
    modules = made(family, shape, image)
    inputs, weights = torch.randn(3, 5, *shape), torch.randn(3, 5, 4)
    wanted = torch.stack([module(x) for module, x in zip(modules, inputs, strict=True)])
    (wanted * weights).sum().backward()
    gradients = {
        name: torch.stack([dict(m.named_parameters())[name].grad for m in modules])
        for name, _ in modules[0].named_parameters()
    }
    cohort = Cohort(modules, CPU)
    assert cohort.way == "stacked"
    outputs = cohort.forward(cohort.parts[0], inputs)
    torch.testing.assert_close(outputs, wanted, **TOLERANCE)
    (outputs * weights).sum().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(cohort.parameters[name].grad, gradient, **TOLERANCE)


def test_a_residual_network_is_what_it_says():
    net = made("residual", (3, 8, 8), True, stages=2)[0]
    x = torch.randn(2, 3, 8, 8)
    hidden = F.conv2d(x, net.stem.weight, net.stem.bias, padding=1)
    for number, block in enumerate(net.blocks):
        stride = 2 if number == 2 else 1
        norm, _, first = block.first
        inner = first(F.relu(F.group_norm(hidden, 4, norm.weight, norm.bias)))
        norm, _, _, second = block.second
        groups = inner.shape[1] // 2
        inner = second(F.relu(F.group_norm(inner, min(groups, 8), norm.weight, norm.bias)))
        if stride == 2:
            hidden = F.pad(hidden[:, :, ::2, ::2], (0, 0, 0, 0, 0, 8))
        hidden = hidden + inner
    hidden = F.relu(F.group_norm(hidden, 8, net.last[0].weight, net.last[0].bias))
    wanted = F.linear(hidden.mean((2, 3)), net.readout.weight, net.readout.bias)
    torch.testing.assert_close(net(x), wanted, **TOLERANCE)


@pytest.mark.parametrize("causal", [False, True])
def test_a_transformer_has_the_attention_of_torch(causal):
    net = made("transformer", (6,), False, causal=causal, vocabulary=5)[0]
    tokens = torch.randint(0, 5, (2, 6))
    hidden = net.read.weight[tokens] + net.position
    for layer in net.layers:
        normed = F.layer_norm(hidden, (8,), layer.norms[0].weight, layer.norms[0].bias)
        query, value = layer.asked(normed).split(8, -1)
        parts = [
            part.view(2, 6, 2, 4).transpose(1, 2) for part in (query, layer.keys(normed), value)
        ]
        told = F.scaled_dot_product_attention(*parts, is_causal=causal)
        hidden = hidden + layer.told(told.transpose(1, 2).reshape(2, 6, 8))
        normed = F.layer_norm(hidden, (8,), layer.norms[1].weight, layer.norms[1].bias)
        hidden = hidden + layer.perceptron(normed)
    hidden = F.layer_norm(hidden, (8,), net.norm.weight, net.norm.bias)
    wanted = net.readout(hidden[:, -1] if causal else hidden.mean(1))
    torch.testing.assert_close(net(tokens.float()), wanted, **TOLERANCE)


def test_a_patch_is_a_square_of_the_image():
    net = made("transformer", (1, 4, 8), True, patch=4)[0]
    image = torch.arange(32.0).view(1, 1, 4, 8)
    steps = net._steps(image)
    assert torch.equal(steps[0, 0], image[0, 0, :, :4].flatten())
    assert torch.equal(steps[0, 1], image[0, 0, :, 4:].flatten())


def test_batch_statistics_run_one_by_one_as_a_plain_loop_would(make_trainer):
    config = ModelConfig(family="residual", width=4, depth=2, options={"norm": "batch"})
    training = TrainingConfig(epochs=1, batch_size=10, lr=1e-2)
    assert ways.of_house(config).way == "plain"
    trainer = make_trainer(config, training, [0, 1])
    assert trainer.cohort.way == "plain"
    assert "batch statistics" in trainer.cohort.reason
    both = train(trainer)
    alone = train(make_trainer(config, training, [1]))
    for name, parameter in both.cohort.parameters.items():
        torch.testing.assert_close(parameter[1], alone.cohort.parameters[name][0], **TOLERANCE)
    assert both.cohort.buffers["last.0.running_mean"].abs().sum() > 0


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("residual", {"norm": "layer"}, "none of group, batch, none"),
        ("residual", {"heads": 2}, "takes norm, stages"),
        ("transformer", {"heads": 3}, "does not divide model.width"),
        ("transformer", {"patch": 5}, "does not divide images"),
        ("transformer", {"vocabulary": 9}, "for sequences of tokens"),
        ("feedforward", {"heads": 2}, "takes none"),
    ],
)
def test_options_that_do_not_fit_are_refused(family, options, said):
    with pytest.raises(ModelError, match=said):
        made(family, (8, 8), True, **options)


def test_the_width_of_a_stack_is_not_measured_where_nothing_is_stacked(tmp_path):
    config = ModelConfig(family="residual", width=4, depth=1, options={"norm": "batch"})
    cohort = stacking.Cohort(
        config, TrainingConfig(batch_size=8), 4, (12,), 4, False, CPU, ways.of_house(config)
    )
    assert stacking.width(cohort, tmp_path) == 1
    free = config.model_copy(update={"options": {"norm": "group"}})
    cohort = stacking.Cohort(
        free, TrainingConfig(batch_size=8), 4, (12,), 4, False, CPU, ways.of_house(free)
    )
    assert stacking.width(cohort, tmp_path) in (1, 4)
