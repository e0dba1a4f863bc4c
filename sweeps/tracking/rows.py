"""Runs written into the embedded store as rows, many trials in one transaction.

MLflow's calls take 50 ms of CPU for a trial, most of it in objects and in one transaction a call; rows take one. Only runs
that this process makes are written so, and only where the tables are as they are known here: everything else goes through
MLflow. Knows its tables, not what is recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from engram.sweeps.tracking.batches import LONGEST_PARAM, LONGEST_TAG, Point
from engram.sweeps.tracking.outbox import Message

KINDS = {"start", "metrics", "artifact", "tags", "inputs", "end"}  # of messages that become rows
# What is written of each table; a row is refused where a table asks for more.
RUN = (
    "run_uuid name source_type source_name entry_point_name user_id status start_time source_version lifecycle_stage"
    " artifact_uri experiment_id"
)
TABLES = {
    "runs": RUN,
    "params": "key value run_uuid",
    "tags": "key value run_uuid",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp step is_nan run_uuid",
    "datasets": "dataset_uuid experiment_id name digest dataset_source_type dataset_source dataset_profile",
    "inputs": "input_uuid source_type source_id destination_type destination_id",
    "input_tags": "input_uuid name value",
}
# Names that MLflow takes, whatever its version; others are left to it.
PLAIN = re.compile(r"[\w\-][\w.\- ]{0,100}(/[\w\-][\w.\- ]{0,100})?")
LONGEST_NAME = 250
# A later point takes the place of an earlier one, as MLflow compares them.
LATEST = """
on conflict (key, run_uuid) do update set value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
where (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)
"""


@dataclass
class Entry:
    """What one run gets. begun: milliseconds, where it is new; ended: (status, milliseconds)."""

    run_id: str
    name: str = ""
    begun: int | None = None
    metrics: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)
    ended: tuple[str, int] | None = None

    @property
    def plain(self) -> bool:
        """Whether MLflow would take every name and value of it."""
        names = [*self.params, *self.tags, *(name for name, *_ in self.metrics)]
        return (
            all(PLAIN.fullmatch(name) for name in names)
            and all(len(value) <= LONGEST_PARAM for value in self.params.values())
            and len(self.name) <= LONGEST_NAME
        )


class Rows:
    """An experiment of the embedded store. artifacts: its folder."""

    def __init__(self, path: Path, experiment_id: str, artifacts: Path):
        self.path, self.experiment_id, self.artifacts = path, int(experiment_id), artifacts

    def file(self, run_id: str, message: Message) -> None:
        """An artifact of a run; where it will not be kept here, without a copy."""
        path, folder = Path(message["path"]), self.artifacts / run_id / "artifacts" / message["to"]
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / path.name
        target.unlink(missing_ok=True)
        if not message["keep"]:
            with contextlib.suppress(OSError):  # another file system
                os.link(path, target)
                return
        shutil.copyfile(path, target)

    def write(self, entries: Sequence[Entry]) -> list[str]:
        """All or nothing; returns the runs, of those known before, that are there no longer: then it is nothing."""
        with _open(self.path) as connection, connection:
            connection.execute("begin immediate")
            gone = _gone(connection, [e.run_id for e in entries if e.begun is None])
            if gone:
                return gone
            self._begin(connection, [e for e in entries if e.begun is not None])
            _put(connection, "insert or ignore", "params", _pairs(entries, "params"))
            _put(connection, "insert or replace", "tags", _pairs(entries, "tags"))
            points = [
                (name, value, time, e.run_id, step, 0)
                for e in entries
                for name, value, time, step in e.metrics
            ]
            _put(connection, "insert or ignore", "metrics", points)
            latest = [
                (key, value, time, step, nan, run) for key, value, time, run, step, nan in points
            ]
            _put(connection, "insert", "latest_metrics", latest, LATEST)
            self._inputs(connection, entries)
            ends = [(*e.ended, e.run_id) for e in entries if e.ended is not None]
            connection.executemany(
                "update runs set status = ?, end_time = ? where run_uuid = ?", ends
            )
        return []

    def _begin(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        for e in entries:
            e.tags.setdefault("mlflow.runName", e.name)
        rows = []
        for e in entries:
            place = f"{self.artifacts.as_uri()}/{e.run_id}/artifacts"
            user = e.tags.get("mlflow.user", "unknown")
            at = place, self.experiment_id
            rows.append(
                (e.run_id, e.name, "UNKNOWN", "", "", user, "RUNNING", e.begun, "", "active", *at)
            )
        _put(connection, "insert", "runs", rows)

    def _inputs(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        for e in entries:
            for found in e.datasets:
                where = (self.experiment_id, found["name"], found["digest"])
                source = json.dumps({"name": found["source"]})
                row = (uuid.uuid4().hex, *where, "code", source, found["profile"])
                _put(connection, "insert or ignore", "datasets", [row])
                query = "select dataset_uuid from datasets where experiment_id = ? and name = ? and digest = ?"
                (dataset,) = connection.execute(query, where).fetchone()
                ours = uuid.uuid4().hex
                link = (ours, "DATASET", dataset, "RUN", e.run_id)
                if _put(connection, "insert or ignore", "inputs", [link]):
                    tag = (ours, "mlflow.data.context", "training")
                    _put(connection, "insert", "input_tags", [tag])


def of(path: Path | None, experiment: Any) -> Rows | None:
    """None for another store, for tables that are not known, and for files that lie elsewhere."""
    location = urlparse(experiment.artifact_location)
    if path is None or location.scheme not in ("", "file") or location.netloc:
        return None
    with _open(path) as connection:
        known = all(_fits(connection, table, names) for table, names in TABLES.items())
    return Rows(path, experiment.experiment_id, Path(unquote(location.path))) if known else None


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def _put(
    connection: sqlite3.Connection, how: str, table: str, rows: Iterable[tuple], rest: str = ""
) -> int:
    """Rows of the columns that `TABLES` names; returns how many were put."""
    names = TABLES[table].split()
    marks = ", ".join("?" * len(names))
    statement = f"{how} into {table} ({', '.join(names)}) values ({marks}) {rest}"
    return connection.executemany(statement, list(rows)).rowcount


def _pairs(entries: Sequence[Entry], what: str) -> list[tuple]:
    return [
        (key, value[:LONGEST_TAG], e.run_id)
        for e in entries
        for key, value in getattr(e, what).items()
    ]


def _gone(connection: sqlite3.Connection, run_ids: Sequence[str]) -> list[str]:
    query = "select 1 from runs where run_uuid = ? and lifecycle_stage = 'active'"
    return [each for each in run_ids if connection.execute(query, [each]).fetchone() is None]


def _fits(connection: sqlite3.Connection, table: str, names: str) -> bool:
    """Whether a table has the columns that are written, and needs no other."""
    found = connection.execute(
        'select name, "notnull", dflt_value, pk from pragma_table_info(?)', [table]
    )
    columns = {name: bool(needed) and default is None for name, needed, default, _ in found}
    ours = set(names.split())
    return ours <= columns.keys() and not any(
        needed for name, needed in columns.items() if name not in ours
    )
