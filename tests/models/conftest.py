"""Cohorts small enough to train in a test, built from seeds alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from engram.models import streams, ways
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.family import build
from engram.models.training import Examples, Trainer

SHAPE, CLASSES = (12,), 4


def examples(count: int = 120, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Examples:
    """Classes that a small network can learn: which quarter of a random direction an input falls in."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, *shape, generator=generator)
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    score = (inputs * direction).flatten(1).sum(1)
    return Examples(inputs, (score.argsort().argsort() * CLASSES // count).long())


def networks(
    model: ModelConfig, replicas: list[int], shape: tuple[int, ...] = SHAPE
) -> list[nn.Module]:
    built = []
    for replica in replicas:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.key(0, "init", replica))
            built.append(build(model, shape, CLASSES))
    return built


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """Trainer of a cohort of the given replica numbers."""

    def make(
        model: ModelConfig,
        training: TrainingConfig,
        replicas: list[int],
        stack: int | None = None,
        train_size: int = 50,
        modules: list[nn.Module] | None = None,
        augment=None,
        way=None,
        capture=False,
    ) -> Trainer:
        pool = examples()
        cpu = torch.device("cpu")
        case = ways.Case(model, training, SHAPE, CLASSES, False, pool, train_size)
        how = way or ways.way(case)
        cohort = ways.cohort(modules or networks(model, replicas), cpu, stack, how)
        members = torch.stack(
            [
                torch.randperm(120, generator=streams.generator("subset", r))[:train_size]
                for r in replicas
            ]
        )
        keys = [streams.key(0, "replica", r) for r in replicas]
        sets = {"validation": examples(40, seed=2), "test": examples(40, seed=3)}
        return Trainer(cohort, pool, members, sets, training, keys, augment, capture)

    return make


def train(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.advance()
    return trainer
