"""A person's network trains as in a plain torch loop, or is refused by name.

The loop is written here, with torch alone: one module, one torch optimizer, batches in the replica's order.
"""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engram.models import streams, ways
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.dropout import Dropout, adopt
from engram.models.families import ModelError, Way
from engram.models.family import build
from engram.models.training import Examples, Trainer
from engram.sweeps.trial import checkpoint
from tests import own_networks

CPU = torch.device("cpu")
CLASSES, STEPS, BATCH, SIZE, REPLICAS = 4, 20, 16, 40, 3
OPTIMIZERS = {
    "sgd": (dict(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01), torch.optim.SGD),
    "adamw": (dict(optimizer="adamw", lr=0.01, weight_decay=0.1), torch.optim.AdamW),
}
# What torch itself trains sparse gradients with.
FOR_SPARSE = {
    "momentum": (dict(optimizer="sgd", lr=0.05, momentum=0.9), torch.optim.SGD),
    "adagrad": (dict(optimizer="adagrad", lr=0.05), torch.optim.Adagrad),
}
SETTINGS = OPTIMIZERS | FOR_SPARSE
REFUSED = {
    "TokensAsFloats": "x.long()",
    "Pair": "return the logits alone",
    "Dictionary": "outputs['logits']",
    "ChannelsLast": "channels come first",
    "WrongWidth": "build the last layer",
    "Everything": "nothing to train",
    "Lightning": "LightningModule",
    "GrowingBuffer": "changes its shape",
    "LateParameter": "create it in __init__",
    "SharedGenerator": "the same twice",
    "ViewOfItself": "a view of its own parameters",
    "Unkept": "goes on from a checkpoint otherwise",
    "ComplexOutputs": ".abs() or .real",
}
IMAGES = ("Residual", "GroupNormed", "ChannelsLast")
NETWORKS = [
    name
    for name, cls in inspect.getmembers(own_networks, inspect.isclass)
    if issubclass(cls, nn.Module)
    and cls.__module__ == own_networks.__name__
    and name not in (*REFUSED, "LightningModule", "SparseTable")
]
RANDOM_IN_EVALUATION = ("ForgottenFlag",)
NOTED = {
    "ForgottenFlag": "random in evaluation too",
    "Unregistered": "layers are not registered",
    "Unused": "spare.weight, spare.bias",
    "AlwaysUpdated": "changes mean in evaluation",
}
# What stacking is known to be right for: here the faster way has to be taken, and is then compared.
STACKED = (
    "Perceptron",
    "GroupNormed",
    "OneDropout",
    "DropoutInTime",
    "Frozen",
    "ManyBuffers",
    "Lazy",
    "Tokens",
    "CellsInTime",
    "TiedAndFrozen",
)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def examples(name: str) -> Examples:
    shape = (1, 8, 8) if name in IMAGES else (16,)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(60, *shape, generator=generator)
    return Examples(inputs, torch.randint(0, CLASSES, (60,), generator=generator))


def config_of(name: str) -> ModelConfig:
    return ModelConfig(family=f"tests.own_networks:{name}")


def case_of(name: str, training: TrainingConfig) -> ways.Case:
    pool = examples(name)
    shape = tuple(pool.inputs.shape[1:])
    return ways.Case(config_of(name), training, shape, CLASSES, False, pool, SIZE)


def network(name: str, replica: int) -> nn.Module:
    torch.manual_seed(streams.key("start", replica))
    return build(config_of(name), examples(name).inputs.shape[1:], CLASSES)


def trainer_of(
    name: str, optimizer: str, stack: int | None = None, way: Way | None = None
) -> Trainer:
    pool = examples(name)
    training = TrainingConfig(
        **SETTINGS[optimizer][0], batch_size=BATCH, steps=STEPS, evaluate_every=3
    )
    how = way or ways.way(case_of(name, training))
    cohort = ways.cohort([network(name, r) for r in range(REPLICAS)], CPU, stack, how)
    members = torch.stack([torch.arange(60).roll(5 * r)[:SIZE] for r in range(REPLICAS)])
    return Trainer(cohort, pool, members, {"test": pool}, training, list(range(REPLICAS)))


