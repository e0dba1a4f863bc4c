"""The central promise: a replica is the same network alone, in a stack, in chunks, on 1 or 2 threads."""

import pytest
import torch
from torch import nn

from engram.models.cohort import Cohort, default_stack
from engram.models.config import FAMILIES, ModelConfig, TrainingConfig
from engram.models.family import build
from tests.models.conftest import CLASSES, SHAPE, examples, networks, train

TRAINING = TrainingConfig(epochs=2, batch_size=16, lr=1e-2, clip=1.0, evaluate_every=1)
TOLERANCE = dict(rtol=1e-4, atol=2e-5)


def small(family: str, dropout: float = 0.3) -> ModelConfig:
    return ModelConfig(family=family, width=6, depth=2, dropout=dropout)


def state(trainer, replica: int = 0) -> torch.Tensor:
    return torch.cat([p.detach()[replica].flatten() for p in trainer.cohort.parameters.values()])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_replica_alone_equals_itself_among_sixteen(make_trainer, family):
    together = train(make_trainer(small(family), TRAINING, list(range(16))))
    alone = train(make_trainer(small(family), TRAINING, [11]))
    torch.testing.assert_close(state(alone), state(together, 11), **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stack", [1, 3])
def test_chunks_and_one_by_one_equal_the_stack(make_trainer, family, stack):
    stacked = train(make_trainer(small(family), TRAINING, [0, 1, 2, 3], stack=4))
    parts = train(make_trainer(small(family), TRAINING, [0, 1, 2, 3], stack=stack))
    assert len(parts.cohort.parts) == -(-4 // stack)
    for replica in range(4):
        torch.testing.assert_close(state(parts, replica), state(stacked, replica), **TOLERANCE)
    torch.testing.assert_close(
        parts.predict(examples()), stacked.predict(examples()), rtol=1e-3, atol=1e-4
    )


def test_fully_connected_nets_agree_to_the_last_bit_in_stacks_of_two_and_more(make_trainer):
    """What a suspicion of memory may change (sweeps/running/trials.py): training amplifies last digits."""
    stacked = train(make_trainer(small("feedforward"), TRAINING, [0, 1, 2, 3, 4], stack=5))
    for stack in (2, 3, 4):
        parts = train(make_trainer(small("feedforward"), TRAINING, [0, 1, 2, 3, 4], stack=stack))
        for name, parameter in stacked.cohort.parameters.items():
            assert torch.equal(parts.cohort.parameters[name], parameter), (stack, name)


@pytest.mark.parametrize("family", ["feedforward", "rnn", "gru", "lstm"])
def test_a_network_that_takes_stacked_parameters_gives_what_vmap_gives(make_trainer, family):
    made = [make_trainer(small(family), TRAINING, [0, 1, 2], stack=3) for _ in range(2)]
    assert all(trainer.cohort.direct for trainer in made)
    made[1].cohort.direct = False
    inputs = examples().inputs
    outputs = [t.cohort.forward(t.cohort.parts[0], inputs.expand(3, *inputs.shape)) for t in made]
    assert torch.equal(*outputs)  # gradients are summed in another order
    direct, mapped = map(train, made)
    for name, parameter in direct.cohort.parameters.items():
        torch.testing.assert_close(mapped.cohort.parameters[name], parameter, **TOLERANCE)


@pytest.mark.parametrize(
    ("shape", "image"), [((12,), False), ((3, 9), False), ((7, 8), True), ((2, 6, 5), True)]
)
def test_stacked_convolutions_have_the_outputs_and_gradients_of_each_alone(shape, image):
    config = ModelConfig(family="convolutional", width=6, depth=3, dropout=0.3)
    modules = [build(config, shape, 4, image) for _ in range(3)]
    inputs, weights = torch.randn(3, 5, *shape), torch.randn(3, 5, 4)
    found = []
    for stack in (3, 1):
        cohort = Cohort(modules, torch.device("cpu"), stack)
        cohort.set_streams(torch.arange(9, dtype=torch.int32).view(3, 3))
        outputs = [cohort.forward(part, inputs[part.replicas]) for part in cohort.parts]
        (torch.cat(outputs) * weights).sum().backward()
        found.append([torch.cat(outputs), *(p.grad for p in cohort.parameters.values())])
        shared = torch.cat([cohort.forward(part, inputs[0], shared=True) for part in cohort.parts])
        torch.testing.assert_close(shared[0], found[-1][0][0], rtol=1e-4, atol=1e-5)
    for stacked, alone in zip(*found, strict=True):
        torch.testing.assert_close(stacked, alone, rtol=1e-4, atol=1e-5)


def test_one_and_two_threads_agree(make_trainer):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = train(make_trainer(small("feedforward"), TRAINING, [0, 1]))
        torch.set_num_threads(2)
        two = train(make_trainer(small("feedforward"), TRAINING, [0, 1]))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(state(one), state(two), **TOLERANCE)


def test_splitting_in_mid_training_changes_nothing(make_trainer):
    whole = train(make_trainer(small("feedforward"), TRAINING, [0, 1, 2, 3]))
    cut = make_trainer(small("feedforward"), TRAINING, [0, 1, 2, 3])
    cut.advance()
    cut.cohort.split(2)
    train(cut)
    torch.testing.assert_close(state(cut, 3), state(whole, 3), **TOLERANCE)


def test_replicas_differ_from_each_other(make_trainer):
    trainer = train(make_trainer(small("feedforward"), TRAINING, [0, 1]))
    assert not torch.allclose(state(trainer, 0), state(trainer, 1), atol=1e-2)


class UserNet(nn.Module):
    """A module as a user writes it: plain nn.Dropout, positional shape and outputs."""

    def __init__(self, shape, outputs, width=8, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], width), nn.Tanh(), nn.Dropout(dropout))
        self.readout = nn.Linear(width, outputs)

    def forward(self, inputs):
        return self.readout(self.layers(inputs))


