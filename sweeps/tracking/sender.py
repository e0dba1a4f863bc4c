"""Puts a study's messages into MLflow: runs, batches, files, and what another process left behind.

Every message may be sent twice and counts once: runs are found by their tags before they are created, and
a metric that a run has at that step is not sent to it again. Called from one thread, the recorder's.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engram.sweeps.tracking import batches
from engram.sweeps.tracking.outbox import Message
from engram.sweeps.tracking.refusals import Refusals, hopeless
from engram.sweeps.tracking.store import connect, every_run, experiment

STUDY = -1  # the parent run, where a trial number is expected
LONGEST_NAME = 250
Key = tuple[int, str]  # a run: the trial's number and its configuration's hash


class Sender:
    """The runs of one execution in one store.

    uri: MLflow tracking URI; name: of the execution (tag `engram.name`); on_run(trial, run_id): called
    once for each child run. Where an earlier process may have left runs behind (in_doubt): trials() says
    {trial: (hash, whether it is committed)}, and again(trials) is called with those committed ones whose
    runs do not say so, STUDY among them where the parent's own record is missing. refusals: where what the
    store will never take is set aside.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        artifacts: str | None,
        name: str,
        in_doubt: bool,
        on_run: Callable[[int, str], None],
        trials: Callable[[], dict[int, tuple[str, bool]]],
        again: Callable[[list[int]], None],
        refusals: Refusals,
    ):
        self.uri, self.experiment, self.name, self.artifacts = uri, experiment, name, artifacts
        self.in_doubt = in_doubt  # whether runs may be there that nobody here knows of
        self.experiment_id: str | None = None
        self._on_run, self._trials, self._again = on_run, trials, again
        self._refusals = refusals
        self._alone = False  # whether every run of this execution was made by this process
        self._runs: dict[Key, str] = {}
        self._begun: dict[Key, int] = {}  # when each run started
        self._sent: dict[
            tuple[Key, str], set[tuple]
        ] = {}  # points of a run's metric that are known to be there
        self._new: set[Key] = set()  # runs that have nothing but what this process sent
        self._params: dict[Key, dict[str, str]] = {}  # those that a run is known to have
        self._client: Any = None

    @property
    def study_run_id(self) -> str | None:
        return self._runs.get((STUDY, ""))

    def forget(self) -> None:
        """After a failure nobody knows what has arrived: the server is asked."""
        self._client = self.experiment_id = None
        self.in_doubt, self._alone = True, False
        self._sent.clear()
        self._new.clear()
        self._params.clear()

    def send(self, messages: list[Message]) -> None:
        """Send messages grouped by run: each run's own order is kept, batches are as large as allowed."""
        self._connect()
        groups: dict[Key, list[Message]] = {}
        for message in messages:
            groups.setdefault((message["trial"], message.get("hash", "")), []).append(message)
        for key in sorted(groups):  # the parent first
            try:
                self._send_run(key, groups[key])
            except Exception as error:
                for message in groups[key]:
                    self._refusals.judge(message, error, functools.partial(self._check, key))

    def reserve(self, name: str) -> None:
        """Make a registered model's name the execution's own, where nobody has it."""
        from engram.sweeps.tracking import model

        self._connect()
        model.reserve(self._client, name)

    def settle(self, closing: bool) -> None:
        """Compare MLflow's runs with what is committed: none missing, none double, none left running."""
        self._connect()
        trials, seen, unsettled = self._trials(), set(), []
        self._check((STUDY, ""))
        parent = self._client.get_run(self._run((STUDY, ""), []))
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
            elif committed and (
                run.info.status not in ("FINISHED", "FAILED") or not run.data.params
            ):
                unsettled.append(number)
                continue
            if run.data.tags.get("mlflow.parentRunId") != parent.info.run_id:
                self._client.set_tag(run.info.run_id, "mlflow.parentRunId", parent.info.run_id)
            if closing and run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        unsettled += [
            n for n, (config_hash, done) in trials.items() if done and (n, config_hash) not in seen
        ]
        self.in_doubt = False
        if not parent.data.params:
            unsettled.insert(0, STUDY)
        if unsettled:
            self._again(unsettled)

    def _children(self) -> Iterator[Any]:
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = 'trial'"
        return every_run(
            self._client, [str(self.experiment_id)], query, "attributes.start_time ASC"
        )

    # -- one run ---------------------------------------------------------------------------------

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
        tables = [Path(m["path"]).name for m in messages if m["kind"] == "table"]
        if tables:
            tags["mlflow.loggedArtifacts"] = self._tables(run_id, tables)
        params, changed = self._new_params(key, run_id, params)
        points = self._new_metrics(key, run_id, metrics)
        self._log(key, run_id, points, params, {**tags, **changed})
        for message in messages:
            try:
                self._send_described(run_id, message)
            except Exception as error:
                self._refusals.judge(message, error, lambda: self._check(key))
        last = next((m for m in reversed(messages) if m["kind"] in ("start", "end")), None)
        if last is not None and last["kind"] == "end":
            end = max(last["time"], self._begun.get(key, 0))
            self._client.set_terminated(run_id, last["status"], end)
            self._sent = {k: points for k, points in self._sent.items() if k[0] != key}
            self._params.pop(key, None)
            self._new.discard(key)
        elif last is not None and key not in self._new:
            # A run that goes on after an interruption, or that was made before its name was known.
            self._client.update_run(run_id, status="RUNNING", name=last["name"][:LONGEST_NAME])

    def _send_described(self, run_id: str, message: Message) -> None:
        """Files, and what is there for a reader: each may arrive twice."""
        from engram.sweeps.tracking import model, pages

        assert self.experiment_id is not None
        kind = message["kind"]
        if kind in ("artifact", "table") and Path(message["path"]).exists():
            self._client.log_artifact(run_id, message["path"], message.get("to") or None)
        elif kind == "experiment":
            pages.tag_experiment(self._client, self.experiment_id, message["tags"])
        elif kind == "inputs":
            pages.log_inputs(self._client, run_id, message["datasets"])
        elif kind == "model" and Path(message["path"]).exists():
            model.send(self._client, self.experiment_id, run_id, message)

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
        words = {k: batches.word(v) for k, v in params.items()}
        changed = {
            f"engram.now.{k}": v for k, v in words.items() if not batches.same(known.get(k, v), v)
        }
        new = {k: v for k, v in words.items() if k not in known}
        known.update(new)
        return new, changed

    def _log(self, key: Key, run_id: str, metrics: list, params: dict, tags: dict) -> None:
        number, config_hash = key

        def never(error: Exception) -> bool:
            if hopeless(error):
                self._check(key)  # what was refused may be the run, not what it was sent
                return True
            return False

        def refuse(kind: str, name: str, value: Any, error: Exception) -> None:
            message = {"kind": kind, "trial": number, "hash": config_hash, name: value}
            self._refusals.judge(message, error, lambda: None)

        batches.log(self._client, run_id, metrics, params, tags, never, refuse)

    def _check(self, key: Key) -> None:
        """Raise where the server does not answer as it does otherwise, or the run is no longer there."""
        self._client.get_experiment(self.experiment_id)
        if key in self._runs:
            try:
                gone = self._client.get_run(self._runs[key]).info.lifecycle_stage == "deleted"
            except Exception as error:
                if not hopeless(error):
                    raise
                gone = True
            if gone:
                del self._runs[key]
                raise Gone(f"the run of {key[0]} was deleted")

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
                nothing: Message = {"time": now_ms()}
                start = next((m for m in messages if m["kind"] == "start"), nothing)
                own: dict[str, str] = {"engram.name": self.name, "engram.kind": "study"}
                if number != STUDY:
                    parent = self._run((STUDY, ""), [])
                    own |= {"mlflow.parentRunId": parent or "", "engram.kind": "trial"}
                    own |= {"engram.trial": str(number), "engram.config_hash": config_hash}
                found = self._create(start, own)
                # A parent that was not there has no children either: they need not be looked for.
                self._alone = self._alone or number == STUDY
                self._new.add(key)
                self._params[key] = {}
            self._runs[key] = found.info.run_id
            self._begun[key] = found.info.start_time
            if key[0] != STUDY:
                self._on_run(key[0], found.info.run_id)
        return self._runs[key]

    def _create(self, start: Message, own: dict[str, str]) -> Any:
        """A new run; without the tags that it starts with where they are refused: they are sent after it."""
        name = start.get("name")
        tags = {
            k: str(v)[: batches.LONGEST_TAG] for k, v in {**start.get("tags", {}), **own}.items()
        }
        try:
            return self._client.create_run(self.experiment_id, start["time"], tags, name)
        except Exception as error:
            if not hopeless(error):
                raise
            name = name and name[:LONGEST_NAME]
            return self._client.create_run(self.experiment_id, start["time"], own, name)

    def _find(self, key: Key) -> Any:
        number, config_hash = key
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = '{'study' if number == STUDY else 'trial'}'"
        if number != STUDY:
            query += f" and tags.`engram.trial` = '{number}' and tags.`engram.config_hash` = '{config_hash}'"
        found = self._client.search_runs(
            [self.experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"]
        )
        return found[0] if found else None

    def _tables(self, run_id: str, names: list[str]) -> str:
        """The tag that lists a run's tables, with these among them."""
        tag = self._client.get_run(run_id).data.tags.get("mlflow.loggedArtifacts", "[]")
        tables = {entry["path"]: entry for entry in json.loads(tag)}
        tables |= {name: {"path": name, "type": "table"} for name in names}
        return json.dumps(list(tables.values()))

    def _connect(self) -> None:
        if self._client is None:
            self._client = connect(self.uri)
        if self.experiment_id is None:
            self.experiment_id = experiment(self._client, self.experiment, self.artifacts)


class Gone(RuntimeError):
    """A run that was deleted while it was written to: it is looked for again, or made again."""


def _point(key: Key, step: int, value: float) -> tuple:
    """What tells a point of a metric from another: a trial has one a step, the study may get a better one."""
    return (step, value) if key[0] == STUDY else (step,)


def now_ms() -> int:
    return int(time.time() * 1000)
