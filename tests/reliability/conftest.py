"""The undisturbed runs that disturbed ones are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability import faults


@dataclass(frozen=True)
class Undisturbed:
    study: Path
    home: Path
    board: list[dict]


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A 24-trial grid, run to its end without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    study = faults.write(folder)
    faults.finish(study, folder / "runs")
    board = faults.board(folder / "runs")
    assert len(board) == 24
    return Undisturbed(study, folder / "runs", board)
