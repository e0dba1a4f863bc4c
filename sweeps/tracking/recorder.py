"""Records a study in MLflow: the one file that knows it.

One experiment per study, a parent run per execution, a child run per trial. Training never waits for
MLflow and never stops because of it: messages go to an outbox on disk, and one writer thread sends
them, batched and in order. Every message may be sent twice and counts once: runs are found by their
tags before they are created, and a metric that a run has at that step is not sent to it again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeps.tracking.outbox import Message, Outbox
from sweeps.tracking.store import connect, experiment, without_password

log = logging.getLogger(__name__)

STUDY = -1  # the parent run, where a trial number is expected
GATHER_S = 0.3  # messages that arrive within this time travel together
LONGEST_PAUSE_S, PAUSE_AT_END_S = 15.0, 2.0
MOST_MESSAGES = 2000  # sent at once
METRICS_PER_BATCH, ENTRIES_PER_BATCH = 1000, 100  # MLflow's limits
LONGEST_PARAM, LONGEST_TAG = 6000, 8000
LARGEST_METRIC = 1.7e308
# What MLflow says of a store that it will never be able to use, whoever waits.
REFUSALS = (
    "out-of-date database schema",
    "can't locate revision",
    "file is not a database",
    "disk image is malformed",
)
Key = tuple[int, str]  # a run: the trial's number and its configuration's hash


class Recorder:
    """Accepts what happens in a study and sends it to MLflow from a thread of its own.

    uri: MLflow tracking URI; folder: where the outbox lives; name: of the execution (tag
    `engram.name`); on_run(trial, run_id): called once for each child run. Where an earlier process may
    have left runs behind (resumed): trials() says {trial: (hash, whether it is committed)}, and
    again(trials) is called with those committed ones whose runs do not say so. The callbacks are called
    from the writer's thread.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        experiment: str,
        name: str,
        artifacts: str | None,
        on_run: Callable[[int, str], None],
        resumed: bool = False,
        trials: Callable[[], dict[int, tuple[str, bool]]] = dict,
        again: Callable[[list[int]], None] = lambda numbers: None,
    ):
        self.uri, self.experiment, self.name, self.artifacts = uri, experiment, name, artifacts
        self.outbox = Outbox(folder)
        self.problem: str | None = None  # why nothing could be sent last time, for people
        self.refused: str | None = None  # why nothing can ever be sent to this store
        self._on_run, self._trials, self._again = on_run, trials, again
        self._hashes: dict[int, str] = {}
        self._runs: dict[Key, str] = {}
        self._begun: dict[Key, int] = {}  # when each run started
        self._sent: dict[
            tuple[Key, str], set[tuple]
        ] = {}  # points of a run's metric that are known to be there
        self._new: set[Key] = set()  # runs that have nothing but what this process sent
        self._params: dict[Key, dict[str, str]] = {}  # those that a run is known to have
        self._client: Any = None
        self._experiment_id: str | None = None
        self._stamp = 0
        self._in_doubt = resumed  # whether runs may be there that nobody here knows of
        self._alone = False  # whether every run of this execution was made by this process
        self._at_start = True
        self._closing = threading.Event()
        self._give_up = 0.0
        # Here and not in the thread: two threads that import MLflow at once break it for good.
        import mlflow.tracking  # noqa: F401

        self._thread = threading.Thread(target=self._work, name="engram-tracking", daemon=True)
        self._thread.start()

    # -- what happens in a study ------------------------------------------------------------------

    def study(self, tags: dict[str, str], params: dict[str, Any]) -> None:
        """The execution starts or goes on."""
        self._put(
            "start", STUDY, name=self.name, tags={"engram.kind": "study", **tags}, params=params
        )

    def trial(self, number: int, name: str, tags: dict[str, str], params: dict[str, Any]) -> None:
        """A trial starts or goes on."""
        tags = {"engram.kind": "trial", "engram.trial": str(number), **tags}
        self.belongs(number, tags.get("engram.config_hash", ""))
        self._put("start", number, name=name, tags=tags, params=params)

    def belongs(self, number: int, config_hash: str) -> None:
        """From now on, messages about this trial are about this configuration."""
        self._hashes[number] = config_hash

    def metrics(self, number: int, step: int, metrics: dict[str, float]) -> None:
        """Numbers at a step. NaN and infinities are left out: MLflow's page breaks on them."""
        finite = {
            k: float(v) for k, v in metrics.items() if v is not None and abs(v) < LARGEST_METRIC
        }
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

    def describe(self, tags: dict[str, str]) -> None:
        """Tags of the experiment: its description, its prepared view."""
        self._put("experiment", STUDY, tags=tags)

    def inputs(self, number: int, datasets: list[dict[str, str]]) -> None:
        """The datasets of a run; see pages.dataset."""
        self._put("inputs", number, datasets=datasets)

    def model(self, path: Path, name: str, tag: str, **about: Any) -> None:
        """A saved model of the study, known by its tag; see model.send."""
        self._put("model", STUDY, path=str(path), name=name, tag=tag, **about)

    def end(self, number: int, status: str = "FINISHED") -> None:
        """The run has ended: FINISHED, FAILED or KILLED."""
        self._put("end", number, durable=True, status=status)

    def _put(self, kind: str, number: int, durable: bool = False, **content: Any) -> None:
        # A clock that is set back must not put what comes later before what was earlier.
        self._stamp = max(self._stamp, _now_ms())
        message = {
            "kind": kind,
            "trial": number,
            "hash": self._hashes.get(number, ""),
            "time": self._stamp,
            **content,
        }
        self.outbox.put(message, durable)

    def close(self, timeout_s: float) -> bool:
        """Send what is left; False if something has to wait because nothing arrived for timeout_s."""
        self._give_up = time.monotonic() + timeout_s
        self._closing.set()
        self.outbox.arrived.set()
        before = self.outbox.acknowledged
        while self._thread.is_alive() and time.monotonic() < self._give_up:
            self._thread.join(0.2)
            if self.outbox.acknowledged != before:
                before, self._give_up = self.outbox.acknowledged, time.monotonic() + timeout_s
        if self.outbox.empty:
            self.outbox.clear()
            return not (self._in_doubt and self.problem)
        return False

    def view_url(self) -> str | None:
        """Where a server shows the experiment's prepared view; None for a store without a server."""
        from sweeps.tracking import pages

        if not self.uri.startswith("http") or self._experiment_id is None:
            return None
        address = without_password(self.uri).rstrip("/")
        return address + pages.view_path(self._experiment_id)

    @property
    def study_run_id(self) -> str | None:
        return self._runs.get((STUDY, ""))

    # -- the writer's thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            log.info("MLflow took %.2f s of CPU", time.thread_time())

    def _serve(self) -> None:
        pause, limit = 1.0, MOST_MESSAGES
        while True:
            self.outbox.arrived.wait(timeout=1.0)
            try:
                if self.outbox.empty:
                    closing = self._closing.is_set()
                    if self._in_doubt and (closing or self._at_start):
                        self._settle(closing)
                    self._at_start = False
                    if closing and self.outbox.empty:
                        return
                    if self.outbox.empty:
                        self.outbox.arrived.clear()
                    continue
                if not self._closing.is_set():
                    time.sleep(GATHER_S)
                self._send(list(self.outbox.pending(limit)))
                self.problem, pause, limit = None, 1.0, min(limit * 2, MOST_MESSAGES)
            except Exception as error:  # whatever the network does, training goes on
                self.problem = (
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[
                        :300
                    ]
                )
                log.warning(
                    "MLflow at %s: %s; trying again in %.0f s",
                    without_password(self.uri),
                    self.problem,
                    pause,
                )
                self._forget()
                if any(words in str(error).lower() for words in REFUSALS):
                    self.refused = (
                        f"{without_password(self.uri)} cannot be used: {_advice(str(error))}"
                    )
                    return
                limit = max(
                    1, limit // 4
                )  # of a server that often fails, little can be asked at once
                if self._closing.wait(pause):
                    if time.monotonic() > self._give_up:
                        return  # the study is over and the server is away: the outbox keeps it
                    time.sleep(min(pause, PAUSE_AT_END_S))
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _forget(self) -> None:
        """After a failure nobody knows what has arrived: the server is asked."""
        self._client = None
        self._in_doubt, self._alone = True, False
        self._sent.clear()
        self._new.clear()
        self._params.clear()

    def _send(self, messages: list[tuple[Message, int]]) -> None:
        """Send messages grouped by run: each run's own order is kept, batches are as large as allowed."""
        if not messages:  # damaged lines only
            self.outbox.skip()
            return
        self._connect()
        groups: dict[Key, list[Message]] = {}
        for message, _ in messages:
            groups.setdefault((message["trial"], message.get("hash", "")), []).append(message)
        for key in sorted(groups):  # the parent first
            self._send_run(key, groups[key])
        self.outbox.acknowledge(messages[-1][1])
        for message, _ in messages:
            if message["kind"] == "artifact" and not message["keep"]:
                Path(message["path"]).unlink(missing_ok=True)

    def _send_run(self, key: Key, messages: list[Message]) -> None:
        run_id = self._run(key, messages)
        if run_id is None:
            return
        metrics, params, tags = [], {}, {}
        for message in messages:
            if message["kind"] == "metrics":
                metrics += [
                    (k, v, message["time"], message["step"]) for k, v in message["metrics"].items()
                ]
            elif message["kind"] == "start":
                params.update(message["params"])
                tags.update(message["tags"])
            elif message["kind"] == "tags":
                tags.update(message["tags"])
            elif message["kind"] == "table":
                tags["mlflow.loggedArtifacts"] = self._tables(run_id, Path(message["path"]).name)
        params, changed = self._new_params(key, run_id, params)
        self._log(run_id, self._new_metrics(key, run_id, metrics), params, {**tags, **changed})
        for message in messages:
            if message["kind"] in ("artifact", "table") and Path(message["path"]).exists():
                with _tolerant(f"artifact {message['path']}"):
                    self._client.log_artifact(run_id, message["path"], message.get("to") or None)
            self._send_described(run_id, message)
        last = next((m for m in reversed(messages) if m["kind"] in ("start", "end")), None)
        if last is not None and last["kind"] == "end":
            end = max(last["time"], self._begun.get(key, 0))
            self._client.set_terminated(run_id, last["status"], end)
            self._sent = {k: points for k, points in self._sent.items() if k[0] != key}
            self._params.pop(key, None)
            self._new.discard(key)
        elif last is not None and key not in self._new:
            # A run that goes on after an interruption.
            self._client.update_run(run_id, status="RUNNING")

    def _send_described(self, run_id: str, message: Message) -> None:
        """What is there for a reader: each kind may arrive twice."""
        from sweeps.tracking import model, pages

        assert self._experiment_id is not None
        with _tolerant(f"{message['kind']} of run {run_id}"):
            if message["kind"] == "experiment":
                pages.tag_experiment(self._client, self._experiment_id, message["tags"])
            elif message["kind"] == "inputs":
                pages.log_inputs(self._client, run_id, message["datasets"])
            elif message["kind"] == "model" and Path(message["path"]).exists():
                model.send(self._client, self._experiment_id, run_id, message)

    def _new_metrics(self, key: Key, run_id: str, metrics: list[tuple]) -> list[tuple]:
        """Those that the run does not have yet."""
        there: Any = None  # names of metrics that the run has, asked for once
        new = []
        for name, value, time_ms, step in metrics:
            if (key, name) not in self._sent:
                if there is None:
                    there = () if key in self._new else self._client.get_run(run_id).data.metrics
                points = self._client.get_metric_history(run_id, name) if name in there else ()
                self._sent[key, name] = {_point(key, m.step, m.value) for m in points}
            point = _point(key, step, value)
            if point not in self._sent[key, name]:
                self._sent[key, name].add(point)
                new.append((name, value, time_ms, step))
        return new

    def _new_params(self, key: Key, run_id: str, params: dict[str, Any]) -> tuple[dict, dict]:
        """(params the run does not have, tags for those that it has with another value: a param stays)."""
        if not params:
            return {}, {}
        if key not in self._params:
            self._params[key] = dict(self._client.get_run(run_id).data.params)
        known = self._params[key]
        words = {k: str(v)[:LONGEST_PARAM] for k, v in params.items()}
        changed = {f"engram.now.{k}": v for k, v in words.items() if known.get(k, v) != v}
        new = {k: v for k, v in words.items() if k not in known}
        known.update(new)
        return new, changed

    def _log(self, run_id: str, metrics: list[tuple], params: dict, tags: dict) -> None:
        from mlflow.entities import Metric, Param, RunTag

        entities = [Metric(k, v, t, s) for k, v, t, s in metrics]
        words = [Param(k, v) for k, v in params.items()]
        labels = [RunTag(k, str(v)[:LONGEST_TAG]) for k, v in tags.items()]
        if len(words) <= ENTRIES_PER_BATCH >= len(labels) and (
            len(entities) + len(words) + len(labels) <= METRICS_PER_BATCH
        ):
            with _tolerant(f"batch of run {run_id}, which is sent in parts"):
                self._client.log_batch(run_id, entities, words, labels)
                return
        # Apart, so that a param which MLflow refuses for good takes no metric with it.
        for start in range(0, len(words), ENTRIES_PER_BATCH):
            with _tolerant(f"params of run {run_id}"):
                self._client.log_batch(run_id, params=words[start : start + ENTRIES_PER_BATCH])
        while entities or labels:
            room = METRICS_PER_BATCH - min(len(labels), ENTRIES_PER_BATCH)
            with _tolerant(f"batch of run {run_id}"):
                self._client.log_batch(run_id, entities[:room], tags=labels[:ENTRIES_PER_BATCH])
            entities, labels = entities[room:], labels[ENTRIES_PER_BATCH:]

    def _run(self, key: Key, messages: list[Message]) -> str | None:
        """The run of a trial (or the parent), found by its tags or else created; None where nothing needs one."""
        if key not in self._runs:
            found = None if self._alone else self._find(key)
            if found is None:
                number, config_hash = key
                if number != STUDY and not any(
                    m["kind"] in ("start", "metrics", "artifact") for m in messages
                ):
                    return None  # the end of what never began
                nothing: Message = {"time": _now_ms()}
                start = next((m for m in messages if m["kind"] == "start"), nothing)
                own: dict[str, str] = {"engram.name": self.name, "engram.kind": "study"}
                if number != STUDY:
                    parent = self._run((STUDY, ""), [])
                    own |= {"mlflow.parentRunId": parent or "", "engram.kind": "trial"}
                    own |= {"engram.trial": str(number), "engram.config_hash": config_hash}
                tags = {
                    k: str(v)[:LONGEST_TAG] for k, v in {**start.get("tags", {}), **own}.items()
                }
                found = self._client.create_run(
                    self._experiment_id, start["time"], tags, start.get("name")
                )
                # A parent that was not there has no children either: they need not be looked for.
                self._alone = self._alone or number == STUDY
                self._new.add(key)
                self._params[key] = {}
            self._runs[key] = found.info.run_id
            self._begun[key] = found.info.start_time
            if key[0] != STUDY:
                self._on_run(key[0], found.info.run_id)
        return self._runs[key]

    def _find(self, key: Key) -> Any:
        number, config_hash = key
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = '{'study' if number == STUDY else 'trial'}'"
        if number != STUDY:
            query += f" and tags.`engram.trial` = '{number}' and tags.`engram.config_hash` = '{config_hash}'"
        found = self._client.search_runs(
            [self._experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return found[0] if found else None

    def _settle(self, closing: bool) -> None:
        """Compare MLflow's runs with what is committed: none missing, none double, none left running."""
        self._connect()
        trials, seen, unsettled = self._trials(), set(), []
        for run in self._children():
            number, found = (
                int(run.data.tags["engram.trial"]),
                run.data.tags.get("engram.config_hash", ""),
            )
            if (number, found) in seen:
                self._client.delete_run(
                    run.info.run_id
                )  # made by a request that was answered too late
                continue
            seen.add((number, found))
            config_hash, committed = trials.get(number, (found, False))
            if found != config_hash:
                self._client.set_tag(run.info.run_id, "engram.kind", "superseded")
            elif committed and run.info.status not in ("FINISHED", "FAILED"):
                unsettled.append(number)
                continue
            if closing and run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        unsettled += [
            n for n, (config_hash, done) in trials.items() if done and (n, config_hash) not in seen
        ]
        self._in_doubt = False
        if unsettled:
            self._again(unsettled)

    def _children(self) -> Iterator[Any]:
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = 'trial'"
        order, token = ["attributes.start_time ASC"], None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], query, max_results=500, order_by=order, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _tables(self, run_id: str, name: str) -> str:
        tag = self._client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]")
        tables = {entry["path"]: entry for entry in json.loads(tag)}
        tables[name] = {"path": name, "type": "table"}
        return json.dumps(list(tables.values()))

    def _connect(self) -> None:
        if self._client is None:
            self._client = connect(self.uri)
        if self._experiment_id is None:
            self._experiment_id = experiment(self._client, self.experiment, self.artifacts)


@contextlib.contextmanager
def _tolerant(what: str) -> Iterator[None]:
    """A message that MLflow refuses for good must not hold up those behind it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "BAD_REQUEST",
            "RESOURCE_ALREADY_EXISTS",
        ):
            raise
        log.warning("MLflow refused %s: %s", what, str(error).splitlines()[0])


def _point(key: Key, step: int, value: float) -> tuple:
    """What tells a point of a metric from another: a trial has one a step, the study may get a better one."""
    return (step, value) if key[0] == STUDY else (step,)


def _advice(error: str) -> str:
    """What to do about a store that MLflow refuses."""
    first = error.splitlines()[0][:200]
    if "schema" in error.lower() or "revision" in error.lower():
        return f"another version of MLflow wrote it ({first}); use that version, or `mlflow db upgrade` after a backup"
    return f"it is damaged ({first}); restore it from a backup, or move it away: the next run records what is finished anew"


def _now_ms() -> int:
    return int(time.time() * 1000)
