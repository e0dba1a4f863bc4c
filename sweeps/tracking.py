"""Records a study in MLflow: the one file that knows it.

One experiment per study, a parent run per execution, a child run per trial. Training never waits for
MLflow and never stops because of it: messages go to an outbox on disk, and one writer thread sends
them, batched and in order. Every message may be sent twice and counts once: runs are found by their
tags before they are created, and MLflow ignores a metric it has (same key, step, time and value).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it lost batches where it was on
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from sweeps.outbox import Message, Outbox

log = logging.getLogger(__name__)

STUDY = -1  # the parent run, where a trial number is expected
GATHER_S = 0.3  # messages that arrive within this time travel together
LONGEST_PAUSE_S = 15.0
METRICS_PER_BATCH, ENTRIES_PER_BATCH = 1000, 100  # MLflow's limits
LONGEST_PARAM, LONGEST_TAG = 6000, 8000
LARGEST_METRIC = 1.7e308


class Recorder:
    """Accepts what happens in a study and sends it to MLflow from a thread of its own.

    uri: MLflow tracking URI; folder: where the outbox lives; name: of the execution (tag
    `engram.name`); on_run(trial, run_id): called once for each child run.
    """

    def __init__(self, uri: str, folder: Path, experiment: str, name: str, artifacts: str | None, on_run: Callable[[int, str], None]):
        self.uri, self.experiment, self.name, self.artifacts = uri, experiment, name, artifacts
        self.outbox = Outbox(folder)
        self.problem: str | None = None  # why nothing could be sent last time, for people
        self._on_run = on_run
        self._runs: dict[int, str] = {}
        self._client: Any = None
        self._experiment_id: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="engram-tracking", daemon=True)
        self._thread.start()

    # -- what happens in a study ------------------------------------------------------------------

    def study(self, tags: dict[str, str], params: dict[str, Any]) -> None:
        """The execution starts or goes on."""
        self._put("start", STUDY, name=self.name, tags={"engram.kind": "study", **tags}, params=params)

    def trial(self, number: int, name: str, tags: dict[str, str], params: dict[str, Any]) -> None:
        """A trial starts or goes on."""
        tags = {"engram.kind": "trial", "engram.trial": str(number), **tags}
        self._put("start", number, name=name, tags=tags, params=params)

    def metrics(self, number: int, step: int, metrics: dict[str, float]) -> None:
        """Numbers at a step. NaN and infinities are left out: MLflow's page breaks on them."""
        finite = {k: float(v) for k, v in metrics.items() if v is not None and abs(v) < LARGEST_METRIC}
        if finite:
            self._put("metrics", number, step=step, metrics=finite)

    def tags(self, number: int, tags: dict[str, str]) -> None:
        self._put("tags", number, tags=tags)

    def artifact(self, number: int, path: Path, to: str = "", keep: bool = True) -> None:
        """Send a file, under the folder `to`; without `keep` it is removed once it has arrived."""
        self._put("artifact", number, path=str(path), to=to, keep=keep)

    def table(self, number: int, path: Path) -> None:
        """Send a JSON table ({"columns", "data"}) that MLflow shows as one."""
        self._put("table", number, path=str(path))

    def end(self, number: int, status: str = "FINISHED") -> None:
        """The run has ended: FINISHED, FAILED or KILLED."""
        self._put("end", number, durable=True, status=status)

    def _put(self, kind: str, number: int, durable: bool = False, **content: Any) -> None:
        self.outbox.put({"kind": kind, "trial": number, "time": _now_ms(), **content}, durable)

    def close(self, timeout_s: float) -> bool:
        """Send what is left, for at most timeout_s; False if something has to wait for another time."""
        self._closing.set()
        self.outbox.arrived.set()
        self._thread.join(timeout_s)
        sent = self.outbox.empty
        if sent:
            self.outbox.clear()
        return sent

    @property
    def study_run_id(self) -> str | None:
        return self._runs.get(STUDY)

    # -- the writer's thread --------------------------------------------------------------------

    def _work(self) -> None:
        pause = 1.0
        while True:
            self.outbox.arrived.wait(timeout=1.0)
            if self.outbox.empty:
                if self._closing.is_set():
                    return
                self.outbox.arrived.clear()
                continue
            if not self._closing.is_set():
                time.sleep(GATHER_S)
            try:
                self._send(list(self.outbox.pending()))
                self.problem, pause = None, 1.0
            except Exception as error:  # whatever the network does, training goes on
                self.problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
                log.warning("MLflow at %s: %s; trying again in %.0f s", without_password(self.uri), self.problem, pause)
                self._client = None
                if self._closing.wait(pause) and pause > 1.0:
                    return  # the study is over and the server is away: the outbox keeps it
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _send(self, messages: list[tuple[Message, int]]) -> None:
        """Send messages grouped by run: each run's own order is kept, batches are as large as allowed."""
        self._connect()
        groups: dict[int, list[Message]] = {}
        for message, _ in messages:
            groups.setdefault(message["trial"], []).append(message)
        for number in sorted(groups):  # the parent first
            self._send_run(number, groups[number])
        self.outbox.acknowledge(messages[-1][1])
        for message, _ in messages:
            if message["kind"] == "artifact" and not message["keep"]:
                Path(message["path"]).unlink(missing_ok=True)

    def _send_run(self, number: int, messages: list[Message]) -> None:
        run_id = self._run(number, messages)
        metrics, params, tags = [], {}, {}
        for message in messages:
            if message["kind"] == "metrics":
                metrics += [(k, v, message["time"], message["step"]) for k, v in message["metrics"].items()]
            elif message["kind"] == "start":
                params.update(message["params"])
                tags.update(message["tags"])
            elif message["kind"] == "tags":
                tags.update(message["tags"])
            elif message["kind"] == "table":
                tags["mlflow.loggedArtifacts"] = self._tables(number, Path(message["path"]).name)
        self._log(run_id, metrics, params, tags)
        for message in messages:
            if message["kind"] in ("artifact", "table") and Path(message["path"]).exists():
                with _tolerant(f"artifact {message['path']}"):
                    self._client.log_artifact(run_id, message["path"], message.get("to") or None)
        ends = [m for m in messages if m["kind"] == "end"]
        if ends:
            self._client.set_terminated(run_id, ends[-1]["status"], ends[-1]["time"])
        elif any(m["kind"] == "start" for m in messages):
            self._client.update_run(run_id, status="RUNNING")  # a run that goes on after an interruption

    def _log(self, run_id: str, metrics: list[tuple], params: dict, tags: dict) -> None:
        from mlflow.entities import Metric, Param, RunTag

        entities = [Metric(k, v, t, s) for k, v, t, s in metrics]
        words = [Param(k, str(v)[:LONGEST_PARAM]) for k, v in params.items()]
        labels = [RunTag(k, str(v)[:LONGEST_TAG]) for k, v in tags.items()]
        while entities or words or labels:
            room = METRICS_PER_BATCH - min(len(words), ENTRIES_PER_BATCH) - min(len(labels), ENTRIES_PER_BATCH)
            with _tolerant(f"batch of run {run_id}"):
                self._client.log_batch(run_id, entities[:room], words[:ENTRIES_PER_BATCH], labels[:ENTRIES_PER_BATCH])
            entities, words, labels = entities[room:], words[ENTRIES_PER_BATCH:], labels[ENTRIES_PER_BATCH:]

    def _run(self, number: int, messages: list[Message]) -> str:
        """The run of a trial (or the parent), found by its tags or else created."""
        if number not in self._runs:
            found = self._find(number)
            if found is None:
                start = next((m for m in messages if m["kind"] == "start"), messages[0])
                parent = {} if number == STUDY else {"mlflow.parentRunId": self._run(STUDY, messages)}
                tags = {**start.get("tags", {}), **parent, "engram.name": self.name}
                tags = {k: str(v)[:LONGEST_TAG] for k, v in tags.items()}
                found = self._client.create_run(
                    self._experiment_id, start["time"], tags, start.get("name")
                ).info.run_id
            self._runs[number] = found
            if number != STUDY:
                self._on_run(number, found)
        return self._runs[number]

    def _find(self, number: int) -> str | None:
        kind = "study" if number == STUDY else "trial"
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = '{kind}'"
        if number != STUDY:
            query += f" and tags.`engram.trial` = '{number}'"
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        return found[0].info.run_id if found else None

    def _tables(self, number: int, name: str) -> str:
        tag = self._client.get_run(self._runs[number]).data.tags.get("mlflow.loggedArtifacts", "[]")
        tables = {entry["path"]: entry for entry in json.loads(tag)}
        tables[name] = {"path": name, "type": "table"}
        return json.dumps(list(tables.values()))

    def _connect(self) -> None:
        if self._client is None:
            self._client = connect(self.uri)
        if self._experiment_id is None:
            self._experiment_id = _experiment(self._client, self.experiment, self.artifacts)


