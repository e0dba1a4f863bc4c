"""The speech example on the real recordings: the honest split says what the random one hides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "speech"
RECORDINGS = ROOT.parent / "shared" / "data" / "fsdd" / "recordings.parquet"


@pytest.fixture
def example(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setenv("RECORDINGS", str(RECORDINGS))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    for name in ("recordings", "listener"):
        sys.modules.pop(name, None)


def test_a_pure_tone_is_loudest_in_its_band(example):
    import recordings

    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    found = recordings.picture(tone)
    assert found.shape == (recordings.BANDS, recordings.MOMENTS)
    mel = np.linspace(0, 2595 * np.log10(1 + 4000 / 700), recordings.BANDS + 2)[1:-1]
    wanted = np.abs(mel - 2595 * np.log10(1 + 1000 / 700)).argmin()
    assert (found.argmax(axis=0) == wanted).all()


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings are not here")
def test_strangers_are_understood_far_worse_than_known_speakers(example):
    found = {}
    for name in ("known", "strangers"):
        study = load(str(EXAMPLE / f"{name}.yaml"), data=False)
        configuration = study.configure(study.grid()[0])
        replicas = configuration.replicas.model_copy(update={"count": 3})
        configuration = configuration.model_copy(update={"replicas": replicas})
        dataset = catalog.load(configuration.data)
        running = preparing.prepare(configuration, dataset, torch.device("cpu"))
        while not running.trainer.finished:
            running.advance()
        record = measuring.measure(running, MeasuresConfig(memorization=False)).record
        found[name] = {
            n: record["measures"][n] for n in ("train_error", "validation_error", "test_error")
        }
    known, strangers = found["known"]["test_error"], found["strangers"]["test_error"]
    assert known["high"] < strangers["low"], found
    assert strangers["mean"] > known["mean"] + 0.1, found
    # Validation is of other speakers too, so selection is warned in time.
    assert found["strangers"]["validation_error"]["mean"] > known["mean"]