def finish(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.advance()
    return trainer


@functools.cache
def plain_loop(name: str, optimizer: str, replica: int, own_streams: bool = False) -> nn.Module:
    """The textbook loop. own_streams: with the dropout masks of the product, else with torch's own."""
    net, pool = network(name, replica), examples(name)
    layers: list[Dropout] = []
    if own_streams:
        layers = [m for m in adopt(net).modules() if isinstance(m, Dropout)]
    settings, kind = SETTINGS[optimizer]
    options = {k: v for k, v in settings.items() if k != "optimizer"}
    learned = [p for p in net.parameters() if p.requires_grad]
    torchs = kind(learned, **options)
    members = torch.arange(60).roll(5 * replica)[:SIZE]
    net.train()
    step = 0
    while step < STEPS:
        epoch = step // 3
        order = torch.randperm(SIZE, generator=streams.generator(replica, "order", epoch))
        for batch in members[order].split(BATCH):
            if step == STEPS:
                break
            drawn = streams.step_streams(torch.tensor([replica]), len(layers) + 1, step, 1)
            for number, layer in enumerate(layers, 1):
                layer.stream.copy_(drawn[0, number, 0])
                layer.calls = 0
            streams.seed_all(streams.key(replica, "module", step))
            torchs.zero_grad()
            F.cross_entropy(net(pool.inputs[batch]).float(), pool.targets[batch]).backward()
            torchs.step()
            step += 1
    return net.eval()


def assert_same(trainer: Trainer, name: str, optimizer: str) -> None:
    pool, vmapped = examples(name), trainer.cohort.way == "vmapped"
    predictions = trainer.predict(pool)
    for replica in range(REPLICAS):
        net = plain_loop(name, optimizer, replica, own_streams=vmapped)
        held = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        found = {**trainer.cohort.parameters, **trainer.cohort.buffers}
        assert set(found) == set(held)
        for key, wanted in held.items():
            if not key.endswith("stream"):
                torch.testing.assert_close(
                    found[key][replica].detach(),
                    wanted.detach(),
                    rtol=1e-4,
                    atol=1e-4,
                    msg=f"{key} of {replica}",
                )
        if name in RANDOM_IN_EVALUATION:
            continue
        with torch.no_grad():
            torch.testing.assert_close(
                predictions[replica], net(pool.inputs.clone()).float(), rtol=1e-4, atol=1e-4
            )
            alone = trainer.cohort.replica(replica)(pool.inputs.clone()).float()
        torch.testing.assert_close(alone, predictions[replica], rtol=1e-4, atol=1e-4)


# With AdamW the others are compared below, resumed.
@pytest.mark.parametrize(
    ("name", "optimizer"),
    [*[(name, "sgd") for name in NETWORKS], *[(name, "adamw") for name in STACKED]],
)
def test_a_persons_network_trains_as_in_a_plain_loop(name, optimizer):
    trainer = finish(trainer_of(name, optimizer))
    if name in STACKED:
        assert trainer.cohort.way == "vmapped", trainer.cohort.reason
    else:
        assert trainer.cohort.way == "vmapped" or trainer.cohort.reason
    assert NOTED.get(name, "") in " ".join(trainer.cohort.notes)
    assert name in NOTED or not trainer.cohort.notes
    assert_same(trainer, name, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STACKED)
def test_one_by_one_and_in_chunks_it_is_the_same(name, optimizer):
    for stack in (1, 2):
        trainer = finish(trainer_of(name, optimizer, stack))
        assert trainer.cohort.stack == stack
        assert_same(trainer, name, optimizer)


@pytest.mark.parametrize("name", NETWORKS)
def test_resumed_from_a_checkpoint_it_is_the_same(name):
    first = trainer_of(name, "adamw")
    first.advance()
    first.advance()
    kept, _ = checkpoint.decode(checkpoint.encode(first.state_dict(), {}))
    second = trainer_of(name, "adamw")
    second.load_state_dict(kept)
    assert 0 < second.step < STEPS
    assert_same(finish(second), name, "adamw")


@pytest.mark.parametrize("optimizer", FOR_SPARSE)
def test_sparse_gradients_train_as_in_a_plain_loop_and_from_a_checkpoint(optimizer):
    first = trainer_of("SparseTable", optimizer)
    assert first.cohort.way == "plain"
    first.advance()
    kept, _ = checkpoint.decode(checkpoint.encode(first.state_dict(), {}))
    assert_same(finish(first), "SparseTable", optimizer)
    second = trainer_of("SparseTable", optimizer)
    second.load_state_dict(kept)
    assert 0 < second.step < STEPS
    assert_same(finish(second), "SparseTable", optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)  # sgd with weight decay is no more of them
def test_sparse_gradients_that_an_optimizer_does_not_take_are_refused_with_a_remedy(optimizer):
    trainer_of("SparseTable", "momentum")
    with pytest.raises(ModelError, match="sparse=False, or choose sgd"):
        trainer_of("SparseTable", optimizer)


@pytest.mark.parametrize("name", ["OneDropout", "Frozen", "Tied", "GroupNormed"])
def test_what_may_be_stacked_is_right_one_by_one_with_torchs_own_randomness(name):
    assert_same(finish(trainer_of(name, "adamw", way=Way("plain"))), name, "adamw")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_by_name_with_a_remedy(name):
    with pytest.raises(ModelError) as error:
        trainer_of(name, "sgd")
    assert REFUSED[name] in str(error.value)
    assert "models/" not in str(error.value), "our own files tell a person nothing"
    if "fails in" in str(error.value):
        assert "own_networks.py:" in str(error.value)


def test_a_last_batch_of_one_and_batch_norm_is_refused_before_it_runs():
    training = TrainingConfig(batch_size=13, epochs=1)  # 40 = 3 x 13 + 1
    with pytest.raises(ModelError, match="last batch of an epoch has one"):
        ways.way(case_of("BatchNormed", training))


def test_each_call_of_one_dropout_layer_and_each_replica_draws_its_own_mask():
    layer = Dropout(0.5)
    layer.stream.fill_(77)
    first, second = layer(torch.ones(4000)), layer(torch.ones(4000))
    assert abs((first == second).float().mean() - 0.5) < 0.05
    layer.calls = 0
    assert torch.equal(layer(torch.ones(4000)), first)
    trainer = trainer_of("OneDropout", "sgd")
    trainer.cohort.set_streams(streams.step_streams(torch.arange(3), 2, 0, 1)[0, 1:])
    trainer.cohort.train(True)
    same = {n: p[:1].expand_as(p) for n, p in trainer.cohort.parameters.items()}
    with torch.no_grad():
        for name, parameter in trainer.cohort.parameters.items():
            parameter.copy_(same[name].clone())
        outputs = trainer.cohort.forward(
            trainer.cohort.parts[0], examples("OneDropout").inputs, shared=True
        )
    assert not torch.allclose(outputs[0], outputs[1])


def test_frozen_parameters_stay_as_they_were_under_weight_decay():
    trainer = trainer_of("Frozen", "adamw")
    before = trainer.cohort.parameters["first.weight"].clone()
    finish(trainer)
    assert torch.equal(trainer.cohort.parameters["first.weight"], before)
    assert not torch.allclose(before[0], before[1])


def test_early_stopping_keeps_the_best_weights_of_a_plain_cohort():
    pool = examples("FunctionalDropout")
    training = TrainingConfig(batch_size=8, epochs=40, lr=0.05, early_stopping=2, evaluate_every=1)
    how = ways.way(case_of("FunctionalDropout", training))
    assert how.way == "plain"
    cohort = ways.cohort([network("FunctionalDropout", r) for r in range(2)], CPU, None, how)
    members = torch.arange(SIZE).expand(2, SIZE)
    held = Examples(pool.inputs[SIZE:], pool.targets[SIZE:])
    trainer = finish(Trainer(cohort, pool, members, {"validation": held}, training, [0, 1]))
    stop = trainer.early_stopping
    assert stop.stopped.all()
    torch.testing.assert_close(trainer.evaluate().loss["validation"], stop.best_loss)
