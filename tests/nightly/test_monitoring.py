"""What monitoring asks of the nights: numbers, and whether one has ended lately."""

from __future__ import annotations

import datetime as dt

import pytest

from engram.sweeps.commands import line
from engram.sweeps.nightly import alerts, monitoring
from engram.sweeps.nightly.entries import DONE, FAILED, Entry
from engram.sweeps.state import paths
from tests.test_watch import assert_prometheus


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))


def night(
    hours_ago: float,
    now: dt.datetime | None = None,
    state: str = DONE,
    verdict: str = "no change",
) -> None:
    ended = (now or dt.datetime.now(dt.UTC)) - dt.timedelta(hours=hours_ago)
    entry = Entry("nightly", f"nightly-{hours_ago:g}", ended.isoformat(), state, 0)
    entry.ended, entry.attempts, entry.judgement = ended.isoformat(), 1, {"verdict": verdict}
    entry.write()


def test_no_night_for_too_long_is_told_by_the_exit_code(capsys):
    words = ["schedule", "nightly", "--check", "26"]
    assert line.main(words) == 1
    assert "no night has ever been done" in capsys.readouterr().out
    night(30)
    assert line.main(words) == 1
    assert "30.0 h ago" in capsys.readouterr().out
    night(20, state=FAILED)
    assert line.main(words) == 1, "one that failed is none"
    night(2)
    assert line.main(words) == 0


def test_numbers_for_prometheus(monkeypatch, capsys):
    monkeypatch.setenv("ENGRAM_NOTIFY", "team=json://127.0.0.1:9/x")
    now = dt.datetime.now(dt.UTC)
    night(30, now, verdict="regression")
    night(6, now)
    night(3, now)
    alerts.send("nightly-3", "team", "t", "x", "info", now)
    numbers = assert_prometheus(monitoring.metrics(["nightly"], [paths.home()], now))
    assert numbers['engram_nights{state="done",study="nightly",verdict="no change"}'] == 2
    assert numbers['engram_nights{state="done",study="nightly",verdict="regression"}'] == 1
    assert numbers['engram_night_seconds_since_end{study="nightly"}'] == 3 * 3600
    assert numbers["engram_alerts_waiting"] == 1
    assert line.main(["schedule", "nightly", "--list", "--format", "prometheus"]) == 0
    assert_prometheus(capsys.readouterr().out)


def test_of_several_state_folders_each_is_told(tmp_path, capsys):
    one, other = tmp_path / "one", tmp_path / "other"
    words = ["schedule", "nightly", "--home", str(one), "--home", str(other)]
    for folder, hours in ((one, 3), (other, 30)):
        with paths.at(folder):
            night(hours)
    assert line.main([*words, "--check", "26"]) == 1
    assert capsys.readouterr().out == f"{other}: nightly: the last night was done 30.0 h ago\n"
    assert line.main([*words, "--check", "31"]) == 0
    capsys.readouterr()
    assert line.main([*words, "--list", "--format", "prometheus"]) == 0
    numbers = assert_prometheus(capsys.readouterr().out)
    ages = [
        numbers[f'engram_night_seconds_since_end{{folder="{f}",study="nightly"}}']
        for f in (one, other)
    ]
    assert [round(age / 3600) for age in ages] == [3, 30]
    assert line.main([*words, "--list"]) == 0
    assert [row.split()[-1] for row in capsys.readouterr().out.splitlines()] == [
        "folder",
        str(one),
        str(other),
    ]
