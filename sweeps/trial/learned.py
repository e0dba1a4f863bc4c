"""A trial of a learner: the same questions as to a trial of networks, answered from what its replicas told."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.models import streams
from engram.models.learners.trainer import SEEDS, LearnerTrainer, Material, of_one
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial.trial import Trial, stacked


@dataclass
class LearnedTrial(Trial):
    """A trial of a learner. Its history ends in one report of all replicas; those before are its first replica's."""

    trainer: LearnerTrainer

    @property
    def gives_probabilities(self) -> bool:  # type: ignore[override]
        return not self.trainer.hard

    def passes(self) -> dict[str, Any]:
        told = any(r.told for r in self.trainer.cohort.done)
        return {"epochs": self.history[-1].epoch if told else None, "steps": None}

    def built_with(self) -> dict[str, Any]:
        return self.trainer.built_with()

    def warnings(self, wanted: MeasuresConfig) -> Iterator[str]:
        if self.trainer.hard:
            yield (
                "it gives classes and no probabilities: losses in nats are not known, and the squared parts (bias2, "
                "variance) are those of answers without doubt"
            )
        for name in ("forgetting", "flatness", "layers", "retention"):
            if getattr(wanted, name):
                yield f"measures.{name} was not taken: it looks into a network, and this is a learner"
        if self.wrong.any() and self.dataset.classes is not None:
            yield "when wrong labels are fitted was not measured: a learner is looked at once it is trained"

    def outputs(self, name: str) -> Tensor:
        return self.trainer.outputs(name)

    def targets_of(self, name: str) -> np.ndarray:
        found = self.trainer.targets()[name]
        return found if self.trainer.classification else found.reshape(len(found), -1)

    def curve(self, name: str, kind: str) -> np.ndarray | None:
        """What all replicas told at the same epochs; the last column is what they ended in."""
        told, last = self._told(f"{name}_{kind}"), self.history[-1]
        if told is None:
            return None
        return np.concatenate([told, getattr(last, kind)[name].numpy()[:, None]], axis=1)

    def curves(self) -> dict[str, np.ndarray]:
        found = super().curves()
        found["epochs"] = np.array([*self._epochs(), self.history[-1].epoch])
        return found

    def _epochs(self) -> list[int]:
        """Those before the last one at which every replica reported."""
        done = self.trainer.cohort.done
        shared = set.intersection(*({told.epoch for told in r.told} for r in done))
        return sorted(shared - {self.history[-1].epoch})

    def _told(self, name: str) -> np.ndarray | None:
        """[R, E] of a value at the shared epochs; None where a replica did not tell it at one of them."""
        rows = []
        for replica in self.trainer.cohort.done:
            known = {told.epoch: told.values.get(name) for told in replica.told}
            rows.append([known[epoch] for epoch in self._epochs()])
        return None if any(v is None for row in rows for v in row) else np.array(rows, ndmin=2)

    def state_dict(self) -> dict[str, Any]:
        last = self.history[-1:] if self.trainer.finished else []
        joinable = len(self.measured_ids) == len(self.pool_ids)  # else they depend on the replicas
        state = {"trainer": self.trainer.state_dict(), "history": stacked(last)}
        return state if joinable else {**state, "joinable": False}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        seconds = self.trainer.seconds
        self.history = [of_one(told, seconds) for told in self.trainer.told()]
        if self.trainer.finished:
            self.history.append(self.trainer.report())

    def close(self) -> None:
        self.trainer.close()


def learner_of(
    configuration: Configuration,
    material: Material,
    members: np.ndarray,
    first: int,
    device: torch.device,
    scratch: Path | None,
    stop: int,
) -> LearnerTrainer:
    """The trainer of its replicas [first, stop); scratch: where they may write."""
    replicas = configuration.replicas
    seeds = [streams.key(replicas.seed, "learner", r) % SEEDS for r in range(first, stop)]
    if scratch is None:
        scratch = Path(tempfile.gettempdir()) / f"engram-{os.getpid()}-{configuration.hash}"
    return LearnerTrainer(
        configuration.model,
        configuration.training,
        material,
        members,
        seeds,
        first,
        configuration.dotted(),
        device,
        scratch,
    )
