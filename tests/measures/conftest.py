"""Reference values for the measures."""

import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vector():
    """Reads a file of `tests/vectors/` by its name without the ending."""
    folder = Path(__file__).parent.parent / "vectors"
    return lambda name: json.loads((folder / f"{name}.json").read_text())
