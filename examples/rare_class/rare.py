"""A task with a rare class, and a metric for it: both are named in rare.yaml."""

from __future__ import annotations

import numpy as np

EXAMPLES, RARE = 3000, 0.06


def make() -> dict[str, np.ndarray]:
    """Points inside a thin ring are class 1, about one in sixteen; four further inputs are noise."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(EXAMPLES, 6)).astype(np.float32)
    distance = np.abs(np.hypot(x[:, 0], x[:, 1]) - 2.2) + 0.05 * generator.normal(size=EXAMPLES)
    return {"x": x, "y": (distance < np.quantile(distance, RARE)).astype(np.int64)}


def rare_found(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Share of the rare class that a replica finds; predictions [N, 2] probabilities, targets [N] labels."""
    rare = targets == 1
    return float((predictions[rare].argmax(-1) == 1).mean())
