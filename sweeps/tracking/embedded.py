"""The embedded store's database: built aside and renamed, recognised when half-made, at home wherever it lies.

MLflow makes its tables by dozens of migrations, seconds of work that leave a store nobody can use when they are
cut short; and it keeps the places of files as absolute paths. Knows the tables of both, not what they mean.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from engram.sweeps.state import lock, paths

Condition = Literal["absent", "whole", "half-made", "foreign", "damaged"]
# Where MLflow keeps places of files.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
log = logging.getLogger(__name__)


class Unusable(RuntimeError):
    """A store that nothing can be recorded in, whoever waits; the message says what to do."""


def database(uri: str) -> Path | None:
    """The file of an SQLite URI; None for another store."""
    scheme, _, path = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path or ":memory:" in path:
        return None
    return Path(unquote(path.partition("?")[0]))


def condition(path: Path) -> Condition:
    """What a file is as a store of the MLflow that is installed. Writes nothing of its own.

    A process that was killed amid a transaction leaves its journal, and whoever opens the database next takes that
    transaction back: a connection that may only read cannot, and fails as if the database were damaged.
    half-made: its tables were never finished, and it holds no run; foreign: another version's.
    """
    if not path.exists():
        return "absent"
    try:
        with contextlib.closing(opened(path)) as connection:
            found = connection.execute("select name from sqlite_master where type = 'table'")
            tables = {name for (name,) in found}
            revisions = _column(connection, tables, "alembic_version", "version_num")
            runs = "runs" in tables and _count(connection, "runs")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            return "whole"  # somebody works with it
        return "damaged"
    migrations = _migrations()
    heads = frozenset(migrations) - {before for found in migrations.values() for before in found}
    if revisions == heads or not heads:
        return "whole"
    known = revisions <= frozenset(migrations)
    return "half-made" if known and not runs else "foreign"


def prepare(path: Path) -> None:
    """Let a whole store stand at this path, made now where there is none; the caller holds `locked`.

    A half-made one, which holds nothing, is set aside (`.half-made`). Unusable where it cannot be helped.
    """
    for left in path.parent.glob(f".{path.name}.*.new*"):
        left.unlink(missing_ok=True)  # of a process that was killed while it made one
    found = condition(path)
    if found == "damaged":
        raise Unusable(advice("it is no database, or one that is damaged"))
    if found == "foreign":
        raise Unusable(advice("its schema is that of another version"))
    if found == "half-made":
        log.warning("%s was never finished and holds nothing: it is made anew", path)
        os.replace(path, path.with_name(f"{path.name}.half-made"))
    if found in ("absent", "half-made"):
        for rest in (
            "-journal",
            "-wal",
            "-shm",
        ):  # of a database that is gone: SQLite would play them into the new one
            path.with_name(path.name + rest).unlink(missing_ok=True)
        _make(path)
    else:
        _bring_home(path)


def advice(error: str) -> str:
    """What to do about a store that MLflow refuses with these words."""
    first = error.splitlines()[0][:200]
    if "schema" in error.lower() or "revision" in error.lower():
        return (
            f"another version of MLflow wrote it ({first}); use that version, or `mlflow db upgrade`"
            " after a backup"
        )
    return (
        f"it is damaged ({first}); restore it from a backup, or move it away: the next run records what"
        " is finished anew"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time makes a store, or opens one: two at once would break it for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock.waited(path.with_suffix(".lock")):
        yield


def _make(path: Path) -> None:
    """MLflow's tables in a file beside, then renamed: what is at the path is whole or not there."""
    import sqlalchemy
    from mlflow.store.db import utils

    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    engine = sqlalchemy.create_engine(paths.sqlite_uri(beside), poolclass=sqlalchemy.pool.NullPool)

    @sqlalchemy.event.listens_for(engine, "connect")
    def hasten(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("pragma synchronous = off")  # it is flushed as a whole below

    logging.disable(logging.INFO)  # MLflow 2 shows each of its migrations on the terminal
    try:
        utils._initialize_tables(engine)
        engine.dispose()
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        _flush(path.parent)
    finally:
        logging.disable(logging.NOTSET)
        beside.unlink(missing_ok=True)


def _bring_home(path: Path) -> None:
    """Where the folder was copied or moved with its files, let the places in it be here."""
    here = path.absolute().parent
    with contextlib.closing(opened(path)) as connection, connection:
        for old in _former_homes(connection, here):
            new = here.as_uri() if old.startswith("file:") else str(here)
            log.warning("%s came from %s: its files are read and written here now", path, old)
            for table, column in PLACES:
                if (column,) in connection.execute(
                    "select name from pragma_table_info(?)", [table]
                ):
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?)"
                        f" where substr({column}, 1, ?) = ?",
                        [new, len(old) + 1, len(old) + 1, f"{old}/"],
                    )


def _former_homes(connection: sqlite3.Connection, here: Path) -> set[str]:
    """Folders that experiments name as the store's, whose files lie here or are not there any more."""
    found = set()
    for name, location in connection.execute("select name, artifact_location from experiments"):
        match = re.fullmatch(r"((?:file://)?/.*)/artifacts/([^/]+)", location or "")
        if match is None:
            continue
        old = Path(unquote(match[1].removeprefix("file://")))
        ours = name in (match[2], unquote(match[2])) and old != here
        if ours and ((here / "artifacts" / name).is_dir() or not old.exists()):
            found.add(match[1])
    return found


def opened(path: Path) -> sqlite3.Connection:
    """A connection to a database that is there; it is not made. A file that may only be read is opened for that."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=10)


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"select count(*) from {table}").fetchone()[0])


def _column(
    connection: sqlite3.Connection, tables: set[str], table: str, column: str
) -> frozenset[str]:
    if table not in tables:
        return frozenset()
    return frozenset(value for (value,) in connection.execute(f"select {column} from {table}"))


@functools.cache
def _migrations() -> dict[str, list[str]]:
    """{revision: those before it} of the MLflow that is installed, read from its files without importing it."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        return {}
    found = {}
    folder = Path(next(iter(spec.submodule_search_locations)), "store", "db_migrations", "versions")
    for file in folder.glob("*.py"):
        text = file.read_text(errors="replace")
        revision = re.search(r"^revision(?:: str)? = [\"'](\w+)[\"']", text, re.M)
        before = re.search(r"^down_revision(?:: [^=]+)? = (.*)$", text, re.M)
        if revision and before:
            found[revision[1]] = re.findall(r"[\"'](\w+)[\"']", before[1])
    return found


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
