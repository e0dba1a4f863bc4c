"""Two spirals that wind around each other, with points that stray."""

from __future__ import annotations

import numpy as np

POOL, TEST = 1000, 1000


def make() -> dict[str, np.ndarray]:
    """Points [n, 2] and the spiral that each is on: x, y to draw subsets from, x_test, y_test to report on.

    The same at every call: trials, and runs of another day, are compared on the same points.
    """
    random = np.random.default_rng(0)
    label = random.integers(0, 2, POOL + TEST)
    turn = random.uniform(0.5, 2.0, POOL + TEST)
    angle = 2 * np.pi * turn + np.pi * label
    points = turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = (points + random.normal(0, 0.12, points.shape)).astype(np.float32)
    return {
        "x": points[:POOL],
        "y": label[:POOL],
        "x_test": points[POOL:],
        "y_test": label[POOL:],
    }
