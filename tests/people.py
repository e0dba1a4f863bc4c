"""A table of two classes, one rare, for tests of what is said of classes by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write(folder: Path, rows: int, ill: str) -> Path:
    """people.csv: a, b, and whether one is `ill` or well, which a tells in part."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 2))
    state = np.where(x[:, 0] + random.normal(size=rows) > 1, ill, "well")
    path = folder / "people.csv"
    lines = (f"{a},{b},{s}" for (a, b), s in zip(x, state, strict=True))
    path.write_text("\n".join(["a,b,state", *lines]) + "\n")
    return path
