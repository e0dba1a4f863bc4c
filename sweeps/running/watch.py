"""A study as it is seen from outside while it runs: a page that renews itself, its numbers for Prometheus, and JSON.

Served on loopback alone, to be read and nothing else: on a cluster it is reached through a tunnel.
"""

from __future__ import annotations

import html
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engram.problems import Place, Problem, StudyError
from engram.sweeps.results.tables import title_of
from engram.sweeps.running.events import Listener, Record
from engram.sweeps.search.search import Proposal
from engram.sweeps.state import prometheus
from engram.sweeps.state.prometheus import Metric
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.trial.messages import Progress

HOST = "127.0.0.1"
STATES = ("running", "completed", "pruned", "diverged", "failed")
RECENT = 50  # trials on the page
WINDOW_S = 300.0  # over which the rate of replicas is counted
RENEW_S = 3
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


class Watch(Listener):
    """What is known of a running execution. waiting(): messages that MLflow has not taken yet."""

    def __init__(
        self,
        study: Study,
        name: str,
        planned: int | None,
        earlier: list[Record],
        waiting: Callable[[], int],
    ):
        self.study, self.name, self.planned, self.waiting = study, name, planned, waiting
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        for record in earlier:
            self._counts[record["status"]] = self._counts.get(record["status"], 0) + 1
        self._running: dict[int, dict[str, Any]] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self._replicas: deque[tuple[float, int]] = deque()  # when, and how many were trained
        self._total = 0
        self._began = self._last = time.monotonic()

    # -- events ---------------------------------------------------------------------------------

    def started(self, trial: Proposal) -> None:
        about = {
            "trial": trial.number,
            "label": label(trial.params),
            "attempt": trial.attempt,
            "epoch": 0,
            "epochs": trial.configuration.epochs,
            "error": None,
        }
        with self._lock:
            self._running[trial.number] = about

    def reported(self, trial: Proposal, progress: Progress) -> None:
        metrics = progress.metrics
        with self._lock:
            if trial.number in self._running:
                error = metrics.get("validation_error", metrics.get("train_error"))
                self._running[trial.number] |= {"epoch": progress.epoch, "error": error}

    def left(self, trial: Proposal) -> None:
        with self._lock:
            self._running.pop(trial.number, None)

    def committed(self, trial: Proposal, record: Record) -> None:
        now, status = time.monotonic(), record["status"]
        replicas = int(record.get("replicas") or 0)
        with self._lock:
            self._running.pop(trial.number, None)
            self._counts[status] = self._counts.get(status, 0) + 1
            self._replicas.append((now, replicas))
            self._total += replicas
            self._last = now
            selection = {k: v for k, v in record["selection"].items() if v is not None}
            about = {"trial": trial.number, "label": label(trial.params), "status": status}
            self._ended.appendleft({**about, "selection": selection})

    # -- what is seen ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plain values, as `/state.json` has them."""
        now = time.monotonic()
        with self._lock:
            while self._replicas and now - self._replicas[0][0] > WINDOW_S:
                self._replicas.popleft()
            span = max(1.0, min(WINDOW_S, now - self._began))
            found = {
                "name": self.name,
                "study": self.study.name,
                "question": self.study.question,
                "planned": self.planned,
                "trials": {
                    **dict.fromkeys(STATES, 0),
                    **self._counts,
                    "running": len(self._running),
                },
                "replicas": self._total,
                "replicas_per_second": sum(count for _, count in self._replicas) / span,
                "seconds_since_result": now - self._last,
                "running": [dict(about) for about in self._running.values()],
                "ended": [dict(about) for about in self._ended],
            }
        return {**found, "waiting_for_mlflow": self.waiting()}

    def metrics(self) -> str:
        """The same for Prometheus."""
        state = self.state()
        mine = {"name": self.name, "study": self.study.name}
        by_state = [({**mine, "state": key}, float(n)) for key, n in state["trials"].items()]
        found = [Metric("trials", "Trials of the execution by state.", by_state)]
        if state["planned"] is not None:
            planned = [(mine, float(state["planned"]))]
            found.append(Metric("trials_planned", "Trials that the execution is to have.", planned))
        for name, key, meaning, kind in (
            ("replicas_total", "replicas", "Networks trained to their end by this run.", "counter"),
            ("replicas_per_second", "replicas_per_second", "Of the last five minutes.", "gauge"),
            ("seconds_since_result", "seconds_since_result", "Since a trial ended, or since the start.", "gauge"),
            ("outbox_messages", "waiting_for_mlflow", "Messages that MLflow has not taken yet.", "gauge"),
        ):  # fmt: skip
            found.append(Metric(name, meaning, [(mine, float(state[key]))], kind))
        return prometheus.text(found)

    def page(self) -> str:
        """The page, which asks for itself again every few seconds."""
        state = self.state()
        counts = ", ".join(f"{n} {key}" for key, n in state["trials"].items() if n)
        running = [
            [
                a["trial"],
                a["label"],
                f"{a['epoch']}/{a['epochs']}",
                _digits(a["error"]),
                a["attempt"],
            ]
            for a in state["running"]
        ]
        ended = [
            [a["trial"], a["label"], a["status"], "; ".join(f"{title_of(k)} {_digits(v)}" for k, v in a["selection"].items())]
            for a in state["ended"]
        ]  # fmt: skip
        facts = f"{counts or 'nothing yet'} of {state['planned'] or '?'} trials; "
        facts += f"{state['replicas_per_second']:.2g} replicas a second; "
        facts += f"last result {state['seconds_since_result']:.0f} s ago; "
        facts += f"{state['waiting_for_mlflow']} messages wait for MLflow"
        return _PAGE.format(
            policy=POLICY,
            renew=RENEW_S,
            name=html.escape(self.name),
            question=html.escape(self.study.question or "no question given"),
            facts=html.escape(facts),
            running=_table(["trial", "settings", "epoch", "error", "attempt"], running),
            ended=_table(["trial", "settings", "status", "selected by"], ended),
        )


