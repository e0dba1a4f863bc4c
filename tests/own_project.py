"""A person's project, whose packages have the names of Engram's folders, and say so when they are imported."""

from __future__ import annotations

from pathlib import Path

# Two small trials of the quickstart.
TINY = (
    "--set=training.steps=40",
    "--set=replicas.count=2",
    "--set=sweep.train_size=[200]",
    "--set=sweep.dropout=[0.0, 0.5]",
)

OWN = """\
name: own
question: Are mine taken?
data: {name: "data.loader:make", train_size: 60, validation: 40}
model: {family: "models.net:Net"}
training: {epochs: 2, batch_size: 20}
replicas: {count: 2}
sweep: {training.lr: [0.01, 0.001]}
"""

SAY = """\
import pathlib as _pathlib
_here = _pathlib.Path(__file__).resolve()
(_here.parents[1] / f"imported-{_here.parent.name}").touch()
"""

NET = """\
import torch
import measures.ours

class Net(torch.nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.layers = torch.nn.Linear(shape[0], outputs)

    def forward(self, x):
        return measures.ours.same(self.layers(x.flatten(1)))
"""

LOADER = """\
import numpy as np

def make():
    x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
    return {"x": x, "y": (x[:, 0] > 0).astype("int64")}
"""

FILES = {
    "models/__init__.py": SAY,
    "models/net.py": SAY + NET,
    "data/loader.py": SAY + LOADER,  # a package without __init__.py
    "sweeps/__init__.py": SAY,
    "sweeps/ours.py": SAY,
    "measures/ours.py": SAY + "def same(x):\n    return x\n",
    "tests/__init__.py": SAY,
}


def project(folder: Path) -> Path:
    """Write the project into a folder; returns the folder."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def imported(folder: Path) -> set[str]:
    """The packages of a project that any process has imported."""
    return {path.name.removeprefix("imported-") for path in folder.glob("imported-*")}
