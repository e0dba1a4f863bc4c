"""Puts a study's messages into MLflow: runs, batches, files, and what another process left behind.

Every message may be sent twice and counts once: runs are found by their tags before they are created, and
a metric that a run has at that step is not sent to it again. Called from one thread, the recorder's.
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engram.sweeps.tracking import batches, embedded, rows
from engram.sweeps.tracking.contents import Contents, contents
from engram.sweeps.tracking.outbox import Message
from engram.sweeps.tracking.refusals import Refusals, hopeless
from engram.sweeps.tracking.rows import Entry, Rows
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
        self._there: dict[Key, Any] | None = None  # those that others made, once all are known
        self._runs: dict[Key, str] = {}
        self._begun: dict[Key, int] = {}  # when each run started
        # By run and metric, the points that are known to be there.
        self._sent: dict[Key, dict[str, set[tuple]]] = {}
        self._new: set[Key] = set()  # runs that have nothing but what this process sent
        self._params: dict[Key, dict[str, str]] = {}  # those that a run is known to have
        self._client: Any = None
        self._rows: Rows | None = None

    @property
    def study_run_id(self) -> str | None:
        return self._runs.get((STUDY, ""))

    def forget(self) -> None:
        """After a failure nobody knows what has arrived: the server is asked."""
        self._client = self.experiment_id = None
        self.in_doubt, self._alone, self._there = True, False, None
        self._sent.clear()
        self._new.clear()
        self._params.clear()

    def send(self, messages: list[Message]) -> None:
        """Send messages grouped by run: each run's own order is kept, batches are as large as allowed."""
        self._connect()
        groups: dict[Key, list[Message]] = {}
        for message in messages:
            groups.setdefault((message["trial"], message.get("hash", "")), []).append(message)
        if (parent := groups.pop((STUDY, ""), None)) is not None:  # first
            self._send_group((STUDY, ""), parent)
        for key in self._write({key: groups[key] for key in sorted(groups)}):
            self._send_group(key, groups[key])

    def _send_group(self, key: Key, messages: list[Message]) -> None:
        try:
            self._send_run(key, messages)
        except Exception as error:
            for message in messages:
                self._refusals.judge(message, error, functools.partial(self._check, key))

    def reserve(self, name: str) -> None:
        """Make a registered model's name the execution's own, where nobody has it."""
        from engram.sweeps.tracking import model

        self._connect()
        model.reserve(self._client, name)

    def settle(self, closing: bool) -> None:
        """Compare MLflow's runs with what is committed: none missing, none double, none left running."""
        self._connect()
        trials, unsettled = self._trials(), []
        seen: dict[Key, Any] = {}
        self._check((STUDY, ""))
        parent = self._client.get_run(self._run((STUDY, ""), Contents()))
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
            seen[number, found] = SimpleNamespace(info=run.info)
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
        self.in_doubt, self._there = False, seen
        if not parent.data.params:
            unsettled.insert(0, STUDY)
        if unsettled:
            self._again(unsettled)

    def _children(self) -> Iterator[Any]:
        query = f"tags.`engram.name` = '{self.name}' and tags.`engram.kind` = 'trial'"
        return every_run(
            self._client, [str(self.experiment_id)], query, "attributes.start_time ASC"
        )

    # -- many runs of the embedded store ---------------------------------------------------------

    def _write(self, groups: dict[Key, list[Message]]) -> list[Key]:
        """Write what can be written as rows; returns the runs that are left to MLflow's calls."""
        entries = {}
        for key, messages in groups.items():
            if (entry := self._entry(key, contents(messages))) is not None:
                entries[key] = entry
        if self._rows is not None and entries:
            self._put(self._rows, entries, groups)
        return [key for key in groups if key not in entries]

    def _put(self, to: Rows, entries: dict[Key, Entry], groups: dict[Key, list[Message]]) -> None:
        for key, entry in entries.items():
            for message in groups[key]:
                if message["kind"] == "artifact" and Path(message["path"]).exists():
                    to.file(entry.run_id, message)
        gone = to.write(list(entries.values()))
        for key, entry in entries.items():
            if entry.run_id in gone:
                del self._runs[key]
        if gone:
            raise Gone(f"runs were deleted: {', '.join(gone)}")
        for key, entry in entries.items():
            if entry.begun is not None:
                self._made(key, entry.run_id, entry.begun)
            if entry.ended is not None:
                self._finished(key)

    def _entry(self, key: Key, found: Contents) -> Entry | None:
        """Rows of a run that nobody but this process has written to; None for others, and for what only MLflow judges."""
        new = key not in self._runs
        alone = self._alone or (self._there is not None and key not in self._there)
        ours = alone and found.begins if new else key in self._new
        if self._rows is None or not ours or not found.kinds <= rows.KINDS:
            return None
        entry = Entry(self._runs.get(key) or uuid.uuid4().hex)
        if new:
            start = found.start or {"name": "", "time": now_ms()}
            entry.name, entry.begun = start["name"], start["time"]
        own = self._own(key) if new else {}
        entry.tags = {**own, **{k: str(v) for k, v in found.tags.items()}}
        entry.datasets, entry.metrics = found.datasets, found.metrics
        entry.params = {k: batches.word(v) for k, v in found.params.items()}
        if not entry.plain:
            return None
        if new:
            self._new.add(key)
            self._params[key] = {}
        if found.ends and found.last is not None:
            begun = entry.begun or self._begun.get(key, 0)
            entry.ended = found.last["status"], max(found.last["time"], begun)
        entry.params, changed = self._new_params(key, entry.run_id, found.params)
        entry.tags |= changed
        entry.metrics = self._new_metrics(key, entry.run_id, found.metrics)
        return entry

    # -- one run ---------------------------------------------------------------------------------

    def _send_run(self, key: Key, messages: list[Message]) -> None:
        found = contents(messages)
        run_id = self._run(key, found)
        if run_id is None:
            return
        tags = found.tags
        tables = [Path(m["path"]).name for m in messages if m["kind"] == "table"]
        if tables:
            tags["mlflow.loggedArtifacts"] = self._tables(run_id, tables)
        params, changed = self._new_params(key, run_id, found.params)
        points = self._new_metrics(key, run_id, found.metrics)
        self._log(key, run_id, points, params, {**tags, **changed})
        for message in messages:
            try:
                self._send_described(run_id, message)
            except Exception as error:
                self._refusals.judge(message, error, lambda: self._check(key))
        last = found.last
        if last is not None and found.ends:
            end = max(last["time"], self._begun.get(key, 0))
            self._client.set_terminated(run_id, last["status"], end)
            self._finished(key)
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
        sent = self._sent.setdefault(key, {})
        there: Any = None  # names of metrics that the run has, asked for once
        new = []
        for name, value, time_ms, step in metrics:
            if name not in sent:
                if there is None:
                    there = () if key in self._new else self._client.get_run(run_id).data.metrics
                points = self._client.get_metric_history(run_id, name) if name in there else ()
                sent[name] = {_point(key, m.step, m.value) for m in points}
            point = _point(key, step, value)
            if point not in sent[name]:
                sent[name].add(point)
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

    def _run(self, key: Key, said: Contents) -> str | None:
        """The run of a trial (or the parent), found by its tags or else created; None where nothing needs one."""
        if key not in self._runs:
            found = None if self._alone else self._find(key)
            if found is None:
                if key[0] != STUDY and not said.begins:
                    return None  # the end of what never began
                found = self._create(said.start or {"time": now_ms()}, self._own(key))
                # A parent that was not there has no children either: they need not be looked for.
                self._alone = self._alone or key[0] == STUDY
                self._new.add(key)
                self._params[key] = {}
            self._made(key, found.info.run_id, found.info.start_time)
        return self._runs[key]

    def _made(self, key: Key, run_id: str, begun: int) -> None:
        """A run is there, and this is it."""
        self._runs[key], self._begun[key] = run_id, begun
        if key[0] != STUDY:
            self._on_run(key[0], run_id)

    def _finished(self, key: Key) -> None:
        """A run has ended: what was remembered for it is let go."""
        self._sent.pop(key, None)
        self._params.pop(key, None)
        self._new.discard(key)

    def _own(self, key: Key) -> dict[str, str]:
        """The tags that a run is found by."""
        number, config_hash = key
        own = {"engram.name": self.name, "engram.kind": "study"}
        if number != STUDY:
            parent = self._run((STUDY, ""), Contents())
            own |= {"mlflow.parentRunId": parent or "", "engram.kind": "trial"}
            own |= {"engram.trial": str(number), "engram.config_hash": config_hash}
        return own

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
        if number != STUDY and self._there is not None:
            return self._there.get(key)
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
            known = self._client.get_experiment(self.experiment_id)
            self._rows = rows.of(embedded.database(self.uri), known)


class Gone(RuntimeError):
    """A run that was deleted while it was written to: it is looked for again, or made again."""


def _point(key: Key, step: int, value: float) -> tuple:
    """What tells a point of a metric from another: a trial has one a step, the study may get a better one."""
    return (step, value) if key[0] == STUDY else (step,)


def now_ms() -> int:
    return int(time.time() * 1000)
