"""Measures where each position of an example has a target: errors are of tokens, memorization is of windows.

An example is a window of text. What counts right and wrong counts tokens; what asks whether an example was trained
on asks it of the window, whose score is the share of its tokens that are right. Knows no text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engram.data.config import ReplicasConfig
from engram.data.dataset import Dataset
from engram.models.examples import Examples
from engram.sweeps.trial.trial import Trial

# Numbers of a set's predictions that are kept for measures at once, all replicas together: 256 MiB of doubles.
MOST_NUMBERS = 2**25
CHUNK = 512  # windows whose predictions are there at once


def looked_at(targets: np.ndarray, classes: int | None, replicas: ReplicasConfig) -> np.ndarray:
    """The windows of a set that measures of predictions look at: all, or a random choice of as many as memory takes."""
    count, steps = targets.shape
    most = max(1, MOST_NUMBERS // (steps * (classes or 1) * replicas.count))
    if count <= most:
        return np.arange(count)
    generator = np.random.Generator(np.random.PCG64([replicas.seed, count]))
    return np.sort(generator.choice(count, most, replace=False))


def by_token(trial: Trial, name: str) -> tuple[Tensor, np.ndarray]:
    """Outputs [R, N, C] and targets [N] of a set, a token each."""
    examples, targets = trial.trainer.sets[name], trial.targets_of(name)
    chosen = looked_at(targets, trial.dataset.classes, trial.configuration.replicas)
    index = torch.from_numpy(chosen).to(examples.inputs.device)
    some = Examples(examples.inputs[index], examples.targets[index])
    return trial.trainer.predict(some).flatten(1, 2), targets[chosen].reshape(-1)


def answers(dataset: Dataset, replicas: ReplicasConfig) -> tuple[np.ndarray, np.ndarray]:
    """Targets [N] of the test set as `by_token` has them, and where in the text each token stands."""
    chosen = looked_at(dataset.test_targets, dataset.classes, replicas)
    targets = dataset.test_targets[chosen]
    places = dataset.test_ids[chosen][:, None] + np.arange(1, targets.shape[1] + 1)
    return targets.reshape(-1), places.reshape(-1)


def windows(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Of each measured window of the pool: share of its tokens that are right, and their mean log-likelihood [R, N]."""
    trainer, ids = trial.trainer, torch.from_numpy(trial.measured_ids)
    right, likely = [], []
    for some in ids.split(CHUNK):
        some = some.to(trainer.pool.inputs.device)
        inputs, targets = trainer.pool.inputs[some], trainer.pool.targets[some].cpu()
        outputs = trainer.predict(Examples(inputs, targets))  # [R, n, T, C]
        right.append((outputs.argmax(-1) == targets).double().mean(-1))
        wanted = targets.expand(outputs.shape[:-1])[..., None]
        each = torch.log_softmax(outputs.double(), -1).gather(-1, wanted)[..., 0]
        likely.append(each.mean(-1))
    return torch.cat(right, 1).numpy(), torch.cat(likely, 1).numpy()
