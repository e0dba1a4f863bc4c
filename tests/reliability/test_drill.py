"""`doctor --drill`, as whoever installs Engram runs it."""

from __future__ import annotations

import pytest

from tests.command_line import engram

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]


def test_a_drill_tells_what_held_and_leaves_nothing(tmp_path):
    home = tmp_path / "runs"
    done = engram("doctor", "--drill", home=home, ENGRAM_NOTIFY="team=json://127.0.0.1:9/x")
    lines = [line for line in done.stdout.splitlines() if "  drill  " in line]
    assert [line.split()[0] for line in lines] == ["ok"] * 7 + ["fail"], done.stdout + done.stderr
    assert "8 runs of 8 trials, each once and FINISHED" in done.stdout
    assert "a test message arrives: json" in lines[-1]
    assert done.returncode == 1, "the receiver of the message is down"
    assert list(home.iterdir()) == []
