"""Measures where each position of an example has a target: errors are of tokens, memorization is of windows.

An example is a window of text, or any tokens; a target of -1 counts nowhere. What counts right and wrong counts tokens; what asks whether an example was trained
on asks it of the window, whose score is the share of its tokens that are right. Knows no text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engram.data.canaries import SECRET, Canaries
from engram.data.config import ReplicasConfig
from engram.data.dataset import Dataset
from engram.measures.exposure import exposure
from engram.models.examples import Examples
from engram.models.losses import NONE
from engram.sweeps.trial.record_writer import RecordWriter
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
    targets = trial.targets_of(name)
    chosen = looked_at(targets, trial.dataset.classes, trial.configuration.replicas)

    def outputs() -> Tensor:
        examples = trial.trainer.sets[name]
        index = torch.from_numpy(chosen).to(examples.inputs.device)
        some = Examples(examples.inputs[index], examples.targets[index])
        return trial.trainer.predict(some).flatten(1, 2)

    found, wanted = trial.told(name, outputs), targets[chosen].reshape(-1)
    there = wanted != NONE
    return (found, wanted) if there.all() else (found[:, there], wanted[there])


def answers(dataset: Dataset, replicas: ReplicasConfig) -> tuple[np.ndarray, np.ndarray]:
    """Targets [N] of the test set as `by_token` has them, and where in the text each token stands."""
    chosen = looked_at(dataset.test_targets, dataset.classes, replicas)
    targets = dataset.test_targets[chosen]
    places = dataset.test_ids[chosen][:, None] + np.arange(1, targets.shape[1] + 1)
    there = targets.reshape(-1) != NONE
    return targets.reshape(-1)[there], places.reshape(-1)[there]


def windows(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Of each measured window of the pool: share of its tokens that are right, and their mean log-likelihood [R, N]."""
    both = trial.told("windows", lambda: _windows(trial)).numpy()
    return both[:, 0], both[:, 1]


def _windows(trial: Trial) -> Tensor:
    """The two as [R, 2, N]."""
    trainer, ids = trial.trainer, torch.from_numpy(trial.measured_ids)
    right, likely = [], []
    for some in ids.split(CHUNK):
        some = some.to(trainer.pool.inputs.device)
        inputs, targets = trainer.pool.inputs[some], trainer.pool.targets[some].cpu()
        outputs = trainer.predict(Examples(inputs, targets))  # [R, n, T, C]
        there = targets != NONE  # [n, T]
        count = there.sum(-1)
        right.append(((outputs.argmax(-1) == targets) & there).sum(-1) / count.double())
        wanted = targets.clamp(min=0).expand(outputs.shape[:-1])[..., None]
        each = torch.log_softmax(outputs.double(), -1).gather(-1, wanted)[..., 0]
        likely.append(each.where(there, 0).sum(-1) / count)
    return torch.stack([torch.cat(right, 1), torch.cat(likely, 1)], 1)


def of_canaries(trial: Trial, planted: Canaries) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of the alphabet after each beginning [R, K, B, S, A], and the likeliest tokens [R, K, S]."""

    def after_beginnings() -> Tensor:
        begun = planted.beginnings()  # [K, B, T]
        inputs = torch.from_numpy(begun.reshape(-1, begun.shape[-1]))
        logs = torch.log_softmax(trial.trainer.last(inputs, SECRET).double(), -1)
        return logs.unflatten(1, begun.shape[:2])[..., torch.from_numpy(planted.alphabet)]

    def likeliest() -> Tensor:
        return trial.trainer.last(torch.from_numpy(planted.windows[:, :-1]), SECRET).argmax(-1)

    return trial.told("beginnings", after_beginnings), trial.told("likeliest", likeliest)


def canaries(trial: Trial, planted: Canaries, alive: np.ndarray, note: RecordWriter) -> None:
    """exposure_K and extracted_K of each replica: means over its canaries that an epoch shows K times."""
    places = (planted.secrets[..., None] == planted.alphabet).argmax(-1)  # [K, S]
    begun = planted.beginnings()  # [K, B, T]
    of_alphabet, right = (answer.numpy() for answer in of_canaries(trial, planted))
    total = of_alphabet[..., -1, :]  # [R, K, B, A]: the last token, after each beginning
    size = len(planted.alphabet)
    for step in range(SECRET - 1):
        digit = np.arange(begun.shape[1]) // size ** (SECRET - 2 - step) % size  # of each beginning
        index = np.broadcast_to(digit[:, None], (*of_alphabet.shape[:3], 1))
        total = total + np.take_along_axis(of_alphabet[..., step, :], index, -1)
    place = (places * size ** np.arange(SECRET - 1, -1, -1)).sum(1)
    shape = *total.shape[:2], -1
    bits = exposure(total.reshape(shape), np.broadcast_to(place, total.shape[:2]))  # [R, K]
    said = (right == planted.secrets).all(-1)  # [R, K]: the likeliest token, step by step
    seen = np.stack([planted.seen(trial.first + r) for r in range(len(bits))])
    for count in planted.counts:
        chosen = seen == count
        for name, values in (("exposure", bits), ("extracted", said)):
            note.values(f"{name}_{count}", (values * chosen).sum(1)[alive] / chosen.sum(1)[alive])
    note.keep("exposure", bits.astype(np.float32))
    note.keep("canary_seen", seen)
