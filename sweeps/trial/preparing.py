"""From a configuration and a dataset to a trial that has not begun: of networks, or of a learner."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from engram.data import canaries, noise, subsets
from engram.data.canaries import Canaries
from engram.data.dataset import Dataset
from engram.models import streams
from engram.models.learners import kinds
from engram.models.learners.trainer import Material
from engram.models.losses import with_named_weights
from engram.models.training import Examples, Trainer
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import resident
from engram.sweeps.trial.cohorts import augment_of, make_cohort
from engram.sweeps.trial.learned import LearnedTrial, learner_of
from engram.sweeps.trial.trial import Trial
from engram.sweeps.trial.watch import Watch, measured


def prepare(
    configuration: Configuration,
    dataset: Dataset,
    device: torch.device,
    first: int = 0,
    wanted: MeasuresConfig | None = None,
    scratch: Path | None = None,
    capture: bool = False,
    stop: int | None = None,
) -> Trial:
    """Everything up to the first step. Deterministic: the same on every machine and in every process.

    first, stop: of the configuration's replicas these alone, the others being trained elsewhere or before. wanted: the measures
    that will be taken; without it training is not watched. scratch: where a learner may write. capture: record steps
    and replay them, where they can be.
    """
    data, replicas = configuration.data, configuration.replicas
    training = with_named_weights(configuration.training, dataset.names)
    if training is not configuration.training:
        configuration = configuration.model_copy(update={"training": training})
    stop = replicas.count if stop is None else stop
    pool_ids, validation_ids, drawn, targets, wrong, ids = ground(configuration, dataset)
    members = drawn[first:stop].copy() if stop - first < len(drawn) else drawn
    del drawn
    if kinds.of(configuration.model.family) is not None:
        material = Material(
            dataset.inputs,
            targets,
            dataset.ids,
            validation_ids,
            ids,
            dataset.test_inputs,
            dataset.test_targets,
            dataset.classes,
            dataset.outputs,
            dataset.kind == "image",
            dataset.shape,
        )
        learner = learner_of(configuration, material, members, first, device, scratch, stop)
        return LearnedTrial(configuration, dataset, learner, members, pool_ids, targets, wrong, ids)
    pool, test = resident.on(dataset, device)
    if wrong.any() or data.random_labels:
        pool = Examples(pool.inputs, resident.tensor(targets))
    planted, besides = None, None
    if data.canaries:
        planted = canaries.plant(dataset, data.canaries, replicas.seed)
        copies = [planted.copies(len(pool), r) for r in range(first, stop)]
        besides = torch.from_numpy(np.stack(copies))
        pool = _with(pool, planted)
    validation = Examples(pool.inputs[validation_ids], pool.targets[validation_ids])
    sets = {"validation": validation, "test": test}
    cohort = make_cohort(configuration, dataset, device, first, stop=stop)
    keys = [streams.key(replicas.seed, "replica", r) for r in range(first, stop)]
    trainer = Trainer(
        cohort,
        pool,
        torch.from_numpy(members),
        sets,
        configuration.training,
        keys,
        augment_of(configuration, dataset),
        capture,
        besides,
    )
    watched = watch_of(wanted, dataset, ids, targets, wrong)
    trial = Trial(configuration, dataset, trainer, members, pool_ids, targets, wrong, ids, watched)
    trial.canaries, trial.first = planted, first
    return trial


def _with(pool: Examples, planted: Canaries) -> Examples:
    """The pool and, after it, what is planted."""
    windows = torch.from_numpy(planted.windows).to(pool.inputs.device)
    return Examples(
        torch.cat([pool.inputs, windows[:, :-1]]), torch.cat([pool.targets, windows[:, 1:]])
    )


class Ground(NamedTuple):
    """What all replicas of a trial stand on. members: [R, m] rows of the pool; ids: those that measures look at."""

    pool_ids: np.ndarray
    validation_ids: np.ndarray
    members: np.ndarray
    targets: np.ndarray
    wrong: np.ndarray
    ids: np.ndarray


def ground(configuration: Configuration, dataset: Dataset) -> Ground:
    """Who trains on what, and who is looked at: the same in every process."""
    data, replicas = configuration.data, configuration.replicas
    pool_ids, validation_ids = subsets.holdout(
        len(dataset.targets), data.validation, replicas.seed, dataset.division
    )
    members = subsets.draw(pool_ids, data.train_size, replicas, dataset.division)
    ids = measured(members, pool_ids, replicas.seed)
    return Ground(pool_ids, validation_ids, members, *_targets(configuration, dataset), ids)


def _targets(configuration: Configuration, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    data, seed = configuration.data, configuration.replicas.seed
    if data.random_labels:
        targets, wrong = noise.randomize(dataset.targets, dataset.classes, seed)
    else:
        targets, wrong = noise.corrupt(dataset.targets, data.label_noise, dataset.classes, seed)
    return targets, wrong


def watch_of(
    wanted: MeasuresConfig | None,
    dataset: Dataset,
    ids: np.ndarray,
    targets: np.ndarray,
    wrong: np.ndarray,
) -> Watch | None:
    """A watch where forgetting is asked for, or where some labels are wrong and some are not."""
    if wanted is None or dataset.classes is None:
        return None
    noisy = bool(wrong[ids].any() and not wrong[ids].all())
    if not (wanted.forgetting or noisy):
        return None
    return Watch(ids, targets[ids], dataset.targets[ids] if noisy else None)
