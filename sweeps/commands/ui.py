"""`ui`: MLflow until it is interrupted, on the embedded store, on this machine alone, unless told otherwise."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.commands import options
from engram.sweeps.state import logs, paths

SUMMARY = "serve MLflow on the default store, until Ctrl-C"
MORE = "Listens on this machine alone unless --host says otherwise."
EXAMPLE = "ui quickstart --port 5001"
FIRST_PORT, PORTS = 5000, 50  # without --port: the first that is free
START_S = 90.0
STOP_S = 10.0
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes that nobody here needs
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of the run to point at")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on")
    text = "port; the first free one from 5000 without it"
    parser.add_argument("--port", metavar="P", type=options.count, help=text)
    parser.add_argument(
        "--backend-store-uri",
        metavar="URI",
        help="database to serve, as in postgresql+psycopg://host/mlflow; the embedded store without it",
    )
    text = "folder or object store of that database's files"
    parser.add_argument("--artifacts", metavar="URI", help=text)
    parser.add_argument("--open", action="store_true", help="open a browser there")


def body(arguments: argparse.Namespace) -> int:
    """Serve a store, print where to look, and wait for Ctrl-C; the server's code where it ends by itself."""
    host = arguments.host
    # MLflow's own variable: an address with a password need not be typed, where others can see it.
    backend = arguments.backend_store_uri or os.environ.get("MLFLOW_BACKEND_STORE_URI")
    chosen = _port(host, arguments.port)
    with _until_stopped(), serve(host, chosen, backend, arguments.artifacts) as server:
        address = f"http://{_shown(host)}:{chosen}"
        print(f"MLflow on {_of(backend)}: {address}", flush=True)
        page = None
        for title, path in pages(arguments.name, address if backend else None):
            page = page or address + path
            print(f"  {title:30} {address}{path}", flush=True)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print("  anybody who reaches this address can read and change the store", flush=True)
        print("Ctrl-C ends it", flush=True)
        if arguments.open:
            import webbrowser

            webbrowser.open(page or address)
        return server.wait()
    return program.DONE  # asked to stop


def _of(backend: str | None) -> str:
    from engram.sweeps.tracking import store

    return store.without_password(backend) if backend else str(paths.home())


def pages(name: str | None, uri: str | None = None) -> list[tuple[str, str]]:
    """(title, path) of each experiment's prepared view, the newest first; of one execution where it is named.

    uri: of the store; the embedded one without it.
    """
    from engram.sweeps.tracking import pages, store

    uri = uri or paths.mlflow_uri()
    if name is not None:
        found = store.find_study(uri, name)
        if found is None:
            raise StudyError(
                [Problem(Place("ui"), "is no execution in this store", "", "name", name)]
            )
        info = found[1].info
        return [
            (f"the trials of {name}", pages.view_path(info.experiment_id)),
            (f"the run {name}", pages.run_path(info.experiment_id, info.run_id)),
        ]
    client = store.connect(uri)
    experiments = client.search_experiments(order_by=["last_update_time DESC"])
    return [(e.name, pages.view_path(e.experiment_id)) for e in experiments if e.name != "Default"]


@contextmanager
def serve(
    host: str, port: int, backend: str | None = None, artifacts: str | None = None
) -> Iterator[subprocess.Popen]:
    """An MLflow server that answers, on the embedded store or another, ended with everything it started."""
    store = paths.home() / "mlflow.db"
    if backend is None and not store.exists():
        fix = f"start with: {program.name()} run quickstart"
        raise StudyError([Problem(Place("ui"), f"there is no store at {store} yet", fix)])
    paths.home().mkdir(parents=True, exist_ok=True)
    logs.rotate(paths.home() / "ui.log")
    with open(paths.home() / "ui.log", "ab") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server"),
                *_where(backend, artifacts),
                *("--host", host, "--port", str(port), "--workers", "1"),
            ],
            # The store's address is not among the arguments: it may hold a password.
            env={
                **os.environ,
                **SETTINGS,
                "MLFLOW_BACKEND_STORE_URI": backend or paths.mlflow_uri(),
            },
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )
        try:
            _await(server, host, port)
            yield server
        finally:
            _end(server)


def _where(backend: str | None, artifacts: str | None) -> list[str]:
    """Files of the embedded store are read where they are; those of a service go through the server."""
    if backend is None and artifacts is None:
        return ["--default-artifact-root", paths.artifacts_dir().as_uri()]
    return ["--artifacts-destination", artifacts or str(paths.artifacts_dir())]


def _await(server: subprocess.Popen, host: str, port: int) -> None:
    import urllib.request

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(
                f"MLflow ended at once with code {server.returncode}; see {paths.home() / 'ui.log'}"
            )
        with suppress(OSError):
            urllib.request.urlopen(f"http://{_shown(host)}:{port}/health", timeout=2)
            return
        time.sleep(0.2)
    raise RuntimeError(
        f"MLflow did not answer within {START_S:.0f} s; see {paths.home() / 'ui.log'}"
    )


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end what is done here, from the first moment, in order."""

    def stop(number: int, frame: object) -> None:
        for each in before:  # once: what is ended now takes its time
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        print(flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_S)
            return


def _port(host: str, wanted: int | None) -> int:
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + PORTS):
        if _free(host, port):
            return port
    fix = (
        "leave --port out to take the first free one" if wanted else "end one of the servers there"
    )
    value = wanted or f"{FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
    raise StudyError([Problem(Place("ui"), "is in use", fix, "--port", value)])


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
