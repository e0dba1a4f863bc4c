"""What MLflow keeps of the nights: the comparison on each night's run, the trend on a run of the study's own,
and the summary alone of nights that are pruned.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram.sweeps.tracking.model import TAG as MODEL
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.tracking.store import connect, experiment, find_study, run_url

KIND = "nights"  # engram.kind of the run that holds a study's trend
FOLDER = "nightly"
SEND_S = 30.0
MOST_METRICS = 1000
ODD = re.compile(r"[^A-Za-z0-9_\-.: /]+")


@dataclass(frozen=True)
class Place:
    """Where a study is recorded. artifacts: of the embedded store, None on a server."""

    uri: str
    experiment: str
    artifacts: Path | None = None


@dataclass(frozen=True)
class Point:
    """One night of the trend. step: hours since the first; values: {metric: value}."""

    step: int
    time_ms: int
    values: dict[str, float] = field(default_factory=dict)


def record(
    place: Place, folder: Path, night: str, tags: dict[str, str], files: Sequence[Path]
) -> bool:
    """Tags and files for a night's run, by way of its outbox: what a server missed is sent as well.

    folder: the night's state folder. False where something has to wait for another time.
    """
    if find_study(place.uri, night) is None and not (folder / "outbox.jsonl").exists():
        return True  # it never began
    artifacts = None if place.artifacts is None else place.artifacts.as_uri()
    recorder = Recorder(
        place.uri, folder, place.experiment, night, artifacts, lambda number, run_id: None
    )
    recorder.tags(STUDY, {f"engram.night.{key}": value for key, value in tags.items()})
    for file in files:
        recorder.artifact(STUDY, file, to=FOLDER)
    return recorder.close(SEND_S)


def address(place: Place, night: str) -> str | None:
    """Where a server shows a night's run; None for a store without a server."""
    found = find_study(place.uri, night)
    if found is None:
        return None
    info = found[1].info
    return run_url(place.uri, info.experiment_id, info.run_id)


def trend(
    place: Place,
    study: str,
    points: Sequence[Point],
    new: set[int],
    files: Sequence[Path],
    tables: dict[str, dict[str, Any]],
    note: str,
) -> None:
    """Bring the study's trend up to date. new: the steps that its run lacks; all where it has to be made."""
    client = connect(place.uri)
    artifacts = None if place.artifacts is None else place.artifacts.as_uri()
    home = experiment(client, place.experiment, artifacts)
    query = f"tags.`engram.kind` = '{KIND}' and tags.`engram.study` = '{study}'"
    found = client.search_runs([home], query, max_results=1)
    tags = {"mlflow.note.content": note, "mlflow.loggedArtifacts": _listed(tables)}
    if found:
        run_id = found[0].info.run_id
    else:
        own = {"engram.kind": KIND, "engram.study": study}
        run_id = client.create_run(home, tags=own, run_name=f"{study}: all nights").info.run_id
        new = {point.step for point in points}
    _log(client, run_id, [point for point in points if point.step in new], tags)
    for file in files:
        client.log_artifact(run_id, str(file))
    for name, table in tables.items():
        client.log_text(run_id, json.dumps(table), name)
    client.set_terminated(run_id)


def _listed(tables: dict[str, Any]) -> str:
    return json.dumps([{"path": name, "type": "table"} for name in tables])


def _log(client: Any, run_id: str, points: Sequence[Point], tags: dict[str, str]) -> None:
    from mlflow.entities import Metric, RunTag

    metrics = [
        Metric(ODD.sub("_", name)[:250], value, point.time_ms, point.step)
        for point in points
        for name, value in point.values.items()
    ]
    client.log_batch(run_id, tags=[RunTag(key, value[:8000]) for key, value in tags.items()])
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])


def prune(place: Place, night: str) -> int:
    """Take the trials of a night out of MLflow; its parent run keeps rankings, report and comparison.

    Returns the number of runs taken out. On a server they are marked as deleted, and `mlflow gc` frees
    their space; in the embedded store their files go at once. A registered model stays.
    """
    found = find_study(place.uri, night)
    if found is None:
        return 0
    client, parent = found
    query = f"tags.`engram.name` = '{night}' and tags.`engram.kind` != 'study'"
    taken = 0
    while runs := client.search_runs([parent.info.experiment_id], query, max_results=500):
        for run in runs:
            client.delete_run(run.info.run_id)
            _remove(place, run.info.run_id)
        taken += len(runs)
    model = parent.data.tags.get(MODEL, "").rpartition(":")[2]
    if model and not client.search_model_versions(f"run_id = '{parent.info.run_id}'"):
        client.delete_logged_model(model)
        _remove(place, f"models/{model}")
    client.set_tag(parent.info.run_id, "engram.night.pruned", time.strftime("%Y-%m-%d"))
    return taken


def _remove(place: Place, name: str) -> None:
    if place.artifacts is not None:
        shutil.rmtree(place.artifacts / name, ignore_errors=True)
