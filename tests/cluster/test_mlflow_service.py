"""MLflow as a service on a real PostgreSQL: everything that the embedded store does works there too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.cluster.postgres import Postgres, binaries
from tests.command_line import ROOT, engram
from tests.reliability import faults
from tests.reliability.tracking_server import free_port

pytestmark = [
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(1800),
]


class Service:
    """`ui` on a database, as a process of its own."""

    def __init__(self, folder: Path, backend: str, *words: str):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / "ui.txt"
        command = [sys.executable, str(ROOT / "orchestrate.py"), "ui", *words]
        command += ["--port", str(self.port), "--artifacts", str(folder / "artifacts")]
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "ENGRAM_HOME": str(folder / "home"),
                    "MLFLOW_BACKEND_STORE_URI": backend,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 240
        while "Ctrl-C ends it" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.2)

    @property
    def text(self) -> str:
        return self.output.read_text()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def postgres():
    started = Postgres()
    started.run("createdb", *started.at(), "mlflow")
    yield started
    started.end()


@pytest.fixture(scope="module")
def service(postgres, tmp_path_factory):
    started = Service(tmp_path_factory.mktemp("service"), postgres.uri("mlflow"))
    yield started
    started.end()


def board(name: str, uri: str, home: Path) -> list[dict]:
    done = engram("leaderboard", name, "--format", "json", "--tracking-uri", uri, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_study_is_recorded_there_and_read_back_by_name(service, local, postgres, tmp_path):
    words = ["--name", "served", "--set", f"tracking.uri={service.uri}"]
    faults.finish(local.study, tmp_path / "runs", *words)
    faults.assert_recorded_once(service.uri, 2, {1, 2, 3, 4}, "sent")
    elsewhere = tmp_path / "elsewhere"
    faults.assert_same_board(board("served", service.uri, elsewhere), local.board)

    page = tmp_path / "served.html"
    words = ["--out", str(page), "--tracking-uri", service.uri]
    done = engram("report", "served", *words, home=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "Is it the same elsewhere?" in text
    assert "data:image/" in text, "pictures need the arrays, which the server serves"

    run = faults.trial_runs(service.uri, "sent")[0]
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert list((service.folder / "artifacts").rglob("arrays.npz"))

    named = Service(tmp_path / "named", postgres.uri("mlflow"), "served")
    assert "the trials of served" in named.text
    named.end()


def test_no_password_among_the_arguments(service, postgres):
    family = psutil.Process(service.process.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in family]
    assert any("mlflow" in line for line in lines)
    assert not any(postgres.password in line for line in lines)
    assert postgres.password not in service.text


def test_a_study_moves_from_the_embedded_store_to_the_server(service, local, tmp_path):
    copied = engram("copy", "sent", "--to", service.uri, home=local.home)
    assert copied.returncode == 0, copied.stdout + copied.stderr
    assert "sent: 3 runs copied" in copied.stdout
    found = board("sent", service.uri, tmp_path / "elsewhere")
    faults.assert_same_board(found, local.board)

    source, target = MlflowClient(faults.store(local.home)), MlflowClient(service.uri)
    originals = {
        run.info.run_id: run for run in faults.trial_runs(faults.store(local.home), "sent")
    }
    copies = [
        run for run in faults.trial_runs(service.uri, "sent") if "engram.copy_of" in run.data.tags
    ]
    assert {run.data.tags["engram.copy_of"] for run in copies} == originals.keys()
    assert {entry["run_id"] for entry in found} == {run.info.run_id for run in copies}
    for run in copies:
        original = originals[run.data.tags["engram.copy_of"]]
        assert run.data.params == original.data.params
        assert run.data.metrics == original.data.metrics
        assert run.info.status == original.info.status
        assert run.info.end_time == original.info.end_time
        for name in ("train_error", "validation_loss"):
            there, here = (
                [(m.step, m.value, m.timestamp) for m in client.get_metric_history(which, name)]
                for client, which in (
                    (target, run.info.run_id),
                    (source, original.info.run_id),
                )
            )
            assert there == here
        files = {item.path for item in target.list_artifacts(run.info.run_id)}
        assert files == {item.path for item in source.list_artifacts(original.info.run_id)}
        assert run.inputs.dataset_inputs
    parent = target.get_run(copies[0].data.tags["mlflow.parentRunId"])
    assert parent.data.tags["engram.name"] == "sent"
    assert parent.data.tags["engram.model"].rpartition(":")[2].startswith("m-")

    again = engram("copy", "sent", "--to", service.uri, home=local.home)
    assert again.returncode == 0
    assert len(faults.trial_runs(service.uri, "sent")) == len(copies) + 2  # and those of `served`


def test_what_cannot_be_copied_or_read_says_why(service, local, tmp_path):
    taken = engram(
        "copy", "served", "--to", service.uri, "--tracking-uri", service.uri, home=tmp_path
    )
    assert taken.returncode == 2
    assert "has another execution named served" in taken.stderr
    unknown = engram("copy", "nosuch", "--to", service.uri, home=local.home)
    assert unknown.returncode == 2
    assert "name = 'nosuch' is no execution" in unknown.stderr
    nobody = f"http://127.0.0.1:{free_port()}"
    for words in (
        ["leaderboard", "sent", "--tracking-uri", nobody],
        ["copy", "sent", "--to", nobody],
    ):
        done = engram(*words, home=local.home)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 2, done.stderr


@pytest.mark.hosts
def test_a_backup_is_the_store_again(service, postgres, local, tmp_path):
    """pg_dump, pg_restore, `mlflow db upgrade` and the folder of files, as in docs/cluster.md."""
    copied = engram("copy", "sent", "--to", service.uri, home=local.home)
    assert copied.returncode == 0, copied.stdout + copied.stderr
    dump = str(postgres.folder / "mlflow.dump")
    postgres.run("pg_dump", *postgres.at(), "-Fc", "-f", dump, "mlflow")
    postgres.run("createdb", *postgres.at(), "restored")
    postgres.run("pg_restore", *postgres.at(), "-d", "restored", dump)
    upgraded = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", postgres.uri("restored")],
        capture_output=True,
        text=True,
    )
    assert upgraded.returncode == 0, upgraded.stderr
    folder = tmp_path / "restored"
    folder.mkdir()
    subprocess.run(["cp", "-a", str(service.folder / "artifacts"), str(folder)], check=True)
    restored = Service(folder, postgres.uri("restored"))
    try:
        faults.assert_same_board(board("sent", restored.uri, tmp_path / "elsewhere"), local.board)
    finally:
        restored.end()


@pytest.mark.hosts
def test_basic_authentication(postgres, local, tmp_path):
    """The server of deploy/mlflow.service, with users of its own database."""
    pytest.importorskip(
        "flask_wtf", reason="Flask-WTF is not installed: pip install 'mlflow[auth]'"
    )
    for database in ("guarded", "guarded_auth"):
        postgres.run("createdb", *postgres.at(), database)
    text = (ROOT / "deploy/mlflow-auth.ini").read_text()
    config = tmp_path / "auth.ini"
    config.write_text(
        text.replace("postgresql+psycopg:///mlflow_auth", postgres.uri("guarded_auth"))
    )
    port, password = free_port(), "a-long-password-of-a-test"
    uri = f"http://127.0.0.1:{port}"
    words = ["--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", "1", "--artifacts-destination", str(tmp_path / "artifacts")]
    with open(tmp_path / "server.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            env={
                **os.environ,
                "MLFLOW_BACKEND_STORE_URI": postgres.uri("guarded"),
                "MLFLOW_AUTH_CONFIG_PATH": str(config),
                "MLFLOW_AUTH_ADMIN_PASSWORD": password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 32,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        user = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
        done = faults.finish(local.study, tmp_path / "runs", "--set", f"tracking.uri={uri}", **user)
        assert password not in done.stdout + faults.log(tmp_path / "runs")
        read = ["leaderboard", "sent", "--format", "json", "--tracking-uri", uri]
        found = engram(*read, home=tmp_path / "elsewhere", **user)
        faults.assert_same_board(json.loads(found.stdout), local.board)
        stranger = engram(*read, home=tmp_path / "elsewhere")
        assert stranger.returncode == 2
        assert "MLFLOW_TRACKING_USERNAME" in stranger.stderr
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
