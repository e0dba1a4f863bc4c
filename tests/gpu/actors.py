"""CohortTrainable without Ray: the actor's own methods, called in this process."""

from __future__ import annotations

from typing import Any

from engram.data.dataset import Dataset
from engram.sweeps.cluster.trainable import CohortTrainable
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import CheckpointConfig, MeasuresConfig


def actor(dataset: Dataset, cache: Any, every_s: float = 1e6, **sections: Any) -> CohortTrainable:
    """An actor that is about to train this configuration; every_s: seconds between checkpoints."""
    configuration = Configuration(**sections)
    made = object.__new__(CohortTrainable)
    made.config = {
        "trial": 0,
        "configuration": configuration.model_dump(),
        "about": {"config": configuration.hash, "data": "", "first": 0},
        "measures": MeasuresConfig(memorization=False).model_dump(),
        "checkpoint": CheckpointConfig(every_s=every_s).model_dump(),
        "dataset": "data",
        "cache": str(cache),
        "scratch": f"{cache}/scratch",
        "device": "cpu",
        "deterministic": False,
        "gpu": 0.0,
        "threads": 1,
        "stack": None,
        "workers": 1,
        "room": {"CPU": 1.0, "GPU": 0.0},
        "held": None,
        "in_turns": False,
        "restore": None,
        "earlier": None,
    }
    made.setup(made.config, {"data": dataset})
    return made


def finished(trained: CohortTrainable) -> tuple[dict[str, Any], list[str]]:
    """Train to the end: the record, and what was noted on the way."""
    notes: list[str] = []
    while True:
        result = trained.step()
        notes += result["notes"]
        assert "failure" not in result, result["failure"]
        if result.get("done"):
            return result["finished"].record, notes
