"""An execution copied from one MLflow store to another, run by run. A copy says which run it is one of.

A run that was not copied to its end is thrown away and copied anew, so that a copy may be interrupted.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engram.sweeps.tracking import model as models
from engram.sweeps.tracking.store import connect, every_run, experiment, find_study

ORIGIN = "engram.copy_of"  # on a copy: the id of the run in the store that it was copied from
WHOLE = "engram.copy_whole"
TRIALS = "trials.json"
BATCH, METRICS = 100, 1000
LEFT_OUT = ("mlflow.parentRunId", "mlflow.runName", models.TAG, WHOLE)


class Taken(RuntimeError):
    """The other store has an execution of this name that is no copy of this one."""


def copy(
    client: Any, parent: Any, name: str, uri: str, artifacts: str | None = None
) -> dict[str, str]:
    """Copy an execution (its parent run and the runs of its trials); returns {run: its copy}. Taken if it cannot be.

    artifacts: where files of the experiment go if it has to be made; the store's own place without it.
    """
    there = find_study(uri, name)
    if there is not None and there[1].data.tags.get(ORIGIN) != parent.info.run_id:
        raise Taken(f"has another execution named {name}")
    target = connect(uri)
    source_experiment = client.get_experiment(parent.info.experiment_id)
    target_id = experiment(target, source_experiment.name, artifacts)
    for key, value in source_experiment.tags.items():
        target.set_experiment_tag(target_id, key, value)
    copies = {run.data.tags[ORIGIN]: run for run in _copies(target, target_id)}
    # The parent first, for the trials name it; its files last, for they name the trials.
    root = _whole(target, copies, parent) or _begin(client, target, target_id, parent, copies)
    numbers = {parent.info.run_id: root}
    for run in children(client, parent):
        done = _whole(target, copies, run)
        if done is None:
            done = _begin(client, target, target_id, run, copies, root)
            _files(client, target, run.info.run_id, done, {})
            _end(target, run, done)
        numbers[run.info.run_id] = done
    if _whole(target, copies, parent) is None:
        _files(client, target, parent.info.run_id, root, numbers)
        _model(client, target, target_id, parent, root)
        _end(target, parent, root)
    return numbers


def _whole(target: Any, copies: dict[str, Any], run: Any) -> str | None:
    """The copy of a run, where it is complete."""
    known = copies.get(run.info.run_id)
    return known.info.run_id if known is not None and WHOLE in known.data.tags else None


def _begin(
    client: Any,
    target: Any,
    experiment_id: str,
    run: Any,
    copies: dict[str, Any],
    parent: str | None = None,
) -> str:
    """A new run with everything of another but its files; what an interruption left of it is deleted."""
    from mlflow.entities import Metric, Param

    if run.info.run_id in copies:
        target.delete_run(copies[run.info.run_id].info.run_id)
    tags = {k: v for k, v in run.data.tags.items() if k not in LEFT_OUT}
    tags |= {ORIGIN: run.info.run_id}
    tags |= {"mlflow.parentRunId": parent} if parent else {}
    made = target.create_run(experiment_id, run.info.start_time, tags, run.info.run_name)
    new = str(made.info.run_id)
    params = [Param(k, v) for k, v in run.data.params.items()]
    for part in _parts(params, BATCH):
        target.log_batch(new, params=part)
    points = [
        Metric(m.key, m.value, m.timestamp, m.step)
        for name in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, name)
    ]
    for part in _parts(points, METRICS):
        target.log_batch(new, metrics=part)
    if run.inputs and run.inputs.dataset_inputs:
        target.log_inputs(new, run.inputs.dataset_inputs)
    return new


def _files(client: Any, target: Any, run_id: str, new: str, numbers: dict[str, str]) -> None:
    """The files of a run; the table of trials names the new runs."""
    if not client.list_artifacts(run_id):
        return
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        here = Path(client.download_artifacts(run_id, "", folder))
        trials = here / TRIALS
        if numbers and trials.exists():
            records = json.loads(trials.read_text())
            for record in records:
                if record.get("run_id") in numbers:
                    record["run_id"] = numbers[record["run_id"]]
            trials.write_text(json.dumps(records))
        target.log_artifacts(new, str(here))


def _model(client: Any, target: Any, experiment_id: str, parent: Any, root: str) -> None:
    """The best model, logged under the copy; a registered name is not taken there."""
    tag, _, model_id = parent.data.tags.get(models.TAG, "").rpartition(":")
    if not model_id:
        return
    found = client.get_logged_model(model_id)
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        from mlflow.artifacts import download_artifacts

        path = download_artifacts(
            artifact_uri=found.artifact_location,
            dst_path=folder,
            tracking_uri=client.tracking_uri,
        )
        message = {"tag": tag, "name": found.name, "tags": found.tags, "params": found.params}
        models.send(target, experiment_id, root, {**message, "path": path})


def _end(target: Any, run: Any, new: str) -> None:
    if run.info.status != "RUNNING":
        target.set_terminated(new, run.info.status, run.info.end_time)
        target.set_tag(new, WHOLE, "true")  # one that goes on is copied again, next time


def children(client: Any, parent: Any) -> Iterator[Any]:
    """The runs of an execution's trials."""
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return every_run(client, [parent.info.experiment_id], query)


def _copies(target: Any, experiment_id: str) -> Iterator[Any]:
    return every_run(target, [experiment_id], f"tags.`{ORIGIN}` != ''")


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