class Server:
    """Serves a Watch once there is one. port: refused by StudyError where it is in use; 0: any that is free."""

    def __init__(self, port: int):
        self.watch: Watch | None = None
        try:
            self._server = ThreadingHTTPServer((HOST, port), self._handler())
        except (OSError, OverflowError) as error:
            rule = f"cannot be listened on: {getattr(error, 'strerror', None) or error}"
            problem = Problem(Place("run"), rule, "choose another port", "--watch", port)
            raise StudyError([problem]) from None
        self._server.daemon_threads = True
        self.address = f"http://{HOST}:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, name="engram-watch", daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watch = outer.watch
                if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
                    self._answer(403, "text/plain", "another host's page may not look in here\n")
                elif watch is None:
                    self._answer(503, "text/plain", "the study has not begun\n")
                elif self.path == "/":
                    self._answer(200, "text/html; charset=utf-8", watch.page())
                elif self.path == "/metrics":
                    self._answer(200, prometheus.CONTENT_TYPE, watch.metrics())
                elif self.path == "/state.json":
                    self._answer(200, "application/json", json.dumps(watch.state()))
                else:
                    self._answer(404, "text/plain", "there are /, /metrics and /state.json\n")

            def _answer(self, code: int, kind: str, text: str) -> None:
                content = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                """Nothing: a look changes nothing."""

        return Handler


def _table(header: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{html.escape(word)}</th>" for word in header)
    lines = (
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta http-equiv="refresh" content="{renew}">
<title>{name}</title>
<style>body{{font:15px sans-serif;margin:2em;color:#222}}td,th{{text-align:left;padding:.2em .9em .2em 0}}</style>
</head><body>
<h1>{name}</h1><p>{question}</p><p>{facts}</p>
<h2>In training</h2>{running}
<h2>Ended</h2>{ended}
<p><a href="/metrics">/metrics</a> <a href="/state.json">/state.json</a></p>
</body></html>
"""
