"""The studies of real data: the first and last trial of each (of those for a GPU the first), at its small size, on the data where they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from engram.data import catalog
from engram.sweeps.study.loading import load
from engram.sweeps.study.request import Request
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
STUDIES = [*sorted((EXAMPLES / "real_data").glob("*.yaml")), EXAMPLES / "speech" / "settings.yaml"]
DATA = ROOT.parent / "shared" / "data"
FOLDERS = {"cifar10": "cifar10", "mnist": "mnist", "plays": "shakespeare", "settings": "fsdd"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_of_real_data_runs_at_its_small_size(path, monkeypatch, tmp_path):
    name = path.stem.partition("_")[0]
    folder = DATA / FOLDERS[name]
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).symlink_to(folder)
    monkeypatch.setenv("RECORDINGS", str(folder / "recordings.parquet"))
    monkeypatch.syspath_prepend(str(path.parent))
    torch.set_num_threads(1)

    asked = load(Request(str(path), (), True), data=True)
    grid = asked.grid()
    for point in grid[:1] if path.stem.endswith("_full") else (grid[0], grid[-1]):
        configuration = asked.configure(point)
        dataset = catalog.load(configuration.data)
        running = preparing.prepare(configuration, dataset, torch.device("cpu"))
        while not running.trainer.finished:
            running.advance()
        record = measuring.measure(running, MeasuresConfig(memorization=False)).record
        assert record["measures"]["test_loss"]["mean"] > 0, record["measures"]
    for module in ("recordings", "listener"):
        sys.modules.pop(module, None)
