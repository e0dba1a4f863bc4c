"""The studies of real data: each one's first trials, at its small size, on the data where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engram.data import catalog
from engram.sweeps.study.loading import load
from engram.sweeps.study.request import Request
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

ROOT = Path(__file__).parent.parent
STUDIES = sorted((ROOT / "examples" / "real_data").glob("*.yaml"))
DATA = ROOT.parent / "shared" / "data"


@pytest.mark.parametrize("study", [path.stem for path in STUDIES])
def test_a_study_of_real_data_runs_at_its_small_size(study, monkeypatch, tmp_path):
    path = next(path for path in STUDIES if path.stem == study)
    folder = study.partition("_")[0]
    if not (DATA / folder).is_dir():
        pytest.skip(f"the data of {folder} are not here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).symlink_to(DATA / folder)
    torch.set_num_threads(1)

    asked = load(Request(str(path), (), True), data=True)
    for point in asked.grid()[:2]:
        configuration = asked.configure(point)
        dataset = catalog.load(configuration.data)
        running = preparing.prepare(configuration, dataset, torch.device("cpu"))
        while not running.trainer.finished:
            running.advance()
        record = measuring.measure(running, MeasuresConfig(memorization=False)).record
        assert record["measures"]["test_loss"]["mean"] > 0, record["measures"]
