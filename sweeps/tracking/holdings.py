"""An execution's runs in MLflow as things that one has: renamed, or taken out, together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from engram.sweeps.tracking.model import TAG as MODEL
from engram.sweeps.tracking.store import every_run, find_study


def rename(uri: str, old: str, new: str) -> int:
    """Give an execution's runs another name; returns how many it has. 0 where the store knows none of it."""
    found = find_study(uri, old)
    if found is None:
        return 0
    client, parent = found
    runs = [
        *_trials(client, parent, old),
        parent,
    ]  # the parent last: who is interrupted finds it again
    for run in runs:
        client.set_tag(run.info.run_id, "engram.name", new)
    client.update_run(parent.info.run_id, name=new)
    return len(runs)


def remove(uri: str, name: str, artifacts: Path | None) -> int:
    """Take an execution's runs out, with its best model; returns how many they were. A registered model stays.

    artifacts: of its experiment in the embedded store, whose files go at once. On a server runs are marked as
    deleted, and `mlflow gc` frees their space.
    """
    found = find_study(uri, name)
    if found is None:
        return 0
    client, parent = found
    runs = [*_trials(client, parent, name), parent]
    model = parent.data.tags.get(MODEL, "").rpartition(":")[2]
    if model and not client.search_model_versions(f"run_id = '{parent.info.run_id}'"):
        client.delete_logged_model(model)
        _remove(artifacts, f"models/{model}")
    for run in runs:
        client.delete_run(run.info.run_id)
        _remove(artifacts, run.info.run_id)
    return len(runs)


def _trials(client: Any, parent: Any, name: str) -> list[Any]:
    query = f"tags.`engram.name` = '{name}' and tags.`engram.kind` != 'study'"
    return list(every_run(client, [parent.info.experiment_id], query))


def _remove(artifacts: Path | None, name: str) -> None:
    if artifacts is not None:
        shutil.rmtree(artifacts / name, ignore_errors=True)
