"""What is learned of numbers from the pool alone: what stands for a missing one, and the scale of each column."""

from __future__ import annotations

import numpy as np

from engram.data import categories
from engram.data.raw import Raw


def filled(
    raw: Raw, pool: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Missing values as the median of their column over the pool; of a column of words, the commonest."""
    missing = np.isnan(pool)
    if missing.all(axis=0).any():
        column = int(missing.all(axis=0).argmax())
        pool = pool.copy()
        pool[:, column] = 0  # nothing is known of it: constant, and so 0 once standardized
    middle = np.nanmedian(pool, axis=0)
    for column, name in enumerate(raw.columns or ()):
        if name in raw.words:
            middle[column] = categories.commonest(pool[:, column])
    count = int(missing.sum() + np.isnan(test).sum())
    pool, test = (np.where(np.isnan(part), middle, part) for part in (pool, test))
    words = " (of words, the commonest)" if raw.words else ""
    note = [f"{count:,} missing values became the median of their column over the pool{words}"]
    return pool, test, note if count else []


def standardize(pool: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and sd 1 over the whole pool; a constant column becomes 0."""
    mean, scale = moments(pool)
    return (pool - mean) / scale, (test - mean) / scale


def moments(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; 1 for that of a constant one."""
    mean = pool.mean(axis=0, dtype=np.float64)
    deviation = pool.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
