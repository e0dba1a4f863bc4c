"""What an execution leaves for a reviewer: descriptions, tags, pictures, the report, the best model.

Called by the runner at a few points. Nothing here can fail a study: what goes wrong is logged, and
left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sweeps import report, state
from sweeps.definition.configuration import Configuration, Study, label
from sweeps.definition.sections import Range, Values
from sweeps.leaderboard import Record
from sweeps.reading import evidence
from sweeps.reading.evidence import Evidence, is_number
from sweeps.running import checkpoint, study_data
from sweeps.tables import SHOWN
from sweeps.tracking import model, pages
from sweeps.tracking.recorder import STUDY, Recorder
from sweeps.tracking.system import SystemMetrics

BEST_SO_FAR = "best_so_far"
EXAMPLES = 4  # inputs kept with a model
log = logging.getLogger(__name__)


class Review:
    """The reviewer's side of one execution. datasets: {key: Dataset} of the study."""

    def __init__(
        self,
        study: Study,
        name: str,
        folder: Path,
        recorder: Recorder,
        datasets: dict[str, Any],
    ):
        self.study, self.name, self.folder = study, name, folder
        self.recorder, self.datasets = recorder, datasets
        self.objective, self.direction = next(iter(study.search.objective.items()))
        self.finished_trials = 0
        self.best: float | None = None
        self.system: SystemMetrics | None = None

    # -- while it runs --------------------------------------------------------------------------

    def started(self, records: list[Record]) -> None:
        """The execution begins, or goes on after these records."""
        with _harmless("the experiment's description"):
            self.recorder.describe(self._experiment_tags())
            inputs = [
                pages.dataset(key, data.digest, pool=len(data.targets), test=len(data.test_targets))
                for key, data in self.datasets.items()
            ]
            self.recorder.inputs(STUDY, inputs)
            for record in records:
                self._count(record)
            if self.study.tracking.system_metrics:
                self.system = SystemMetrics(self.recorder).start()

    def trial_started(self, number: int, configuration: Configuration) -> None:
        with _harmless("the dataset of a trial"):
            key = study_data.key(configuration.data)
            size = configuration.data.train_size
            found = pages.dataset(key, self.datasets[key].digest, train_size=size)
            self.recorder.inputs(number, [found])

    def trial_finished(self, record: Record) -> None:
        """The best value after each trial makes a curve on the parent run."""
        with _harmless("the best so far"):
            self._count(record)
            if self.best is not None:
                self.recorder.metrics(STUDY, self.finished_trials, {BEST_SO_FAR: self.best})

    def _count(self, record: Record) -> None:
        self.finished_trials += 1
        value = record["selection"].get(self.objective)
        if record["status"] != "completed" or value is None or not math.isfinite(value):
            return
        better = min if self.direction == "min" else max
        self.best = value if self.best is None else better(self.best, value)

    def _experiment_tags(self) -> dict[str, str]:
        study = self.study
        by = "validation_error" if study.selects else "test_error"
        numeric = [key for key, axis in study.sweep.items() if _numeric(axis)]
        measures = list(dict.fromkeys([by, *(name for name, _ in SHOWN)]))
        return pages.experiment_tags(
            study.name, study.question, measures, list(study.sweep), numeric
        )

    # -- the end --------------------------------------------------------------------------------

    def finished(self, records: list[Record], pictures: bool = True) -> None:
        """Verdicts, description and, with pictures, the report and the model; before the parent run ends."""
        if self.system is not None:
            self.system.stop()
        with _harmless("the review"):
            found = evidence.of_folder(self.name, self.folder, records)
            self._tag_verdicts(found)
            self.recorder.tags(STUDY, {"mlflow.note.content": pages.note(report.markdown(found))})
            first = found.board.rows[0] if found.board and found.board.rows else None
            if first is not None and first.verdict:
                self.recorder.tags(STUDY, {"engram.verdict": first.verdict})
            if pictures:
                self._draw(found)
                self._model(found)

    def _tag_verdicts(self, found: Evidence) -> None:
        """Each trial's verdict and place as tags to filter by; only those that changed are sent."""
        if found.board is None:
            return
        path = self.folder / "verdicts.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        now = {}
        for row in found.board.rows:
            tags = {
                "engram.verdict": row.verdict or row.record["status"],
                "engram.rank": str(row.rank),
            }
            now[str(row.record["trial"])] = tags
            if known.get(str(row.record["trial"])) != tags:
                self.recorder.belongs(row.record["trial"], row.record["config_hash"])
                self.recorder.tags(row.record["trial"], tags)
        state.write_text(path, json.dumps(now))

    def _draw(self, found: Evidence) -> None:
        """The report and its pictures, drawn again only where there is something new, and sent."""
        path, marker, folder = (self.folder / n for n in ("report.html", "report.stamp", "figures"))
        stamp = _digest(found.records, found.provenance.get("git.commit"))
        if not (path.exists() and marker.exists() and marker.read_text() == stamp):
            pictures: list[Any] = []
            shutil.rmtree(folder, ignore_errors=True)
            with _harmless("the pictures"):
                from sweeps.figures import draw

                pictures = draw.draw(found)
                draw.save(pictures, folder)
            state.write_text(path, report.page(found, pictures))
            state.write_text(marker, stamp)
        for file in sorted(folder.glob("*.png")):
            self.recorder.artifact(STUDY, file, to="figures")
        self.recorder.artifact(STUDY, path)

    # -- the best model -------------------------------------------------------------------------

    def _model(self, found: Evidence) -> None:
        best = found.best
        if not self.study.tracking.model or best is None:
            return
        with _harmless("the best model"):
            weights = self._weights(best)
            if weights is None:
                log.warning(
                    "trial %d has no final weights (checkpoint.final): no model is logged",
                    best["trial"],
                )
                return
            replica = median_replica(best)
            configuration = self.study.configure(best["params"])
            folder, marker = self.folder / "model", self.folder / "model.stamp"
            tag = _digest(best["config_hash"], best["replica_values"], replica)[:12]
            if not (folder.exists() and marker.exists() and marker.read_text().startswith(tag)):
                example = self.datasets[study_data.key(configuration.data)].test_inputs[:EXAMPLES]
                module = self._module(configuration, {n: t[replica] for n, t in weights.items()})
                state.write_text(marker, f"{tag} {model.save(folder, module, example)}")
            tags = {
                "engram.trial": str(best["trial"]),
                "engram.replica": str(replica),
                "engram.chosen": "the replica of median validation error in the best trial",
                "engram.configuration": label(best["params"]),
                "engram.serialization": marker.read_text().partition(" ")[2],
            }
            params = {key: str(value) for key, value in configuration.dotted().items()}
            register = self.study.tracking.register_as
            self.recorder.model(
                folder, "best_model", tag, tags=tags, params=params, register=register
            )

    def _weights(self, record: Record) -> dict[str, Any] | None:
        """{name: tensor [R, ...]} of a finished trial, where its final weights were kept."""
        store = checkpoint.Store(self.folder / "checkpoints", keep=1, largest_bytes=math.inf)
        data = store.final(record["trial"], config=record["config_hash"])
        return None if data is None else checkpoint.decode(data)[0]["trainer"]["cohort"]

    def _module(self, configuration: Configuration, weights: dict[str, Any]) -> Any:
        from models.family import build

        data = self.datasets[study_data.key(configuration.data)]
        outputs = data.classes or int(np.prod(data.targets.shape[1:], dtype=int))
        module = build(configuration.model, data.inputs.shape[1:], outputs, data.kind == "image")
        module.load_state_dict({name: weights[name] for name in module.state_dict()})
        return module.eval()


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


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _numeric(axis: Values | Range) -> bool:
    return isinstance(axis, Range) or all(is_number(value) for value in axis.values)


@contextmanager
def _harmless(what: str) -> Iterator[None]:
    """A failure to describe a study is no failure of the study."""
    try:
        yield
    except Exception:
        log.exception("%s could not be made", what)
