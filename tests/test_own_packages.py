"""A folder with packages of its own called models, data, sweeps, measures and tests: theirs are theirs, ours ours.

Run for real: from a checkout, installed, and with the folder on PYTHONPATH. (Through `submit`: tests/cluster.)
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import engram
from tests.own_project import OWN, TINY, imported, project

Start = Callable[..., subprocess.CompletedProcess[str]]

LATER = pytest.mark.faults  # each starts Ray: the other ways of the same wait for make test-faults
SHIPPED = (pytest.param("installed", marks=LATER), "a checkout, PYTHONPATH=.")
OWN_CODE = ("a checkout", pytest.param("installed", marks=LATER), "installed, PYTHONPATH=.")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state folder for all: making the store of a new one takes seconds."""
    return tmp_path_factory.mktemp("state") / "runs"


@pytest.fixture
def start(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Start:
    """Run a study in a folder, in one of the ways."""
    path = {"PYTHONPATH": "."} if request.param.endswith("PYTHONPATH=.") else {}
    program: Start = engram
    if request.param.startswith("installed"):
        program = request.getfixturevalue("installed")
    name = f"run-{len(list(home.glob('studies/*')))}"
    return lambda *words, cwd: program("run", *words, "--name", name, home=home, cwd=cwd, **path)


@pytest.mark.parametrize("start", SHIPPED, indirect=True)
def test_a_shipped_study_runs_and_nothing_of_the_folder_is_imported(start: Start, tmp_path: Path):
    folder = project(tmp_path / "project")
    done = start("quickstart", *TINY, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranked by validation error" in done.stdout
    assert imported(folder) == set()


@pytest.mark.parametrize("start", OWN_CODE, indirect=True)
def test_a_study_of_ones_own_takes_its_own_packages(start: Start, tmp_path: Path):
    folder = project(tmp_path / "project")
    (folder / "own.yaml").write_text(OWN)
    done = start("own.yaml", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranked by validation error" in done.stdout
    assert imported(folder) == {"models", "data", "measures"}


def test_the_study_files_folder_comes_before_the_current_one(home: Path, tmp_path: Path):
    """models is in both, and the study's is taken; data is in the current folder alone, and found there."""
    there, here = project(tmp_path / "there"), project(tmp_path / "here")
    (there / "data/loader.py").unlink()
    (there / "own.yaml").write_text(OWN)
    done = engram("plan", "../there/own.yaml", home=home, cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(there) == {"models", "measures"}
    assert imported(here) == {"data"}
