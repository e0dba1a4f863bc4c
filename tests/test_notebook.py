"""The examples run: the notebook cell by cell in a kernel, the project in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.command_line import ROOT, engram

EXAMPLES = ROOT / "examples"


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "first_study.ipynb", as_version=4)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    kernel = {"path": str(tmp_path)}
    done = nbclient.NotebookClient(notebook, timeout=550, resources={"metadata": kernel}).execute()
    pages = [_pages(cell) for cell in done.cells if cell.cell_type == "code"]
    assert any("<pre" in page and "trials" in page for page in pages[1])  # the plan
    progress = [page for page in pages[2] if "4/4 trials" in page]
    assert progress, pages[2]  # one output, drawn again in its place
    assert any("ranked by validation error" in page for page in pages[3])
    images = [o.data for c in done.cells for o in c.get("outputs", ()) if "data" in o]
    assert any("image/png" in data for data in images)


def _pages(cell) -> list[str]:
    return [o.data["text/html"] for o in cell.outputs if "text/html" in o.get("data", {})]


@pytest.fixture
def project(tmp_path):
    """The example as a person has it: copied, with nothing of the repository around it."""
    return shutil.copytree(
        EXAMPLES / "own_project",
        tmp_path / "mine",
        ignore=shutil.ignore_patterns("__pycache__", "runs"),
    )


@pytest.mark.faults
def test_the_project_runs_from_python_and_goes_on_from_the_command_line(project):
    values = '{"training.epochs": 2, "replicas.count": 3, "sweep.model.width": [4, 8]}'
    home = project / "runs"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ENGRAM_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "look.py", values],
        cwd=project,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 1000 test points are wrong in every replica" in done.stdout
    assert "2/2" in done.stdout
    options = ["training.epochs=2", "replicas.count=3", "sweep.model.width=[4, 8]"]
    words = [word for option in options for word in ("--set", option)]
    again = engram("run", "spirals.yaml", *words, home=home, cwd=project)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 finished before" in again.stdout
