"""A trial as Ray Tune sees it: an actor that trains one cohort after another, evaluation by evaluation."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune

EPOCH, STEP = "epoch", "step"


@dataclass
class Progress:
    """What one evaluation tells: means over replicas, and their intervals for a trial that is stopped here."""

    step: int
    metrics: dict[str, float]
    intervals: dict[str, dict[str, float | None]]


@dataclass
class Finished:
    """What a trial ends in: its record, and its arrays for the artifacts."""

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]


class CohortTrainable(tune.Trainable):
    """Trains the cohort of one configuration. Actors are reused: `reset_config` starts the next trial.

    config: trial (number), configuration (a Configuration as plain values), measures, device, threads,
    dataset (key into `datasets`). datasets: {key: Dataset}, shared through the object store.
    """

    def setup(self, config: dict, datasets: dict | None = None) -> None:
        import torch

        from sweeps import trial

        self.started = time.time()
        if datasets is not None:
            self.datasets = datasets
        torch.set_num_threads(config["threads"])
        self.failure: str | None = None
        try:
            self.trial = trial.prepare(
                trial.Configuration(**config["configuration"]),
                self.datasets[config["dataset"]],
                torch.device(config["device"]),
                wanted=trial.MeasuresConfig(**config["measures"]),
            )
        except Exception:
            self.failure = traceback.format_exc()

    def reset_config(self, new_config: dict) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict:
        """Up to the next evaluation; the last one also carries the measures."""
        from sweeps import trial

        if self.failure is None:
            try:
                report = self.trial.advance()
                result: dict[str, Any] = {
                    **trial.summary(report),
                    EPOCH: report.epoch,
                    "progress": Progress(report.step, trial.summary(report), trial.intervals_of(report)),
                }
                if self.trial.trainer.finished:
                    wanted = trial.MeasuresConfig(**self.config["measures"])
                    result["finished"] = Finished(*trial.measure(self.trial, wanted))
                    result["done"] = True
                return result
            except Exception:
                self.failure = traceback.format_exc()
        # Reported, not raised: the actor lives on, and the study goes on without this trial.
        return {"done": True, EPOCH: 0, "failure": self.failure}

    def cleanup(self) -> None:
        self.trial = None  # type: ignore[assignment]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None
