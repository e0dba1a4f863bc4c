"""The networks of a configuration for a dataset, and how they run: a cohort, before its first step."""

from __future__ import annotations

import torch

from engram.data import augmentation
from engram.data.dataset import Dataset
from engram.models import streams, ways
from engram.models.cohort import Cohort, default_stack
from engram.models.family import build
from engram.models.losses import with_named_weights
from engram.models.plain import PlainCohort
from engram.models.training import Augment, Examples
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.trial import resident

REHEARSED = 64  # examples that a person's network is tried on


def make_cohort(
    configuration: Configuration,
    dataset: Dataset,
    device: torch.device,
    first: int = 0,
    purpose: str = "init",
    stop: int | None = None,
) -> Cohort | PlainCohort:
    """Networks [first, stop) of a configuration's R, each from its own stream for this purpose."""
    replicas = configuration.replicas
    outputs, image = dataset.outputs, dataset.kind == "image"
    modules = []
    for replica in range(first, replicas.count if stop is None else stop):
        with streams.forked():
            streams.seed_all(streams.key(replicas.seed, purpose, replica))
            modules.append(
                build(configuration.model, dataset.shape, outputs, image, dataset.tokens)
            )
    automatic = default_stack(configuration.model.family, device, replicas.count, image)
    stack = automatic if replicas.stack == "auto" else replicas.stack
    return ways.cohort(modules, device, stack, way(configuration, dataset, device))


def way(configuration: Configuration, dataset: Dataset, device: torch.device) -> ways.Way:
    """How the networks of a configuration run here; found once in each process."""
    few = Examples(
        resident.tensor(dataset.inputs[:REHEARSED]), resident.tensor(dataset.targets[:REHEARSED])
    )
    case = ways.Case(
        configuration.model,
        with_named_weights(configuration.training, dataset.names),
        dataset.shape,
        dataset.outputs,
        dataset.kind == "image",
        few,
        configuration.data.train_size,
        device,
        augment_of(configuration, dataset),
        dataset.tokens,
    )
    return ways.way(case)


def augment_of(configuration: Configuration, dataset: Dataset) -> Augment | None:
    """The augmentation that a configuration asks for."""
    transform = augmentation.get(configuration.data.augmentation, dataset.kind)
    return None if transform is None else (transform, transform.uniforms(dataset.shape))
