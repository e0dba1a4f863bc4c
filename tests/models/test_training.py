"""Training one replica is training with stock torch; a cohort is R of those."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram.models import streams
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.losses import example_losses
from engram.models.schedules import evaluation_steps
from engram.models.training import Examples, Trainer
from tests.models.conftest import examples, networks, train

MODEL = ModelConfig(width=8, depth=1)


def plain_loop(trainer: Trainer, replica: int, network: nn.Module, key: int) -> nn.Module:
    """The textbook loop for one replica: the reference every option is held against."""
    config = trainer.config
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    options = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
    optimizer = kinds[config.optimizer](
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay, **options
    )
    members, step = trainer.members[replica], 0
    while step < trainer.total_steps:
        epoch = step // trainer.steps_per_epoch
        order = members[
            torch.randperm(len(members), generator=streams.generator(key, "order", epoch))
        ]
        for batch in order.split(config.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = config.lr * factor(config, step, trainer.total_steps)
            optimizer.zero_grad()
            outputs = network(trainer.pool.inputs[batch])
            loss = F.cross_entropy(outputs, trainer.pool.targets[batch])
            loss = loss + config.l1 * sum(p.abs().sum() for p in network.parameters())
            loss.backward()
            if config.clip:
                nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            step += 1
            if step == trainer.total_steps:
                break
    return network


def factor(config: TrainingConfig, step: int, total: int) -> float:
    warmup = round(config.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[config.schedule]


OPTIONS = {
    "sgd": dict(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-2),
    "sgd without momentum": dict(optimizer="sgd", lr=0.1, momentum=0.0),
    "adam with L2": dict(optimizer="adam", weight_decay=0.1),
    "adamw": dict(optimizer="adamw", weight_decay=0.5),
    "l1": dict(l1=1e-3),
    "clipped": dict(optimizer="sgd", lr=0.5, clip=0.05),
    "cosine with warmup": dict(schedule="cosine", warmup=0.25),
    "linear": dict(schedule="linear"),
    "steps": dict(steps=7),
    "batch larger than the subset": dict(batch_size=500),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("stack", [3, 1])
def test_every_option_equals_the_textbook_loop(make_trainer, options, stack):
    config = TrainingConfig(**{"epochs": 3, "batch_size": 16, **options})
    trainer = train(make_trainer(MODEL, config, [0, 1, 2], stack=stack))
    reference = plain_loop(trainer, 1, networks(MODEL, [1])[0], streams.key(0, "replica", 1))
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(
            trainer.cohort.parameters[name][1].detach(), parameter.detach(), rtol=1e-3, atol=1e-5
        )


def test_adam_with_l2_is_not_adamw(make_trainer):
    runs = [
        train(make_trainer(MODEL, TrainingConfig(epochs=2, optimizer=o, weight_decay=0.5), [0]))
        for o in ("adam", "adamw")
    ]
    first, second = (next(iter(r.cohort.parameters.values())) for r in runs)
    assert not torch.allclose(first, second, atol=1e-3)


def test_networks_learn(make_trainer):
    trainer = train(make_trainer(ModelConfig(width=32), TrainingConfig(epochs=60), [0, 1, 2]))
    report = trainer.evaluate()
    assert (report.error["train"] < 0.1).all()
    assert (report.error["test"] < 0.6).all()  # chance is 0.75


def test_evaluation_is_in_eval_mode(make_trainer):
    trainer = make_trainer(ModelConfig(width=8, dropout=0.9), TrainingConfig(epochs=1), [0])
    torch.testing.assert_close(trainer.evaluate().loss["test"], trainer.evaluate().loss["test"])
    direct = example_losses(
        trainer.predict(trainer.sets["test"]), trainer.sets["test"].targets[None]
    )
    torch.testing.assert_close(direct.double().mean(1), trainer.evaluate().loss["test"])


def test_train_error_is_measured_on_the_replicas_own_subset(make_trainer):
    trainer = train(make_trainer(ModelConfig(width=32), TrainingConfig(epochs=40), [0, 1]))
    outputs = trainer.predict(trainer.pool)
    wrong = (outputs.argmax(-1) != trainer.pool.targets).double()
    own = torch.stack([wrong[r, trainer.members[r]].mean() for r in range(2)])
    torch.testing.assert_close(own, trainer.evaluate().error["train"])


def test_dropout_of_one_trains_to_the_end_without_nan(make_trainer):
    model = ModelConfig(width=8, depth=2, dropout=1.0)
    trainer = train(make_trainer(model, TrainingConfig(epochs=3), [0, 1]))
    report = trainer.evaluate()
    assert not report.diverged.any()
    assert report.loss["train"].isfinite().all()


def test_divergence_of_one_replica_is_noted_and_leaves_the_others_alone(make_trainer):
    config = TrainingConfig(epochs=2, batch_size=16)
    healthy = train(make_trainer(MODEL, config, [0, 1, 2]))
    broken = make_trainer(MODEL, config, [0, 1, 2])
    with torch.no_grad():
        next(iter(broken.cohort.parameters.values()))[1].fill_(math.nan)
    train(broken)
    assert broken.evaluate().diverged.tolist() == [False, True, False]
    for name, parameter in healthy.cohort.parameters.items():
        torch.testing.assert_close(broken.cohort.parameters[name][2], parameter[2])


def test_training_ends_when_every_replica_has_diverged(make_trainer):
    config = TrainingConfig(optimizer="sgd", lr=1e6, epochs=200, evaluate_every=1)
    trainer = train(make_trainer(ModelConfig(width=8, depth=3), config, [0, 1]))
    assert trainer.diverged.all()
    assert trainer.step < trainer.total_steps


@pytest.mark.parametrize("early_stopping", [None, 3])
def test_a_checkpoint_goes_on_exactly(make_trainer, early_stopping):
    config = TrainingConfig(
        epochs=6, batch_size=16, evaluate_every=1, early_stopping=early_stopping
    )
    model = ModelConfig(width=8, dropout=0.3)
    whole = make_trainer(model, config, [0, 1])
    for _ in range(3):
        whole.advance()
    resumed = make_trainer(model, config, [0, 1])
    resumed.load_state_dict(whole.state_dict())
    for trainer in (whole, resumed):
        train(trainer)
    for name, parameter in whole.cohort.parameters.items():
        assert torch.equal(parameter, resumed.cohort.parameters[name])


def test_early_stopping_keeps_each_replicas_own_best_weights(make_trainer):
    config = TrainingConfig(lr=0.05, epochs=80, batch_size=10, evaluate_every=1, early_stopping=4)
    trainer = make_trainer(ModelConfig(width=64), config, [0, 1, 2])
    losses = []
    while not trainer.finished:
        losses.append(trainer.advance().loss["validation"])
    assert trainer.step < trainer.total_steps, "all replicas stop before the end"
    best = torch.stack(losses).min(0).values
    torch.testing.assert_close(trainer.evaluate().loss["validation"], best, rtol=1e-4, atol=1e-5)
    assert trainer.early_stopping.best_step.unique().numel() > 1, "each replica on its own"


def test_early_stopping_without_a_validation_set_is_refused(make_trainer):
    trainer = make_trainer(MODEL, TrainingConfig(), [0])
    with pytest.raises(ValueError, match="validation"):
        Trainer(
            trainer.cohort,
            trainer.pool,
            trainer.members,
            {},
            TrainingConfig(early_stopping=2),
            trainer.keys,
        )


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        (dict(epochs=3, evaluate_every=1), 50, [5, 10, 15]),
        (dict(epochs=5, evaluate_every=2), 50, [10, 20, 25]),
        (dict(steps=12, evaluate_every=1), 50, [5, 10, 12]),
        (dict(steps=2), 50, [2]),
        (dict(epochs=400), 50, list(range(100, 2001, 100))),
    ],
)
def test_evaluations_end_with_the_last_step(options, size, expected):
    assert evaluation_steps(TrainingConfig(batch_size=10, **options), size) == expected


def test_regression_is_trained_on_squared_error(make_trainer):
    trainer = make_trainer(
        ModelConfig(width=16, depth=1), TrainingConfig(epochs=60, lr=0.02), [0, 1]
    )
    pool = examples()
    values = pool.inputs[:, :4] * 0.5
    fitted = Trainer(
        trainer.cohort,
        Examples(pool.inputs, values),
        trainer.members,
        {"test": Examples(pool.inputs[:20], values[:20])},
        trainer.config,
        trainer.keys,
    )
    train(fitted)
    report = fitted.evaluate()
    assert not fitted.classification
    torch.testing.assert_close(report.error["test"], report.loss["test"])
    assert (report.loss["train"] < 0.05).all()


def test_augmentation_sees_the_replicas_own_numbers(make_trainer):
    seen = []

    def shift(inputs, uniforms):
        seen.append(uniforms.clone())
        return inputs + uniforms

    config = TrainingConfig(epochs=1, batch_size=25)
    train(make_trainer(MODEL, config, [0, 1], augment=(shift, 1)))
    together = list(seen)
    seen.clear()
    train(make_trainer(MODEL, config, [1], augment=(shift, 1)))
    assert together[0].shape == (2, 25, 1)
    for both, alone in zip(together, seen, strict=True):
        assert torch.equal(both[1], alone[0])


def test_bfloat16_trains_close_to_float32(make_trainer):
    losses = []
    for precision in ("float32", "bfloat16"):
        config = TrainingConfig(epochs=10, precision=precision)
        losses.append(
            train(make_trainer(ModelConfig(width=32), config, [0])).evaluate().loss["train"]
        )
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[0], losses[1], rtol=0.1, atol=0.05)
