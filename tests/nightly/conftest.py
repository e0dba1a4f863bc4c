"""One Ray for all nights that are trained in this process, and a receiver of webhooks on loopback."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    from engram.sweeps.cluster import connection
    from engram.sweeps.study import loading

    with connection.connected(None, loading.load("nightly")):
        yield


@dataclass
class Receiver:
    """What was posted to it. mode: ok, refuse (500) or slow (no answer for a minute)."""

    mode: str = "ok"
    posts: list[dict] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.port}/hooks/s3cret-t0ken"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(json.loads(body))
            if found.mode == "slow":
                # A byte now and then, so that no timeout of a socket ends it.
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                end = time.monotonic() + 60
                while time.monotonic() < end and not released.wait(0.5):
                    self.wfile.write(b"x")
                return
            self.send_response(200 if found.mode == "ok" else 500)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    released.set()
    server.shutdown()
    server.server_close()
