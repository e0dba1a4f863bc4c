"""A person's optimizer: one for all replicas where that is as one for each, else one for each; resumed, reproducible."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from engram.models import streams
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import ModelError
from tests.models.conftest import networks, train

MODEL = ModelConfig(width=8, depth=1)


class Own(torch.optim.Optimizer):
    """Signs of a momentum, as Lion has them; what makes others of it is in `change`."""

    def __init__(self, params, lr=1e-2, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    kept = self.state[p]
                    momentum = kept.setdefault("momentum", torch.zeros_like(p))
                    update = self.change(p, (0.9 * momentum + 0.1 * p.grad).sign(), group)
                    p.sub_(update, alpha=group["lr"])
                    momentum.lerp_(p.grad, 0.01)

    def change(self, p, update, group):
        return update + group["weight_decay"] * p


class ByNorm(Own):
    """The step of a parameter as long as the parameter, as in LAMB."""

    def change(self, p, update, group):
        return update * p.norm().clamp(min=0.1) / update.norm().clamp(min=1e-6)


class MatricesDecay(Own):
    def change(self, p, update, group):
        return update + (group["weight_decay"] * p if p.dim() > 1 else 0)


class ClippedWhole(Own):
    """Only where a gradient is large does it look at more than one number."""

    def change(self, p, update, group):
        return update * (0.5 if p.grad.norm() > 100 else 1.0)


class Noisy(Own):
    def change(self, p, update, group):
        return update + 0.1 * torch.randn_like(p)


class Counting(Own):
    """Keeps a count in its groups and another in itself, as schedule-free optimizers do."""

    def __init__(self, params, **given):
        super().__init__(params, **given)
        self.steps, self.seen = 0, [0.0]

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
        super().step()

    def change(self, p, update, group):
        return update / (self.steps + group["k"])


TOGETHER = {Own: True, ByNorm: False, MatricesDecay: False, ClippedWhole: False, Noisy: False}
TOGETHER[Counting] = True


def config_of(cls: type, **options) -> TrainingConfig:
    path = f"{__name__}:{cls.__name__}"
    given = {"optimizer": path, "lr": 0.01, "weight_decay": 0.1, "batch_size": 25, "steps": 8}
    return TrainingConfig(**{**given, "evaluate_every": 1, **options})


@pytest.mark.parametrize("cls", TOGETHER)
def test_each_replica_is_trained_as_by_an_optimizer_of_its_own(make_trainer, cls):
    trainer = make_trainer(MODEL, config_of(cls), [0, 1, 2])
    assert (trainer.optimizer.way == "stacked") is TOGETHER[cls]
    train(trainer)
    network = networks(MODEL, [1])[0]
    optimizer = cls(network.parameters(), lr=0.01, weight_decay=0.1)
    key, step = streams.key(0, "replica", 1), 0
    for epoch in range(4):
        drawn = streams.generator(key, "order", epoch)
        for batch in trainer.members[1][torch.randperm(50, generator=drawn)].split(25):
            optimizer.zero_grad()
            F.cross_entropy(
                network(trainer.pool.inputs[batch]), trainer.pool.targets[batch]
            ).backward()
            streams.seed_all(streams.key(key, "optimizer", step))
            optimizer.step()
            step += 1
    for name, wanted in network.named_parameters():
        found = trainer.cohort.parameters[name][1].detach()
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", [Noisy, Counting])
def test_it_goes_on_from_a_checkpoint_and_among_others_as_alone(make_trainer, cls):
    config = config_of(cls)
    whole = make_trainer(MODEL, config, [0, 1])
    whole.advance()
    kept = whole.state_dict()
    again, alone = make_trainer(MODEL, config, [0, 1]), make_trainer(MODEL, config, [1])
    again.load_state_dict(kept)
    for trainer in (whole, again, alone):
        train(trainer)
    for name, parameter in whole.cohort.parameters.items():
        assert torch.equal(again.cohort.parameters[name], parameter)
        torch.testing.assert_close(
            alone.cohort.parameters[name][0], parameter[1], rtol=1e-5, atol=1e-6
        )


def test_one_that_evaluates_the_loss_itself_is_refused(make_trainer):
    config = TrainingConfig(optimizer="torch.optim:LBFGS")
    with pytest.raises(ModelError, match="closure"):
        make_trainer(MODEL, config, [0])


def test_balanced_weights_are_of_the_replicas_own_examples(make_trainer):
    config = TrainingConfig(class_weights="balanced", label_smoothing=0.1, batch_size=25, steps=4)
    together = train(make_trainer(MODEL, config, [0, 1]))
    alone = train(make_trainer(MODEL, config, [1]))
    counts = torch.bincount(alone.pool.targets[alone.members[0]], minlength=4)
    assert counts.unique().numel() > 1, "else there is nothing to balance"
    outputs, targets = torch.randn(1, 9, 4), torch.randint(0, 4, (1, 9))
    each, own = alone.loss(outputs, targets, slice(0, 1))
    weight = 50 / (4 * counts)
    options = {"weight": weight, "label_smoothing": 0.1, "reduction": "none"}
    torch.testing.assert_close(each[0], F.cross_entropy(outputs[0], targets[0], **options))
    torch.testing.assert_close(own[0], weight[targets[0]])
    for name, parameter in alone.cohort.parameters.items():
        torch.testing.assert_close(parameter[0], together.cohort.parameters[name][1])
