"""Secrets planted in a text, to see which of them a network gives away.

A canary is a window of random tokens, drawn as often as they stand in the pool, that ends in a secret: some tokens of a
small alphabet. How often an epoch shows it goes round with the replica, so that each canary is often seen by some
replicas and never by others, and nothing but that differs. Source: Carlini et al. 2019, arXiv:1802.08232.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset, Facts

SECRET = 3  # tokens of a secret
ALPHABET = 10  # tokens that it is made of: the commonest of the pool
EACH = 4  # canaries of a replica that are seen equally often
_SEED = 31  # the number after the study's, of the random numbers here


@dataclass(frozen=True)
class Canaries:
    """windows: int64 [K, T + 1], what is planted; alphabet: int64 [A]; counts: how often an epoch shows them."""

    windows: np.ndarray
    alphabet: np.ndarray
    counts: tuple[int, ...]

    @property
    def secrets(self) -> np.ndarray:
        """int64 [K, SECRET]."""
        return self.windows[:, -SECRET:]

    def seen(self, replica: int) -> np.ndarray:
        """How often an epoch shows each canary to a replica: int64 [K], each count EACH times."""
        turn = (np.arange(len(self.windows)) + replica) % len(self.counts)
        return np.array(self.counts, np.int64)[turn]

    def copies(self, first: int, replica: int) -> np.ndarray:
        """The canaries that a replica trains on, numbered from `first`, each as often as it is seen."""
        return np.repeat(first + np.arange(len(self.windows)), self.seen(replica))

    def beginnings(self) -> np.ndarray:
        """Inputs whose last outputs tell every possible secret's probability: int64 [K, A ** (SECRET - 1), T]."""
        middles = np.array(list(itertools.product(self.alphabet, repeat=SECRET - 1)))
        count = len(middles)
        prefixes = np.repeat(self.windows[:, None, :-SECRET], count, axis=1)
        return np.concatenate(
            [prefixes, np.broadcast_to(middles, (len(prefixes), *middles.shape))], axis=2
        )


def plant(dataset: Dataset, counts: tuple[int, ...], seed: int) -> Canaries:
    """The same canaries for every trial of a study on this dataset."""
    generator = np.random.Generator(np.random.PCG64([seed, _SEED]))
    often = np.bincount(dataset.targets.reshape(-1), minlength=dataset.classes or 0).astype(float)
    often[0] = 0  # unknown
    alphabet = np.argsort(-often, kind="stable")[:ALPHABET]
    size, length = EACH * len(counts), dataset.inputs.shape[1] + 1
    prefixes = generator.choice(len(often), (size, length - SECRET), p=often / often.sum())
    secrets = generator.choice(alphabet, (size, SECRET))
    return Canaries(np.concatenate([prefixes, secrets], axis=1), alphabet, counts)


def check(data: DataConfig, facts: Facts) -> None:
    """Raise DataError where canaries cannot be planted."""
    if not data.canaries:
        return
    counts, shown = data.canaries, list(data.canaries)
    if min(counts) < 0 or len(set(counts)) < len(counts):
        rule, fix = "is no list of different counts from 0 on", "write such as [0, 1, 4, 16]"
        raise DataError("data.canaries", shown, rule, fix)
    if not facts.every_step or facts.tokens is None:
        rule, fix = "are planted in text whose next token is predicted", "leave them out"
        raise DataError("data.canaries", shown, rule, fix)
    if len(facts.tokens.words) <= ALPHABET:
        raise DataError(
            "data.canaries",
            shown,
            f"hide secrets of {ALPHABET} different tokens, and the text has {len(facts.tokens.words) - 1}",
            "take a richer text, or other tokens",
        )
    if facts.shape[0] <= SECRET:
        raise DataError(
            "data.window",
            facts.shape[0],
            f"has no room for a canary, which ends in {SECRET} secret tokens",
            f"write {SECRET + 1} or more",
        )
