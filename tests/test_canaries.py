"""Secrets planted in a text: exposure by its definition, the null where none was seen, extraction where many were."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from engram.data import canaries, catalog, subsets
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import DataError
from engram.measures.exposure import exposure
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

DATA = {
    "name": "sentences",
    "window": 16,
    "train_size": 150,
    "pool_size": 300,
    "test_size": 40,
    "canaries": [0, 1, 16],
}


def test_exposure_is_the_logarithm_of_the_rank():
    logs = np.log(np.array([[0.4, 0.3, 0.2, 0.1]]))
    assert [exposure(logs, np.array([k]))[0] for k in range(4)] == pytest.approx(
        [2, 1, 2 - math.log2(3), 0]
    )
    assert exposure(np.zeros((1, 3)), np.array([1]))[0] == pytest.approx(math.log2(3) - 1)
    with pytest.raises(ValueError, match="secret"):
        exposure(logs, np.array([0, 1]))


def test_a_secret_that_has_no_part_in_the_probabilities_has_144_bits_on_average():
    generator = np.random.default_rng(0)
    found = exposure(generator.normal(size=(4000, 1000)), generator.integers(1000, size=4000))
    assert found.mean() == pytest.approx(math.log2(math.e), abs=0.1)


@pytest.fixture(scope="module")
def dataset():
    return catalog.load(DataConfig(**DATA))


def test_each_replica_sees_every_count_equally_often_and_each_canary_takes_turns(dataset):
    planted = canaries.plant(dataset, (0, 1, 16), 0)
    seen = np.stack([planted.seen(r) for r in range(3)])
    assert planted.windows.shape == (12, 17)
    for row in seen:
        assert np.unique(row, return_counts=True)[1].tolist() == [4, 4, 4]
    assert (np.sort(seen, axis=0) == [[0], [1], [16]]).all()
    copies = planted.copies(300, 1)
    assert [(copies == 300 + k).sum() for k in range(12)] == seen[1].tolist()
    often = np.bincount(dataset.targets.ravel())
    assert set(planted.secrets.ravel()) <= set(np.argsort(-often)[:10])
    assert np.array_equal(planted.windows, canaries.plant(dataset, (0, 1, 16), 0).windows)


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def trial(request, dataset):
    configuration = Configuration(
        data=DATA,
        model={"family": request.param, "width": 32, "depth": 1},
        training={"lr": 0.01, "batch_size": 25, "epochs": 25},
        replicas={"count": 6},
    )
    trial = preparing.prepare(configuration, dataset, torch.device("cpu"))
    while not trial.trainer.finished:
        trial.advance()
    return trial


@pytest.fixture(scope="module")
def result(trial):
    return measuring.measure(trial, MeasuresConfig(memorization=False, membership=False))


def test_planted_truth_comes_out(result):
    found = result.record["measures"]
    assert found["exposure_0"]["mean"] == pytest.approx(math.log2(math.e), abs=1.0)  # 24 of them
    assert found["extracted_0"]["mean"] < 0.1
    assert found["exposure_16"]["mean"] > 9.5
    assert found["extracted_16"]["mean"] > 0.9
    assert found["exposure_0"]["mean"] < found["exposure_1"]["mean"] < found["exposure_16"]["mean"]


def test_exposure_is_that_of_every_possible_secret_one_by_one(trial, result):
    planted = trial.canaries
    possible = np.array(list(itertools.product(planted.alphabet, repeat=3)))
    for k in (0, 7):
        windows = np.repeat(planted.windows[k : k + 1], len(possible), axis=0)
        windows[:, -3:] = possible
        for replica in (0, 5):
            network = trial.trainer.cohort.replica(replica)
            with torch.no_grad():
                outputs = network(torch.from_numpy(windows[:, :-1])).double()
            logs = torch.log_softmax(outputs, -1)[:, -3:].numpy()
            total = np.take_along_axis(logs, windows[:, -3:, None], -1).sum((1, 2))
            right = (possible == planted.secrets[k]).all(1).argmax()
            rank = 1 + (total > total[right] + 1e-6).sum()
            wanted = math.log2(1000) - math.log2(rank)
            assert result.arrays["exposure"][replica, k] == pytest.approx(wanted, abs=0.1)


def test_train_error_and_memorization_leave_what_is_planted_out(trial):
    ids = torch.from_numpy(trial.members)
    trainer = trial.trainer
    assert trainer.members.shape[1] == 150 + 4 * 17
    outputs = trainer.cohort.replica(2)(trainer.pool.inputs[ids[2]]).argmax(-1)
    wrong = (outputs != trainer.pool.targets[ids[2]]).double().mean()
    assert trial.history[-1].error["train"][2] == pytest.approx(wrong.item(), abs=1e-4)
    assert trial.measured_ids.max() < 300


@pytest.mark.parametrize(
    ("changed", "key", "rule"),
    [
        ({"canaries": [1, 1]}, "data.canaries", "different counts"),
        ({"canaries": [-1, 1]}, "data.canaries", "from 0 on"),
        ({"window": 3}, "data.window", "no room for a canary"),
        ({"vocabulary": 5}, "data.canaries", "10 different tokens"),
        ({"name": "mnist1d", "window": 64}, "data.canaries", "means nothing to mnist1d"),
    ],
)
def test_where_nothing_can_be_planted_it_is_refused(changed, key, rule):
    config = DataConfig(**{**DATA, "train_size": 20, **changed})
    with pytest.raises(DataError, match=rule) as refused:
        subsets.check(config, ReplicasConfig(), catalog.describe(config))
    assert refused.value.key == key
