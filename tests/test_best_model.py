"""The best model of a study: saved with signature and example, logged once, loadable without Engram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engram.sweeps.tracking import model
from engram.sweeps.tracking.store import connect


@pytest.fixture
def store(tmp_path):
    client = connect(f"sqlite:///{tmp_path / 'store.db'}")
    experiment = client.create_experiment(
        "models", artifact_location=(tmp_path / "artifacts").as_uri()
    )
    return client, experiment, client.create_run(experiment).info.run_id


def message(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "path": str(folder),
        "name": "best_model",
        "tag": "abc-0",
        "tags": {},
        "params": {},
        **options,
    }


@pytest.mark.parametrize("family", ["feedforward", "convolutional", "rnn", "gru", "lstm"])
def test_every_family_can_be_saved_and_loaded(family, tmp_path):
    import mlflow.pytorch
    import torch

    from engram.models.config import ModelConfig
    from engram.models.family import build

    module = build(ModelConfig(family=family, width=6, depth=1, dropout=0.5), (40,), 3).eval()
    example = np.random.default_rng(0).normal(size=(4, 40)).astype(np.float32)
    model.save(tmp_path / "model", module, example)
    loaded = mlflow.pytorch.load_model(str(tmp_path / "model"))
    more = torch.from_numpy(np.concatenate([example, example + 1, example]))
    with torch.no_grad():
        assert torch.allclose(loaded(more), module(more), atol=1e-5)


def test_a_model_is_logged_once_and_registered_under_its_alias(store, tmp_path):
    import torch

    client, experiment, run = store
    model.save(tmp_path / "model", torch.nn.Linear(4, 2), np.zeros((2, 4)))
    for _ in range(2):  # the outbox may send it twice
        model.send(client, experiment, run, message(tmp_path / "model", register="net@candidate"))
    if hasattr(client, "search_logged_models"):  # MLflow 2 knows a model as files of its run
        assert len(client.search_logged_models([experiment])) == 1
    assert client.get_model_version_by_alias("net", "candidate").version in (1, "1")
    model.send(client, experiment, run, message(tmp_path / "model", tag="def-1", register="net"))
    assert client.get_model_version_by_alias("net", "best").version in (2, "2")


def test_what_cannot_be_exported_is_pickled_and_says_so(tmp_path):
    import torch

    class Wilful(torch.nn.Module):
        def forward(self, inputs):
            return inputs * (
                2.0 if inputs.sum() > 0 else 1.0
            )  # depends on the data: no graph has it

    assert model.save(tmp_path / "model", Wilful(), np.ones((2, 4))) == "pickle"


def test_the_replica_in_the_middle_is_kept():
    from engram.sweeps.running.best_model import median_replica

    record = {"replicas": 5, "replica_values": {"validation_error": [0.5, 0.1, 0.4, 0.2, 0.3]}}
    assert median_replica(record) == 4
    assert (
        median_replica({**record, "replicas": 10}) == 0
    )  # two networks a subset: they are not told apart
    assert median_replica({"replicas": 2, "replica_values": {}}) == 0
