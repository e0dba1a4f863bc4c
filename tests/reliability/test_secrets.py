"""Passwords and webhooks are used and never shown: not in MLflow, logs, plans, the ledger or the process list."""

from __future__ import annotations

import json
import logging
import time

import psutil
import pytest

from engram.problems import StudyError
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.search.committed import read_records
from engram.sweeps.state import lock, logs
from engram.sweeps.state.paths import study_dir
from engram.sweeps.study.loading import load
from tests.command_line import engram
from tests.reliability import faults
from tests.reliability.tracking_server import Proxy, Server

PASSWORD, HOOK = "s3cret-pass%2Fword", "https://hooks.example.org/services/T0/B0/XyZzY123"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A study recorded through a server whose address has a password, failing at first."""
    folder = tmp_path_factory.mktemp("secret")
    server = Server(folder / "server").start()
    proxy = Proxy(server, ["error"] * 3 + ["ok"] * 500)
    uri = proxy.uri.replace("http://", f"http://user:{PASSWORD}@")
    text = faults.GRID.replace("[0.0, 0.2, 0.5, 0.7]", "[0.0]").replace(
        "[0.01, 0.003, 0.001]", "[0.01]"
    )
    study = faults.write(folder, f"{text}tracking: {{uri: '{uri}'}}\nnightly: {{notify: team}}\n")
    run = faults.Run(study, folder / "runs", ENGRAM_NOTIFY=HOOK)
    command_lines: set[str] = set()
    while run.process.poll() is None:
        for process in faults.processes(folder / "runs"):
            try:
                command_lines.add(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        time.sleep(1.0)
    assert run.process.returncode == 0, run.text
    yield folder, run, command_lines
    proxy.close()
    server.stop()


def test_nothing_that_is_kept_or_shown_has_a_secret_in_it(told):
    folder, run, command_lines = told
    secrets = [PASSWORD, PASSWORD.replace("%2F", "/"), HOOK, "XyZzY123"]
    texts = {
        str(p): p.read_bytes()
        for top in ("runs", "server")
        for p in (folder / top).rglob("*")
        if p.is_file()
    }
    texts |= {
        "the terminal": run.text.encode(),
        "the process list": "\n".join(command_lines).encode(),
    }
    assert len(texts) > 10
    for secret in secrets:
        for name, content in texts.items():
            assert secret.encode() not in content, name
    assert "MLflow at" in faults.log(folder / "runs"), "the failing requests were logged"
    assert b"***@127.0.0.1" in texts[str(folder / "runs/studies/grid/study.yaml")]


def test_a_plan_and_an_error_show_no_secret(told):
    folder, _, _ = told
    done = engram("plan", str(folder / "study.yaml"), home=folder / "elsewhere")
    assert done.returncode == 0
    assert PASSWORD not in done.stdout + done.stderr
    assert HOOK not in done.stdout + done.stderr


def test_log_lines_and_tracebacks_are_covered(tmp_path, monkeypatch):
    study = load(
        faults.write(
            tmp_path, f"name: x\ntracking: {{uri: 'postgresql+psycopg://u:{PASSWORD}@db/x'}}\n"
        )
    )
    hidden = Secrets(study)
    try:
        raise RuntimeError(f"cannot reach http://other:hunter22@host/ nor {PASSWORD}")
    except RuntimeError:
        import sys

        line = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "at %s", (study.tracking.uri,), sys.exc_info()
        )
    for form in ("text", "json"):
        monkeypatch.setenv(logs.VARIABLE, form)
        handler = logs.handler(tmp_path / f"{form}.log", hidden.hidden)
        handler.emit(line)
        handler.close()
        shown = (tmp_path / f"{form}.log").read_text()
        assert PASSWORD not in shown
        assert "hunter22" not in shown
        assert "***@host" in shown
    assert json.loads(shown)["level"] == "error"


@pytest.mark.parametrize(
    "name", ["../x", "/etc", "a/b", "..", "", "a\0b", ".hidden", "x" * 200, "a'b", "a\nb"]
)
def test_names_cannot_leave_the_state_folder(name):
    with pytest.raises(StudyError):
        study_dir(name)


def test_a_lock_is_not_followed_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), lock.held(tmp_path / "study", "x"):  # noqa: PT011 - which one is the kernel's affair
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_ray_listens_on_loopback_alone(tmp_path):
    study, home = faults.write(tmp_path), tmp_path / "runs"
    run = faults.Run(study, home)
    run.until_logged("trial .* starts")
    open_to = set()
    for process in faults.processes(home):
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        open_to |= {
            c.laddr.ip.removeprefix("::ffff:")
            for c in connections
            if c.status == psutil.CONN_LISTEN
        }
    run.kill()
    run.wait()
    assert open_to == {"127.0.0.1"}
    assert read_records(home / "studies/grid/search.journal", "grid") == []
