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


def measured(asked, point):
    """The measures of one trial of a study."""
    configuration = asked.configure(point)
    dataset = catalog.load(configuration.data)
    running = preparing.prepare(configuration, dataset, torch.device("cpu"))
    while not running.trainer.finished:
        running.advance()
    return measuring.measure(running, MeasuresConfig(memorization=False)).record["measures"]


@pytest.mark.skipif(not (DATA / "shakespeare").is_dir(), reason="the plays are not here")
def test_secrets_are_planted_in_a_text_of_ones_own():
    torch.set_num_threads(1)
    name = f"data.name=text:{DATA / 'shakespeare' / 'input.txt.gz'}"
    longer = ("training.epochs=30", "training.lr=0.02", "model.width=32")
    asked = load(Request("text_memorization", (name, *longer), True), data=True)
    found = measured(asked, asked.grid()[0])
    assert found["exposure_8"]["mean"] > found["exposure_0"]["mean"] + 4, found  # of at most 9.97
    assert found["extracted_8"]["mean"] > found["extracted_0"]["mean"] == 0, found


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
        assert measured(asked, point)["test_loss"]["mean"] > 0
    for module in ("recordings", "listener"):
        sys.modules.pop(module, None)
