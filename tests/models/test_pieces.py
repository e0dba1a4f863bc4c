"""Optimizers, losses, schedules and averages are torch's own: each replica trains as a plain torch loop does."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram.data import augmentation
from engram.models import pieces, schedules, streams
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import ModelError
from engram.models.optimizers import optimizer_class
from engram.models.training import Trainer
from tests.models.conftest import examples, networks, train

MODEL = ModelConfig(width=8, depth=1)
CASES = {
    "nesterov": dict(optimizer="sgd", lr=0.05, options={"nesterov": True}),
    "nadam": dict(optimizer="nadam", weight_decay=0.01),
    "radam": dict(optimizer="radam", weight_decay=0.01),
    "rmsprop": dict(optimizer="rmsprop", lr=1e-3, options={"alpha": 0.9}),
    "adagrad": dict(optimizer="adagrad", lr=0.05),
    "adafactor": dict(optimizer="adafactor", lr=0.05),
    "amsgrad": dict(optimizer="adamw", options={"amsgrad": True, "betas": [0.8, 0.99]}),
    "own": dict(optimizer="torch.optim:Rprop", lr=0.01),
    "label smoothing": dict(label_smoothing=0.2),
    "class weights": dict(class_weights=(1.0, 2.0, 0.5, 1.0), label_smoothing=0.1),
    "focal": dict(loss="focal", focal_gamma=1.5),
    "own loss": dict(loss="tests.models.test_pieces:doubled"),
    "one_cycle": dict(schedule="one_cycle", optimizer="sgd", momentum=0.0),
    "accumulate": dict(batch_size=6, accumulate=3),
}


def doubled(outputs, targets):
    return 2 * F.cross_entropy(outputs, targets, reduction="none")


def loss_of(config: TrainingConfig, outputs, targets):
    weights = None if config.class_weights is None else torch.tensor(config.class_weights)
    if config.loss == "focal":
        each = F.cross_entropy(outputs, targets, reduction="none")
        return (each * (1 - (-each).exp()) ** config.focal_gamma).mean()
    if config.loss.endswith("doubled"):
        return doubled(outputs, targets).mean()
    return F.cross_entropy(outputs, targets, weight=weights, label_smoothing=config.label_smoothing)


def plain_loop(trainer: Trainer, replica: int, network: nn.Module) -> nn.Module:
    config = trainer.config
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.options.items()}
    if config.optimizer == "sgd":
        options["momentum"] = config.momentum
    if "Rprop" not in config.optimizer:
        options["weight_decay"] = config.weight_decay
    optimizer = optimizer_class(config)(network.parameters(), lr=config.lr, **options)
    cycle = None
    if config.schedule == "one_cycle":
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.lr, trainer.total_steps, cycle_momentum=False
        )
    members, step = trainer.members[replica], 0
    while step < trainer.total_steps:
        epoch = step // trainer.steps_per_epoch
        drawn = streams.generator(streams.key(0, "replica", replica), "order", epoch)
        for batch in members[torch.randperm(len(members), generator=drawn)].split(config.step_size):
            optimizer.zero_grad()
            loss_of(
                config, network(trainer.pool.inputs[batch]), trainer.pool.targets[batch]
            ).backward()
            optimizer.step()
            if cycle is not None and step + 1 < trainer.total_steps:
                cycle.step()
            step += 1
            if step == trainer.total_steps:
                break
    return network


@pytest.mark.parametrize("case", CASES)
def test_a_replica_in_a_stack_trains_as_torch_trains_it(make_trainer, case):
    config = TrainingConfig(**{"batch_size": 18, "steps": 10, **CASES[case]})
    trainer = train(make_trainer(MODEL, config, [0, 1, 2], stack=3))
    reference = plain_loop(trainer, 1, networks(MODEL, [1])[0])
    for name, wanted in reference.named_parameters():
        found = trainer.cohort.parameters[name][1].detach()
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", pieces.OPTIMIZERS)
def test_every_optimizer_goes_on_from_a_checkpoint(make_trainer, name):
    config = TrainingConfig(optimizer=name, batch_size=18, steps=6, evaluate_every=1)
    whole = make_trainer(MODEL, config, [0, 1])
    whole.advance()
    kept = copy.deepcopy(whole.state_dict())
    again = make_trainer(MODEL, config, [0, 1])
    again.load_state_dict(kept)
    for trainer in (whole, again):
        train(trainer)
    for key, parameter in whole.cohort.parameters.items():
        torch.testing.assert_close(again.cohort.parameters[key], parameter)


def test_an_optimizer_outside_the_table_cannot_be_trained_with(make_trainer):
    with pytest.raises(ModelError, match="no known optimizer"):
        make_trainer(
            MODEL,
            TrainingConfig.model_construct(
                **{**TrainingConfig().model_dump(), "optimizer": "lion"}
            ),
            [0],
        )


def test_an_average_of_weights_is_what_is_evaluated_and_kept(make_trainer):
    config = TrainingConfig(ema=0.9, batch_size=25, steps=8, evaluate_every=1)
    averaged = make_trainer(MODEL, config, [0, 1])
    live = make_trainer(MODEL, config.model_copy(update={"ema": None}), [0, 1])
    wanted = {n: p.detach().clone() for n, p in live.cohort.parameters.items()}
    live.cohort.train(True)
    for step in range(8):
        live.train_epoch(step // 2, step % 2, step % 2 + 1)
        decay = min(0.9, (2 + step) / (11 + step))
        for name, parameter in live.cohort.parameters.items():
            wanted[name] = decay * wanted[name] + (1 - decay) * parameter.detach()
    train(averaged)
    for name, parameter in averaged.cohort.parameters.items():
        torch.testing.assert_close(parameter.detach(), wanted[name], rtol=1e-4, atol=1e-5)


def test_schedules_end_where_they_say():
    factor = {name: schedules.TABLE[name] for name in pieces.SCHEDULES}
    assert factor["step"](49, 100) == 1
    assert math.isclose(factor["step"](80, 100), 0.01)
    assert math.isclose(factor["exponential"](100, 100), 0.01)
    assert max(factor["one_cycle"](s, 100) for s in range(100)) == pytest.approx(1.0)
    assert factor["one_cycle"](99, 100) < 1e-4


def test_mixup_mixes_targets_as_it_mixes_inputs(make_trainer):
    change = augmentation.get("mixup", "vector")
    inputs, u = torch.randn(2, 5, 12), torch.rand(2, 5, 1)
    mixed, share = change(inputs, u)
    torch.testing.assert_close(
        mixed[1, 4], share[1, 4] * inputs[1, 4] + (1 - share[1, 4]) * inputs[1, 0]
    )
    config = TrainingConfig(
        batch_size=10, accumulate=2, steps=1, optimizer="sgd", lr=1.0, momentum=0.0
    )
    trainer = make_trainer(MODEL, config, [0], augment=(change, 1))
    network, pool = networks(MODEL, [0])[0], examples()
    order = trainer.orders.of(0)[0, :20]
    drawn = streams.uniforms(streams.step_streams(trainer.key_tensor, 1, 0, 1)[0, 0], 20).view(
        1, 20, 1
    )
    both, share = change(pool.inputs[order][None], drawn)
    outputs, own = network(both[0]), pool.targets[order]
    each = [F.cross_entropy(outputs, t, reduction="none") for t in (own, own.roll(-1))]
    (share[0] * each[0] + (1 - share[0]) * each[1]).mean().backward()
    before = network.readout.weight.detach() - network.readout.weight.grad
    train(trainer)
    torch.testing.assert_close(
        trainer.cohort.parameters["readout.weight"][0].detach(), before, rtol=1e-4, atol=1e-5
    )
    assert examples().inputs.shape == pool.inputs.shape
