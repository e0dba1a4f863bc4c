"""The best network of a study as an MLflow model, saved beside the driver.

Exporting a network takes torch seconds, most of them imports: a process of its own takes them while the
driver draws.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import signal
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from data.dataset import Dataset
from models.config import ModelConfig
from sweeps import state
from sweeps.definition.configuration import Configuration
from sweeps.leaderboard import Record

EXAMPLES = 4  # inputs kept with a model
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """A model that is being saved, or was before. folder: it; tag: what tells it from another."""

    folder: Path
    tag: str
    replica: int
    process: BaseProcess | None

    def wait(self) -> str | None:
        """How it is serialized, "pt2" or "pickle", once it is there; None where it could not be saved."""
        if self.process is not None:
            self.process.join()
        return _serialization(self.folder, self.tag)


def begin(
    folder: Path, record: Record, configuration: Configuration, data: Dataset
) -> Saving | None:
    """Start to save the network of a finished trial; None where its final weights were not kept.

    folder: of the execution. The network is the trial's median replica, see `median_replica`.
    """
    from sweeps.running import checkpoint

    store = checkpoint.Store(folder / "checkpoints", keep=1, largest_bytes=math.inf)
    weights = store.final(record["trial"], config=record["config_hash"])
    if weights is None:
        log.warning(
            "trial %d has no final weights (checkpoint.final): no model is logged", record["trial"]
        )
        return None
    replica = median_replica(record)
    content = json.dumps([record["config_hash"], record["replica_values"], replica])
    tag = hashlib.sha256(content.encode()).hexdigest()[:12]
    process = None
    if _serialization(folder / "model", tag) is None:
        outputs = data.classes or int(np.prod(data.targets.shape[1:], dtype=int))
        shape, image = data.inputs.shape[1:], data.kind == "image"
        words = (configuration.model, shape, outputs, image, weights, replica)
        process = get_context("spawn").Process(
            target=_save,
            args=(folder / "model", tag, data.test_inputs[:EXAMPLES], *words),
            daemon=True,
        )
        process.start()
    return Saving(folder / "model", tag, replica, process)


def median_replica(record: Record) -> int:
    """The replica in the middle by validation error: the best one would be chosen by its luck.

    The first where replicas are not told apart (several initializations of one subset, or some diverged).
    """
    values = record["replica_values"].get("validation_error") or record["replica_values"].get(
        "test_error"
    )
    if not values or len(values) != record["replicas"]:
        return 0
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _save(
    folder: Path,
    tag: str,
    example: np.ndarray,
    model: ModelConfig,
    shape: tuple[int, ...],
    outputs: int,
    image: bool,
    weights: bytes,
    replica: int,
) -> None:
    """In the process of its own; the marker is written last. What libraries say goes to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    said = os.open(folder.parent / "model.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(said, stream)
    logging.basicConfig(level=logging.WARNING)
    from models.family import build
    from sweeps.running import checkpoint
    from sweeps.tracking import model as models

    module = build(model, shape, outputs, image)
    stacked = checkpoint.decode(weights)[0]["trainer"]["cohort"]
    module.load_state_dict({name: stacked[name][replica] for name in module.state_dict()})
    _marker(folder).unlink(missing_ok=True)
    state.write_text(_marker(folder), f"{tag} {models.save(folder, module.eval(), example)}")


def _serialization(folder: Path, tag: str) -> str | None:
    """How the model in the folder is serialized, where it is the one with this tag."""
    if not (folder.exists() and _marker(folder).exists()):
        return None
    found, _, serialization = _marker(folder).read_text().partition(" ")
    return serialization if found == tag else None


def _marker(folder: Path) -> Path:
    return folder.with_name("model.stamp")
