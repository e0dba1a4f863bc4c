"""Tokens that come as numbers, of different lengths: kept whole, checked, learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing


def sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of 2 to 8 tokens from 1 to 6; the class is whether the last one is above 3."""
    generator = np.random.default_rng(seed)
    x = generator.integers(1, 7, (count, 8))
    lengths = generator.integers(2, 9, count)
    y = x[np.arange(count), lengths - 1] > 3
    x[np.arange(8) >= lengths[:, None]] = -1
    return x, y.astype(int)


@pytest.fixture
def saved(tmp_path):
    def save(**changed) -> DataConfig:
        (x, y), (x_test, y_test) = sequences(200, 0), sequences(60, 1)
        arrays = {"x": x, "y": y, "x_test": x_test, "y_test": y_test, "kind": "tokens", **changed}
        np.savez(tmp_path / "some.npz", **arrays)
        return DataConfig(name=f"npz:{tmp_path}/some.npz", train_size=120)

    return save


def test_they_stay_whole_numbers_and_the_plan_says_how_long_they_are(saved):
    data = catalog.load(saved())
    assert data.kind == "tokens"
    assert data.inputs.dtype == np.int64
    assert data.tokens.padded
    assert not data.every_step
    assert len(data.tokens.words) == 7
    assert data.classes == 2
    assert any("examples of 2 to 8 tokens" in note for note in data.notes)


def test_a_number_that_the_pool_lacks_is_unknown(saved):
    x_test, _ = sequences(60, 1)
    x_test[0, 0], x_test[1, 1] = 99, 3
    data = catalog.load(saved(x_test=x_test))
    row = int(np.flatnonzero(data.test_ids == 0)[0])
    assert data.test_inputs[row, 0] == 0
    assert any("1 tokens for test are unknown" in note for note in data.notes)


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [((3, 0), -1, "goes on after -1"), ((3, 0), 1.5, "no whole numbers"), ((3,), -1, "no token")],
)
def test_what_is_no_sequence_is_refused(saved, place, value, rule):
    x = sequences(200, 0)[0].astype(float)
    x[3, 1] = 2
    x[place] = value
    with pytest.raises(DataError, match=rule):
        catalog.load(saved(x=x))


@pytest.mark.parametrize("family", ["lstm", "transformer"])
def test_what_is_at_the_end_of_each_is_learned(saved, family):
    configuration = Configuration(
        data=saved(),
        model={"family": family, "width": 16, "depth": 1, "options": {"causal": True} if family == "transformer" else {}},
        training={"lr": 0.02, "batch_size": 20, "epochs": 30},
        replicas={"count": 2},
    )  # fmt: skip
    trial = preparing.prepare(configuration, catalog.load(configuration.data), torch.device("cpu"))
    while not trial.trainer.finished:
        trial.advance()
    record = measuring.measure(trial, MeasuresConfig()).record
    assert record["measures"]["test_error"]["mean"] < 0.1
