"""Terminals, pipes, addresses and variables as they are elsewhere: no traceback, no wrong exit code, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from engram.sweeps.cluster import address
from tests.command_line import ROOT, engram
from tests.reliability import faults
from tests.reliability.tracking_server import free_port

COMMAND = f"{sys.executable} {ROOT / 'orchestrate.py'}"


def test_a_terminal_without_our_characters_shows_others(finished_study):
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    for words in (
        ["leaderboard", "small", "--by", "bias2"],
        ["report", "small", "--format", "markdown"],
    ):
        done = engram(*words, home=finished_study.home, **ascii_only)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()


@pytest.mark.parametrize(
    "words", ["leaderboard small", "leaderboard small --format csv", "studies"]
)
def test_a_reader_of_a_pipe_may_leave(words, finished_study):
    """bash tells the code of each part of a pipe."""
    done = subprocess.run(
        ["bash", "-c", f"{COMMAND} {words} | true; echo ${{PIPESTATUS[0]}}"],
        env={**os.environ, "ENGRAM_HOME": str(finished_study.home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("ray://127.0.0.1:10001", 2, "is not the address of a node"),
        ("127.0.0.1", 2, "is no address of a node"),
        ("127.0.0.1:PORT", 1, "is no cluster that runs: Connection refused"),
    ],
)
def test_an_address_is_looked_at_before_anything_is_begun(where, code, words, tmp_path):
    where = where.replace("PORT", str(free_port()))
    done = engram("run", "quickstart", "--address", where, home=tmp_path / "runs")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs" / "studies").exists(), "no execution that is empty"


@pytest.mark.faults
def test_ray_address_is_not_read(tmp_path):
    """Of a dead cluster or of a living one: a study joins none that nobody named."""
    study = faults.write(tmp_path, "name: tiny\ndata: {train_size: 100}\ntraining: {epochs: 2}\n")
    done = faults.finish(study, tmp_path / "runs", RAY_ADDRESS=f"127.0.0.1:{free_port()}")
    assert "RAY_ADDRESS is not read" in done.stderr


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "no answer"), (b"HTTP/1.0 400 Bad\r\n\r\n", "something else answers there"), (b"", "")],
)
def test_an_address_where_something_else_answers(answer, words, monkeypatch):
    """One that accepts and is silent, one that speaks otherwise, one that hangs up."""
    monkeypatch.setattr(address, "ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                if answer is None:
                    over.wait(60)
                else:
                    connection.sendall(answer)

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(address.Unreachable, match=f"is no cluster that runs: .*{words}"):
            address.settled(f"127.0.0.1:{server.getsockname()[1]}")
        over.set()
        thread.join()


@pytest.mark.faults
def test_a_long_temporary_folder_leaves_room_for_sockets(tmp_path):
    long = tmp_path / ("long" * 20)
    long.mkdir()
    study = faults.write(tmp_path, "name: tiny\ndata: {train_size: 100}\ntraining: {epochs: 2}\n")
    done = faults.finish(study, tmp_path / "runs", TMPDIR=str(long))
    assert "TMPDIR is too long for sockets" in done.stdout


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_process_group_saves_what_runs(number, tmp_path):
    """As `timeout`, batch systems and closed terminals send it."""
    slow = faults.GRID.replace("epochs: 20", "epochs: 2000")
    study, home = faults.write(tmp_path, slow), tmp_path / "runs"
    run = faults.Run(study, home)
    run.until(lambda: bool(list(home.glob("studies/grid/checkpoints/*/*.ckpt"))))
    began = time.monotonic()
    os.killpg(run.process.pid, number)  # it leads a session of its own
    assert run.wait(120) == 130, run.text
    took = time.monotonic() - began
    assert took < 40, took
    assert "running ones are saved" in run.text
    assert "Traceback" not in run.text
    assert list(home.glob("studies/grid/checkpoints/*/*.ckpt"))
    runs = faults.trial_runs(faults.store(home))
    assert {r.info.status for r in runs} == {"KILLED"}
    deadline = time.monotonic() + 130
    while faults.processes(home):
        assert time.monotonic() < deadline, [p.cmdline() for p in faults.processes(home)]
        time.sleep(0.5)


@pytest.mark.parametrize(
    "when", ["at once", pytest.param("when it serves", marks=pytest.mark.faults)]
)
def test_ui_leaves_nothing_behind_on_sigterm(when, finished_study, tmp_path):
    output = tmp_path / "said"
    with output.open("w") as out:
        process = subprocess.Popen(
            [*COMMAND.split(), "ui", "--port", str(free_port())],
            env={**os.environ, "ENGRAM_HOME": str(finished_study.home)},
            stdout=out,
            stderr=out,
        )
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    while not (parent.children() if when == "at once" else "Ctrl-C ends it" in output.read_text()):
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
    started = parent.children(recursive=True)
    assert started
    process.terminate()
    assert process.wait(60) == 0, output.read_text()
    _gone, alive = psutil.wait_procs(started, timeout=20)
    assert not alive
    assert not re.search("Traceback", Path(output).read_text())
