"""PostgreSQL from its own binaries: a database cluster in a folder, ended and removed with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.reliability.tracking_server import free_port


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in found if (path / "initdb").exists()), None)


class Postgres:
    """A server on loopback, with a password. uri(database): as MLflow takes it."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self.port, self.password = free_port(), secrets.token_hex(16)
        (self.folder / "password").write_text(self.password)
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres")
            shutil.chown(self.folder / "password", "postgres")
        data = str(self.folder / "data")
        words = ["-D", data, "-U", "engram", "-A", "scram-sha-256"]
        self.run("initdb", *words, "--pwfile", str(self.folder / "password"), "-E", "UTF8")
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", data, "-w", "-t", "120", "-o", options, "-l", log, "start")

    def uri(self, database: str, password: bool = True) -> str:
        user = f"engram:{self.password}" if password else "engram"
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *words: str) -> str:
        """One of PostgreSQL's programs, as its own user; returns what it said."""
        found = binaries()
        assert found
        as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*as_user, str(found / program), *words],
            cwd=self.folder,
            env={**os.environ, "PGPASSWORD": self.password, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def at(self) -> list[str]:
        """Options that tell a client program where the server is."""
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "engram"]

    def end(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)
