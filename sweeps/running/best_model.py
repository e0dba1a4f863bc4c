"""The best network of a study as an MLflow model, saved beside the driver.

Exporting a network takes torch seconds, most of them imports: a process of its own takes them beside the
last trials, and exports while the driver draws.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engram import files, program
from engram.data.dataset import Dataset
from engram.sweeps.results.record import Record
from engram.sweeps.running import checkpoints
from engram.sweeps.study.configuration import Configuration

EXAMPLES = 4  # inputs kept with a model
MODEL = "model"
LONGEST_S = 900.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """A model that is being saved, or was before. folder: it; tag: what tells it from another."""

    folder: Path
    tag: str
    replica: int
    process: subprocess.Popen[bytes] | None

    def wait(self) -> str | None:
        """How it is serialized, "pt2" or "pickle", once it is there; None where it could not be saved."""
        if self.process is not None:
            try:
                self.process.wait(LONGEST_S)
            except subprocess.TimeoutExpired:
                log.warning("the best model was not saved within %.0f s", LONGEST_S)
                self.process.kill()
                self.process.wait()
        return _serialization(self.folder, self.tag)


class Saver:
    """Saves the best network of an execution. folder: the execution's."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Let the process load what it takes to save a network, before it is known which."""
        if self._process is None:
            # Not by multiprocessing, which would run a person's script once more from its top.
            words = program.python(
                "from engram.sweeps.running import best_model; best_model.serve()"
            )
            with open(self.folder / "model.log", "wb") as said:
                self._process = subprocess.Popen(
                    [*words, str(self.folder)], stdin=subprocess.PIPE, stdout=said, stderr=said
                )

    def begin(self, record: Record, configuration: Configuration, data: Dataset) -> Saving | None:
        """Start to save the network of a finished trial; None where its final weights were not kept.

        The network is the trial's median replica, see `median_replica`. A learner has none that could be rebuilt.
        """
        if record.get("way") == "learner":
            return None
        store = checkpoints.Store(self.folder / "checkpoints", keep=1, largest_bytes=math.inf)
        weights = store.final(record["trial"], config=record["config_hash"])
        if weights is None:
            log.warning(
                "trial %d has no final weights (checkpoint.final): no model is logged",
                record["trial"],
            )
            return None
        replica = median_replica(record)
        content = json.dumps([record["config_hash"], record["replica_values"], replica])
        tag = hashlib.sha256(content.encode()).hexdigest()[:12]
        if _serialization(self.folder / MODEL, tag) is not None:
            return Saving(self.folder / MODEL, tag, replica, None)
        self.prepare()
        network = (
            configuration.model,
            data.shape,
            data.outputs,
            data.kind == "image",
            data.tokens,
        )
        self._tell((tag, data.test_inputs[:EXAMPLES], network, weights, replica))
        return Saving(self.folder / MODEL, tag, replica, self._process)

    def _tell(self, message: tuple) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with self._process.stdin as there:
            pickle.dump(message, there)

    def close(self) -> None:
        """Let a process that was prepared for nothing end."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()


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


def serve() -> None:
    """In the process of its own: load, wait to be told, save. What libraries say goes to the log."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    logging.basicConfig(level=logging.WARNING)
    folder = Path(sys.argv[-1])
    from engram.models import several
    from engram.models.cohort import put
    from engram.models.family import build
    from engram.sweeps.tracking import model as models
    from engram.sweeps.trial import checkpoint

    models.load_what_saving_takes()
    try:
        tag, example, network, weights, replica = pickle.load(sys.stdin.buffer)
    except EOFError:
        return
    stacked = checkpoint.decode(weights)[0]["trainer"]["cohort"]
    module = put(build(*network), stacked, replica)
    if (members := several.members_of(network[1])) is not None:
        module = several.OfRows(module, members)
    _marker(folder / MODEL).unlink(missing_ok=True)
    serialization = models.save(folder / MODEL, module.eval(), example)
    files.write(_marker(folder / MODEL), f"{tag} {serialization}")  # last: it is there


def _serialization(folder: Path, tag: str) -> str | None:
    """How the model in the folder is serialized, where it is the one with this tag."""
    if not (folder.exists() and _marker(folder).exists()):
        return None
    found, _, serialization = _marker(folder).read_text().partition(" ")
    return serialization if found == tag else None


def _marker(folder: Path) -> Path:
    return folder.with_name("model.stamp")
