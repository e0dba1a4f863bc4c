"""Our optimizers are torch's, without its compiler."""

import itertools
import subprocess
import sys

import pytest
import torch

from engram.models.config import TrainingConfig
from engram.models.optimizer import Optimizer

STEPS = 6
CASES = {
    "sgd": dict(optimizer="sgd", momentum=0.0),
    "momentum": dict(optimizer="sgd", momentum=0.9, weight_decay=0.01),
    "adam": dict(optimizer="adam", weight_decay=0.1),
    "adamw": dict(optimizer="adamw", weight_decay=0.1),
}


def made(case: str) -> tuple[TrainingConfig, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = (3, 5, 4), (3, 5)
    return TrainingConfig(lr=0.05, **CASES[case]), [
        torch.randn(shape, generator=generator) for shape in shapes
    ]


def torchs(config: TrainingConfig, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, config.lr, weight_decay=decay)


def give_gradients(parameters: list[torch.Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_torchs_plain_optimizers(case):
    config, ours = made(case)
    theirs = [p.clone().requires_grad_(True) for p in ours]
    optimizer, reference = Optimizer(ours, config), torchs(config, theirs)
    for step in range(STEPS):
        optimizer.lr = reference.param_groups[0]["lr"] = config.lr / (step + 1)
        for parameters in (ours, theirs):
            give_gradients(parameters, step)
        optimizer.step()
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_state_that_was_kept_goes_on_to_the_same_bits(case):
    config, whole = made(case)
    one = Optimizer(whole, config)
    for step in range(STEPS):
        if step == 3:
            cut = [p.clone() for p in whole]
            other = Optimizer(cut, config)
            other.load_state_dict(one.state_dict())
        give_gradients(whole, step)
        one.step()
        if step >= 3:
            give_gradients(cut, step)
            other.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(3,), (13, 7), (4, 4)])
def test_a_number_moves_alike_wherever_it_stands_in_a_stack(case, shape):
    """To the bits, with gradients that stay away now and then, and weights that somebody else sets."""
    config, _ = made(case)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(6, *shape, generator=generator)
    gradients = [torch.randn(6, *shape, generator=generator) for _ in range(STEPS)]
    found = []
    for ends in ((0, 6), (0, 3, 6), (0, 1, 2, 6), (0, 5, 6)):
        cohort = []
        for first, stop in itertools.pairwise(ends):
            whole = start[first:stop].clone()
            optimizer = Optimizer([whole], config)
            for step, gradient in enumerate(gradients):
                whole.grad = None if step == 2 else gradient[first:stop].clone()
                if step == 3:
                    whole.mul_(0.5)
                optimizer.step()
            cohort.append(whole)
        found.append(torch.cat(cohort))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_state_is_named_as_torch_names_it():
    for case in ("momentum", "adamw"):
        config, ours = made(case)
        optimizer, reference = Optimizer(ours, config), torchs(config, ours)
        give_gradients(ours, 0)
        optimizer.step()
        reference.step()
        state = reference.state_dict()["state"]
        names = {f"{index}.{name}" for index, entry in state.items() for name in entry}
        assert set(optimizer.state_dict()) == names


def test_a_parameter_without_a_gradient_stays_as_it_is():
    config, ours = made("adamw")
    give_gradients(ours, 0)
    ours[1].grad = None
    before = [p.clone() for p in ours]
    optimizer = Optimizer(ours, config)
    optimizer.step()
    assert not torch.equal(ours[0], before[0])
    assert torch.equal(ours[1], before[1])
    assert not optimizer.state[1]


def test_training_does_not_import_torchs_compiler():
    code = """
import sys, torch
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.family import build
from engram.models.training import Examples, Trainer
examples = Examples(torch.randn(20, 8), torch.zeros(20, dtype=torch.int64))
for family in ("feedforward", "convolutional", "lstm"):
    for optimizer in ("sgd", "adamw"):
        modules = [build(ModelConfig(family=family, width=4, depth=1, dropout=0.5), (8,), 2) for _ in range(2)]
        config = TrainingConfig(optimizer=optimizer, epochs=1, batch_size=10)
        members = torch.arange(20).expand(2, 20)
        trainer = Trainer(Cohort(modules, torch.device("cpu")), examples, members, {}, config, [0, 1])
        trainer.advance()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
