"""A real MLflow server that can be stopped and started, and a proxy before it that makes trouble."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """`mlflow server` on loopback, its store in a folder that outlives it. python: whose MLflow it is."""

    def __init__(self, folder: Path, python: str = sys.executable):
        self.folder, self.python, self.port = folder, python, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        words += [
            "--artifacts-destination",
            str(self.folder / "artifacts"),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        environment = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "mlflow", "server", *words],
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return self
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 15)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
            self.process = None


class Door:
    """An HTTP server that stands before a real one. `handle(handler)` answers each request, or passes it on."""

    def __init__(self, server: Server):
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                door.handle(self, body)

            def pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k != "Host"}
                connection.request(self.command, self.path, body, headers)
                found = connection.getresponse()
                content = found.read()
                connection.close()
                left_out = ("transfer-encoding", "content-length", "connection")
                kept = {k: v for k, v in found.getheaders() if k.lower() not in left_out}
                return found.status, kept, content

            def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = take

            def log_message(self, *words: object) -> None:
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def handle(self, handler: Any, body: bytes) -> None:
        handler.answer(*handler.pass_on(body))

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class Gate(Door):
    """Answers a request whose path holds one of `answers` with that status, and passes on the others."""

    def __init__(self, server: Server):
        self.answers: dict[str, int] = {}
        super().__init__(server)

    def handle(self, handler: Any, body: bytes) -> None:
        status = next((s for part, s in self.answers.items() if part in handler.path), None)
        if status is None:
            super().handle(handler, body)
        else:
            page = f"<!doctype html><title>{status}</title>".encode()
            handler.answer(status, {"Content-Type": "text/html"}, page)


class Proxy(Door):
    """Stands before a server. `moods` decide what happens to each request in turn.

    ok: passed on. error: 500, not passed on. late: passed on after a pause. lost: passed on, and the
    answer thrown away.
    """

    def __init__(self, server: Server, moods: list[str], pause_s: float = 2.0):
        self.moods, self.pause_s = moods, pause_s
        self.count = 0
        self.calm = False
        self.seen: list[str] = []
        self._lock = threading.Lock()
        super().__init__(server)

    def handle(self, handler: Any, body: bytes) -> None:
        with self._lock:
            mood = "ok" if self.calm else self.moods[self.count % len(self.moods)]
            self.count += 1
            self.seen.append(mood)
        if mood == "error":
            handler.answer(500, {"Content-Type": "text/plain"}, b"the proxy is in a mood")
            return
        if mood == "late":
            time.sleep(self.pause_s)
        answer = handler.pass_on(body)
        if mood == "lost":
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        handler.answer(*answer)
