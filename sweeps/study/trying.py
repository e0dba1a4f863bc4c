"""A person's class on real examples of the study's data, before anything runs.

Imports numerics and loads data, so only checks and plans that have a person's class to try call it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engram.data import augmentation, catalog
from engram.data.config import DataConfig
from engram.data.dataset import Tokens
from engram.models import trouble, ways
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.families import ModelError, is_own
from engram.models.learners import kinds
from engram.models.losses import with_named_weights
from engram.models.named import named
from engram.models.training import Augment, Examples
from engram.problems import Problem
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Configuration, Study
from engram.sweeps.study.sections import Range, Values

COUNT = 64  # examples that a network is tried on
MOST_TRIED = 8  # kinds of network in one study
MOST_LOOKED_AT = 2000
log = logging.getLogger(__name__)
# Of a study, what makes another kind of network or training; rates and sizes do not.
OF_TRAINING = ("optimizer", "options", "loss", "label_smoothing", "class_weights", "schedule")


@dataclass(frozen=True)
class Some:
    """A few examples of a dataset. outputs: classes, or values to predict."""

    examples: Examples
    shape: tuple[int, ...]
    outputs: int
    image: bool
    tokens: Tokens | None = None
    names: tuple[str, ...] = ()  # of classes


def examples(config: DataConfig) -> Some:
    """A few of a dataset's own examples, loaded once in each process."""
    source = config.model_copy(
        update={"label_noise": 0.0, "random_labels": False, "augmentation": "none"}
    )
    return _loaded(source.model_dump_json())


@functools.lru_cache(maxsize=4)
def _loaded(source: str) -> Some:
    import torch

    config = DataConfig.model_validate_json(source)
    few = COUNT if catalog.describe(config).generated else None
    kept = paths.cache_dir() if config.name.startswith("openml:") else None
    data = catalog.load(config, pool_size=few, cache=kept)
    targets = torch.tensor(data.targets[:COUNT])
    if targets.is_floating_point() and targets.dim() == 1:
        targets = targets[:, None]
    return Some(
        Examples(torch.tensor(data.inputs[:COUNT]), targets),
        data.shape,
        data.outputs,
        data.kind == "image",
        data.tokens,
        data.names,
    )


def problems(study: Study) -> Iterator[Problem]:
    """What is wrong with the study's networks and its own pieces of training, each kind tried once."""
    for configuration in _kinds(study):
        model, training = configuration.model, configuration.training
        try:
            some = examples(configuration.data)
            ways.tried(case(model, training, configuration.data, some))
        except ModelError as error:
            yield _problem(study, configuration, str(error))
        except Exception as error:
            if trouble.kind(error) == "trial":
                raise
            log.warning("%s could not be tried here: %s", model.family, error)


def case(model: ModelConfig, training: TrainingConfig, data: DataConfig, some: Some) -> ways.Case:
    """What a configuration says, as the kind of network and training that it is."""
    augment = _own_augmentation(data.augmentation)
    sizes = some.shape, some.outputs, some.image
    return ways.Case(
        model,
        with_named_weights(training, some.names),
        *sizes,
        some.examples,
        data.train_size,
        augment=augment,
        tokens=some.tokens,
    )


def _own_augmentation(name: str) -> Augment | None:
    """A person's function, to be tried with the network; the house's need no trying."""
    if ":" not in name:
        return None
    named(name, "data.augmentation")
    change = augmentation.get(name, "vector")
    assert change is not None
    return change, change.uniforms(())


def _problem(study: Study, configuration: Configuration, said: str) -> Problem:
    """The error at the key that it speaks of, or at the class."""
    known = [f"training.{name}" for name in TrainingConfig.model_fields]
    known += [*(f"model.{name}" for name in ModelConfig.model_fields), "data.augmentation"]
    key = next((k for k in known if said.startswith(k) or said.startswith(f"{k}:")), "model.family")
    section, _, name = key.partition(".")
    value = getattr(getattr(configuration, section), name)
    first, _, rest = said.partition("\n")
    return Problem(study.place(key, value), f"cannot be used: {first}", rest.strip(), key, value)


def _kinds(study: Study) -> list[Configuration]:
    """One configuration of each kind that has something of a person's own in it."""
    found: dict[tuple[Any, ...], Configuration] = {}
    for configuration in configurations(study):
        model, training = configuration.model, configuration.training
        asked = {name: getattr(training, name) for name in OF_TRAINING}
        default = TrainingConfig()
        plain = all(
            asked[name] == getattr(default, name) for name in OF_TRAINING if name != "optimizer"
        )
        known = asked["optimizer"] in ("sgd", "adam", "adamw") and plain
        said = (
            model.options or model.start or model.freeze or ":" in configuration.data.augmentation
        )
        if not is_own(model.family) and known and not said:
            continue
        if is_own(model.family) and kinds.of(model.family) is not None:
            continue  # trained as it is: a try would be the training
        last = configuration.data.train_size % training.step_size % training.batch_size
        data = configuration.data.name, configuration.data.augmentation
        kind = (model.model_dump_json(), str(asked), *data, last == 1)
        found.setdefault(kind, configuration)
        if len(found) == MOST_TRIED:
            break
    return list(found.values())


def configurations(study: Study) -> Iterator[Configuration]:
    """Those of the study, up to MOST_LOOKED_AT; with distributions a few in which each key takes all of its values."""
    if study.search.sampler == "grid":
        for point in study.grid()[:MOST_LOOKED_AT]:
            yield study.configure(point)
        return
    axes = study.sweep.items()
    most = max([2, *(len(axis.values) for _, axis in axes if isinstance(axis, Values))])
    for index in range(most):
        yield study.configure(
            {
                key: (axis.low, axis.high)[index % 2]
                if isinstance(axis, Range)
                else axis.values[index % len(axis.values)]
                for key, axis in axes
            }
        )
