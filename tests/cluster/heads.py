"""A real head of Ray on this machine, with its jobs API, ended with all that it started."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from tests.reliability.tracking_server import free_port

START_S = 240
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]


class Head:
    """`ray start --head` with token authentication. address: of its dashboard; token: a file."""

    def __init__(self, cpus: int = 2):
        # Short: the sockets' names must fit into 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="hd", dir="/tmp"))
        self.token = self.folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.gcs, dashboard, agent, client = (free_port() for _ in range(4))
        self.address = f"http://127.0.0.1:{dashboard}"
        words = ["start", "--head", "--block", f"--num-cpus={cpus}", f"--port={self.gcs}"]
        words += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
        words += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        words += [f"--ray-client-server-port={client}", "--min-worker-port=0"]
        words += ["--max-worker-port=0", "--object-store-memory=200000000"]
        words += [f"--temp-dir={self.folder / 'r'}", "--disable-usage-stats"]
        environment = {**os.environ, **self.environment}
        # `python` of the jobs is the one that runs the tests.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all ports on loopback
        with open(self.folder / "head.log", "wb") as log:
            self.process = subprocess.Popen(
                [*RAY, *words], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._await()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def _await(self) -> None:
        deadline = time.monotonic() + START_S
        request = urllib.request.Request(
            f"{self.address}/api/jobs/",
            headers={"Authorization": f"Bearer {self.token.read_text()}"},
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10):
                    return
            except OSError:
                log = (self.folder / "head.log").read_text()
                assert self.process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.5)

    def end(self) -> None:
        """End the head and everything below it, by their ids."""
        try:
            parent = psutil.Process(self.process.pid)
            family = [*parent.children(recursive=True), parent]
        except psutil.NoSuchProcess:
            family = []
        for process in reversed(family):  # the parent first: it would report the others
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=20)
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)
