"""What an execution leaves for a reviewer: descriptions, tags, pictures, the report, the best model.

Nothing here can fail a study: what goes wrong is logged, and
left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engram import files
from engram.measures import catalog
from engram.measures.measure import HELD_OUT
from engram.sweeps.results import evidence, report, words
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import SHOWN
from engram.sweeps.running import best_model
from engram.sweeps.running.events import Listener
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.study.sections import Range, Values
from engram.sweeps.tracking import pages
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.tracking.system import SystemMetrics
from engram.sweeps.trial import datasets

log = logging.getLogger(__name__)


class Review(Listener):
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
        self.system: SystemMetrics | None = None
        self.saver = best_model.Saver(folder)

    # -- while it runs --------------------------------------------------------------------------

    def begin(self) -> None:
        """The execution begins, or goes on."""
        with _harmless("the experiment's description"):
            self.recorder.describe(self._experiment_tags())
            if self.study.tracking.system_metrics:
                self.system = SystemMetrics(self.recorder).start()

    def last_run(self) -> None:
        """No further trial will start: what the end needs can be made ready where there is room."""
        threading.Thread(target=_load_what_drawing_takes, daemon=True).start()
        if self.study.tracking.model:
            with _harmless("the best model"):
                self.saver.prepare()

    def _experiment_tags(self) -> dict[str, str]:
        study = self.study
        objective, direction = next(iter(study.search.objective.items()))
        metric = objective in {m.name for m in catalog.of_predictions(study.measured.own)}
        held_out = objective if metric else "error"
        by = f"{HELD_OUT}{held_out}" if study.selects else "test_error"
        numeric = [key for key, axis in study.sweep.items() if _numeric(axis)]
        measures = list(dict.fromkeys([by, *(name for name, _ in SHOWN)]))
        return pages.experiment_tags(
            study.name,
            study.question,
            measures,
            list(study.sweep),
            numeric,
            metric and direction == "max",
            {**{key: words.axis_title(key) for key in study.sweep}, **words.VERDICTS},
        )

    # -- the end --------------------------------------------------------------------------------

    def finish(self, records: list[Record], pictures: bool = True) -> None:
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
                best = found.best
                saving = self._save_model(best)
                self._draw(found)
                if best is not None and saving is not None:
                    self._send_model(best, saving)
        self.saver.close()

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
            if row.tie_group is not None:
                tags["engram.tie_group"] = str(row.tie_group)
            now[str(row.record["trial"])] = tags
            if known.get(str(row.record["trial"])) != tags:
                self.recorder.belongs(row.record["trial"], row.record["config_hash"])
                self.recorder.tags(row.record["trial"], tags)
        files.write(path, json.dumps(now))

    def _draw(self, found: Evidence) -> None:
        """The report and its pictures, drawn again only where there is something new, and sent."""
        path, marker, folder = (self.folder / n for n in ("report.html", "report.stamp", "figures"))
        stamp = _digest(found.records, found.provenance.get("git.commit"))
        if not (path.exists() and marker.exists() and marker.read_text() == stamp):
            pictures: list[Any] = []
            shutil.rmtree(folder, ignore_errors=True)
            with _harmless("the pictures"):
                from engram.sweeps.results.figures import draw

                pictures = draw.draw(found)
                draw.save(pictures, folder)
            files.write(path, report.page(found, pictures))
            files.write(marker, stamp)
        for file in sorted(folder.glob("*.png")):
            self.recorder.artifact(STUDY, file, to="figures")
        self.recorder.artifact(STUDY, path)

    # -- the best model -------------------------------------------------------------------------

    def _save_model(self, best: Record | None) -> best_model.Saving | None:
        """Begin to save it, beside what the driver does."""
        if not self.study.tracking.model or best is None:
            return None
        with _harmless("the best model"):
            configuration = self.study.configure(best["params"])
            data = self.datasets[datasets.key(configuration.data)]
            return self.saver.begin(best, configuration, data)
        return None

    def _send_model(self, best: Record, saving: best_model.Saving) -> None:
        serialization = saving.wait()
        if serialization is None:
            log.warning("the best model could not be saved: %s", self.folder / "model.log")
            return
        tags = {
            "engram.trial": str(best["trial"]),
            "engram.replica": str(saving.replica),
            "engram.chosen": "the replica of median validation error in the best trial",
            "engram.configuration": label(best["params"]),
            "engram.serialization": serialization,
        }
        configuration = self.study.configure(best["params"])
        params = {key: str(value) for key, value in configuration.dotted().items()}
        register = self.study.tracking.register_as
        self.recorder.model(
            saving.folder, "best_model", saving.tag, tags=tags, params=params, register=register
        )


def _load_what_drawing_takes() -> None:
    with _harmless("the pictures"):
        import engram.sweeps.results.figures.draw  # noqa: F401


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