class WithBatchNorm(UserNet):
    def __init__(self, shape, outputs, width=8):
        super().__init__(shape, outputs, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, inputs):
        return self.readout(self.norm(self.layers(inputs)))


class WithOwnNoise(UserNet):
    def forward(self, inputs):
        noise = torch.randn_like(inputs) if self.training else 0.0
        return super().forward(inputs + 0.1 * noise)


def user(cls: type) -> ModelConfig:
    return ModelConfig(family=f"{__name__}:{cls.__name__}", width=8, dropout=0.4)


def test_a_users_dropout_belongs_to_the_replica(make_trainer):
    together = train(make_trainer(user(UserNet), TRAINING, [0, 1, 2]))
    assert together.cohort.way == "vmapped"
    assert together.cohort.dropouts
    alone = train(make_trainer(user(UserNet), TRAINING, [2]))
    torch.testing.assert_close(state(alone), state(together, 2), **TOLERANCE)


@pytest.mark.parametrize("cls", [WithOwnNoise])
def test_what_cannot_be_stacked_runs_one_by_one_and_says_why(make_trainer, cls):
    together = train(make_trainer(user(cls), TRAINING, [0, 1, 2]))
    assert together.cohort.way == "plain"
    assert together.cohort.reason
    assert together.cohort.stack == 1
    alone = train(make_trainer(user(cls), TRAINING, [2]))
    torch.testing.assert_close(state(alone), state(together, 2), **TOLERANCE)


def test_batch_statistics_are_kept_per_replica(make_trainer):
    trainer = train(make_trainer(user(WithBatchNorm), TRAINING, [0, 1]))
    means = trainer.cohort.buffers["norm.running_mean"]
    assert not torch.allclose(means[0], means[1])
    assert trainer.cohort.buffers["norm.num_batches_tracked"].tolist() == [8, 8]


def test_a_replica_leaves_the_cohort_as_an_ordinary_module(make_trainer):
    trainer = train(make_trainer(small("gru"), TRAINING, [0, 1, 2]))
    pool = examples()
    outputs = trainer.predict(pool)
    with torch.no_grad():
        own = trainer.cohort.replica(1)(pool.inputs)
    torch.testing.assert_close(own, outputs[1], rtol=1e-3, atol=1e-4)


def test_parameters_are_counted_for_one_replica():
    cohort = Cohort(networks(ModelConfig(width=10, depth=1), [0, 1, 2]), torch.device("cpu"))
    assert cohort.parameter_count == (12 * 10 + 10) + (10 * CLASSES + CLASSES)
    assert SHAPE == (12,)


def test_only_networks_with_fast_cpu_kernels_of_their_own_run_one_by_one_on_a_cpu():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert default_stack("feedforward", cpu, 8) == 8
    assert default_stack("convolutional", cpu, 8) == 8
    assert default_stack("convolutional", cpu, 8, image=True) == 1
    assert default_stack("lstm", cpu, 8) == 1
    assert default_stack("gru", cpu, 8) == 8
    assert default_stack("gru", cpu, 100) == 32
    assert default_stack("lstm", gpu, 8) == 8
