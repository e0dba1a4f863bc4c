"""Locks on a file system that has none: flock answers ENOLCK, for real, from a small library loaded before libc."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engram.sweeps.state import lock
from tests.command_line import ROOT

LIBRARY = """
#include <errno.h>
int flock(int fd, int operation) { errno = %d; return -1; }
"""
HOLD = """
import sys, time
from pathlib import Path
from engram.sweeps.state import lock
lock.BEAT_S = 0.2
try:
    with lock.held(Path(sys.argv[1]), "a test"):
        print("held", flush=True)
        sys.stdin.readline()
except lock.Busy as busy:
    print(busy, flush=True)
"""
WAIT = """
import sys
from pathlib import Path
from engram.sweeps.state import lock
with lock.waited(Path(sys.argv[1]) / "store.lock"):
    count = Path(sys.argv[1]) / "count"
    value = int(count.read_text())
    count.write_text("")  # who reads now reads no number
    count.write_text(str(value + 1))
"""


@pytest.fixture(scope="module", params=["ENOLCK", "ENOTSUP", "ENOSYS"])
def without_flock(request, tmp_path_factory) -> dict[str, str]:
    """An environment in which flock answers with an error."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "flock.c").write_text(LIBRARY % getattr(errno, request.param))
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-o",
        str(folder / "flock.so"),
        str(folder / "flock.c"),
    ]
    subprocess.run(command, check=True, timeout=60)
    return {**os.environ, "LD_PRELOAD": str(folder / "flock.so")}


def hold(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_one_holds_it_and_the_second_is_told_who(without_flock, tmp_path):
    first = hold(tmp_path, without_flock)
    try:
        assert said(first) == "held\n"
        second = hold(tmp_path, without_flock)
        assert f"process {first.pid}" in said(second)
        second.communicate(timeout=30)
    finally:
        first.communicate("\n", timeout=30)
    assert not (tmp_path / "lock.held").exists()
    third = hold(tmp_path, without_flock)
    assert said(third) == "held\n"
    third.communicate("\n", timeout=30)


def test_a_dead_holder_holds_nobody_up(without_flock, tmp_path):
    first = hold(tmp_path, without_flock)
    assert said(first) == "held\n"
    first.kill()
    first.wait(30)
    second = hold(tmp_path, without_flock)
    assert said(second) == "held\n"
    second.communicate("\n", timeout=30)


def test_a_holder_on_another_host_is_known_by_its_heartbeat(without_flock, tmp_path):
    lease = tmp_path / "lock.held"
    holder = {"pid": 1, "host": "elsewhere", "since": time.time(), "purpose": "run x"}
    lease.write_text(json.dumps(holder))
    second = hold(tmp_path, without_flock)
    assert "process 1 on elsewhere" in said(second)
    second.communicate(timeout=30)
    old = time.time() - 120
    os.utime(lease, (old, old))
    third = hold(tmp_path, without_flock)
    assert said(third) == "held\n"
    time.sleep(1)
    assert time.time() - lease.stat().st_mtime < 60  # its own heart beats
    third.communicate("\n", timeout=30)


def test_several_take_turns(without_flock, tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", WAIT, str(tmp_path)]
    all_of_them = [subprocess.Popen(command, cwd=ROOT, env=without_flock) for _ in range(4)]
    assert [process.wait(120) for process in all_of_them] == [0] * 4
    assert (tmp_path / "count").read_text() == "4"


def test_what_is_only_better_done_one_at_a_time_is_not_waited_for_for_ever(without_flock, tmp_path):
    """Two waits for one lock within a process: each has a descriptor of its own."""
    code = """
import sys
from pathlib import Path
from engram.sweeps.state import lock
path = Path(sys.argv[1]) / "starts.lock"
with lock.waited(path):
    with lock.waited(path, 0.5):
        print("went on without")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=without_flock,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "went on without\n", done.stderr
    with lock.waited(path := tmp_path / "plain.lock"):
        began = time.monotonic()
        with lock.waited(path, 0.5):
            assert time.monotonic() - began >= 0.5
