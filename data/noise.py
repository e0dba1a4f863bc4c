"""Wrong labels: drawn once per example id, before any subset, and never for the test set."""

from __future__ import annotations

import numpy as np

# Each use of the seed has a stream of its own: the number after the seed.
_WHETHER, _WHICH, _GAUSSIAN, _RANDOM = 21, 22, 23, 24


def corrupt(
    targets: np.ndarray, rate: float, classes: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share `rate` of the labels by another class, each of the others equally likely.

    targets [n] -> noisy targets [n], wrong bool [n]. Example i has one uniform and one replacement
    of its own: it is wrong where rate exceeds the uniform. So the examples that are wrong at one
    rate are wrong, the same way, at every higher one, and a shorter pool agrees with a longer one.
    Each example is wrong with probability `rate`; the share found is binomial about it.

    Regression (classes None, targets [n] or [n, K]): adds normal noise of `rate` standard
    deviations of the target itself; every example is moved then, and `wrong` marks all of them.
    """
    count = len(targets)
    if rate == 0:
        return targets.copy(), np.zeros(count, dtype=bool)
    if classes is None:
        deviates = _generator(seed, _GAUSSIAN).standard_normal(targets.shape)
        noisy = targets + rate * targets.std(axis=0, dtype=np.float64) * deviates
        return noisy.astype(targets.dtype), np.ones(count, dtype=bool)
    wrong = _generator(seed, _WHETHER).random(count) < rate
    step = _generator(seed, _WHICH).integers(1, classes, count)  # never a whole turn
    return np.where(wrong, (targets + step) % classes, targets), wrong


def randomize(targets: np.ndarray, classes: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace every label by a uniform random class: targets [n], wrong bool [n].

    A label is right by chance with probability 1/classes. Regression: each target becomes that of
    an example drawn at random with replacement, so that its distribution stays.
    """
    generator = _generator(seed, _RANDOM)
    if classes is None:
        drawn = targets[generator.integers(0, len(targets), len(targets))]
        wrong = drawn != targets
        return drawn, wrong if wrong.ndim == 1 else wrong.any(axis=1)
    drawn = generator.integers(0, classes, len(targets)).astype(targets.dtype)
    return drawn, drawn != targets


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(key)))
