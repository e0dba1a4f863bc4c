"""What several test files share: one small study, run for real once per session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from engram.models import device
from tests import installed as installing
from tests.command_line import engram

device.settle()  # before the first product of this process, as in a worker

STUDY = """\
name: small
question: Does dropout lower the variance, <b>or</b> only the fit?
data: {name: mnist1d, train_size: 400}
training: {epochs: 8, batch_size: 40}
replicas: {count: 6}
sweep:
  model.dropout: [0.0, 0.5]
  training.lr: [0.01, 0.003]
"""


@dataclass(frozen=True)
class Finished:
    """A study that has been run: where its state is, its file, and what the terminal showed."""

    home: Path
    study: Path
    name: str
    output: str


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    study = folder / "small.yaml"
    study.write_text(STUDY)
    done = engram("run", str(study), home=folder / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(folder / "runs", study, "small", done.stdout)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> installing.Installed:
    """The wheel of this checkout, installed."""
    folder = tmp_path_factory.mktemp("installed")
    return installing.install(installing.build(folder), folder / "venv")