# -- reading back -----------------------------------------------------------------------------------


def connect(uri: str) -> Any:
    """A client. An embedded store is made once, under a lock: two at once would break it for good."""
    _quiet_libraries()
    from mlflow.tracking import MlflowClient

    with _store_lock(uri):
        client = MlflowClient(uri)
        if uri.startswith("sqlite"):
            client.search_experiments(max_results=1)
        return client


def find_study(uri: str, name: str | None) -> tuple[Any, Any] | None:
    """(client, parent run) of an execution, the newest when name is None; None where there is none."""
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return None
    client = connect(uri)
    query = "tags.`engram.kind` = 'study'" + (f" and tags.`engram.name` = '{name}'" if name else "")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return (client, runs[0]) if runs else None


def read_json(client: Any, run_id: str, path: str) -> Any:
    """A JSON artifact of a run, or None where it has none."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            return json.loads(Path(client.download_artifacts(run_id, path, folder)).read_text())
        except Exception:  # each artifact store has its own way of saying that there is no such file
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


def _experiment(client: Any, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # another study may have made it meanwhile
            return client.create_experiment(name, artifact_location=artifacts)
        found = client.get_experiment_by_name(name)
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


@contextlib.contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    import fcntl

    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _tolerant(what: str) -> Iterator[None]:
    """A message that MLflow refuses for good must not hold up those behind it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"):
            raise
        log.warning("MLflow refused %s: %s", what, str(error).splitlines()[0])


def _quiet_libraries() -> None:
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)


def without_password(uri: str) -> str:
    """The URI as it may be shown: user and password left out."""
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else uri


def _now_ms() -> int:
    return int(time.time() * 1000)


