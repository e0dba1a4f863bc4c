"""The MLflow store: a client of it, its experiments, and what is read back from them.

MLflow's own settings are made here, before it is imported: no telemetry, no progress bars, no waiting.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engram.sweeps.state.names import study_name
from engram.sweeps.tracking import embedded
from engram.sweeps.tracking.embedded import Unusable

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it lost batches where it was on
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Addresses of runs: they would show the password of the server.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a repeated create_run creates twice
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


# What MLflow says of a store that it will never be able to use, whoever waits.
NEVER = (
    "out-of-date database schema",
    "can't locate revision",
    "file is not a database",
    "disk image is malformed",
)
_IMPORTING = threading.Lock()  # two threads that import MLflow at once break it for good


def connect(uri: str) -> Any:
    """A client. An embedded store is made once, aside and under a lock; Unusable where it cannot be used."""
    _quiet_libraries()
    with _IMPORTING:
        from mlflow.tracking import MlflowClient

    path = embedded.database(uri)
    if path is None:
        return MlflowClient(uri)
    with embedded.locked(path):
        embedded.prepare(path)
        client = MlflowClient(uri)
        try:
            client.search_experiments(max_results=1)
        except Exception as error:
            if any(words in str(error).lower() for words in NEVER):
                raise Unusable(embedded.advice(str(error))) from error
            raise
        return client


def find_study(uri: str, name: str | None) -> tuple[Any, Any] | None:
    """(client, parent run) of an execution, the newest when name is None; None where there is none."""
    path = embedded.database(uri)
    if (path is not None and not path.exists()) or (name is not None and study_name(name)):
        return None  # a name that no execution can have is never put into a query
    client = connect(uri)
    query = "tags.`engram.kind` = 'study'" + (f" and tags.`engram.name` = '{name}'" if name else "")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(
        experiments, query, max_results=1, order_by=["attributes.start_time DESC"]
    )
    return (client, runs[0]) if runs else None


def studies(uri: str) -> Iterator[tuple[str, Any]]:
    """(experiment, parent run) of every execution in a store, the newest first."""
    path = embedded.database(uri)
    if path is not None and not path.exists():
        return
    client = connect(uri)
    names = {e.experiment_id: e.name for e in client.search_experiments()}
    if names:
        query = "tags.`engram.kind` = 'study'"
        for run in every_run(client, list(names), query, "attributes.start_time DESC"):
            yield names[run.info.experiment_id], run


def every_run(
    client: Any, experiments: Sequence[str], query: str, order: str | None = None
) -> Iterator[Any]:
    """Every run of some experiments that a query finds, page by page; order: MLflow's words."""
    token = None
    while True:
        page = client.search_runs(
            list(experiments),
            query,
            max_results=500,
            order_by=[order] if order else None,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def read_json(client: Any, run_id: str, path: str) -> Any:
    """A JSON artifact of a run, or None where it has none."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            return json.loads(Path(client.download_artifacts(run_id, path, folder)).read_text())
        except (
            Exception
        ):  # each artifact store has its own way of saying that there is no such file
            return None


def read_file(client: Any, run_id: str, path: str, folder: Path) -> Path | None:
    """An artifact of a run as a file under `folder`, or None where it has none."""
    try:
        return Path(client.download_artifacts(run_id, path, str(folder)))
    except Exception:
        return None


def run_url(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Where a run is seen in MLflow's pages, for a server; None for a store without one."""
    if not uri.startswith("http"):
        return None
    return f"{without_password(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def experiment(client: Any, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # another study may have made it meanwhile
            return client.create_experiment(name, artifact_location=artifacts)
        found = client.get_experiment_by_name(name)
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _quiet_libraries() -> None:
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are raised as well


def without_password(uri: str) -> str:
    """The URI as it may be shown: user and password left out."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else uri
