"""One head for all tests that submit, and the board of a small study run without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.heads import Head
from tests.reliability import faults

STUDY = """\
name: sent
question: Is it the same elsewhere?
data: {train_size: 200}
model: {width: 16}
training: {epochs: 4, batch_size: 20}
replicas: {count: 3}
sweep: {model.dropout: [0.0, 0.5]}
"""


@dataclass(frozen=True)
class Local:
    """A study that was run on this machine alone, and its leaderboard."""

    study: Path
    home: Path
    board: list[dict]


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    started = Head()
    yield started
    started.end()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    folder = tmp_path_factory.mktemp("local")
    study = faults.write(folder, STUDY)
    faults.finish(study, folder / "runs")
    return Local(study, folder / "runs", faults.board(folder / "runs", "sent"))
