"""A message whose receiver is down waits on disk, is tried again with growing pauses, and told to others in time."""

from __future__ import annotations

import datetime as dt

import pytest

from engram.sweeps.nightly import alerts, entries
from tests.nightly.conftest import Receiver

NOW = dt.datetime(2026, 11, 25, 3, 0, tzinfo=dt.UTC)
DOWN = "json://127.0.0.1:9/hooks/s3cret-t0ken"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    return tmp_path


def send() -> str:
    return alerts.send("s-2026-11-25", "team", "s: regression", "error rose", "warning", NOW)


def after(minutes: float) -> None:
    alerts.deliver(NOW + dt.timedelta(minutes=minutes))


def test_it_arrives_when_the_receiver_is_back_and_once(receiver: Receiver, monkeypatch):
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address}")
    receiver.mode = "refuse"
    assert "kept, and tried again" in send()
    receiver.mode = "ok"
    after(0.5)
    assert len(receiver.posts) == 1, "not before its time"
    after(1)
    after(10)
    assert [post["title"] for post in receiver.posts] == ["s: regression"] * 2
    assert alerts.waiting() == []


def test_who_has_it_does_not_get_it_again(receiver: Receiver, monkeypatch, home):
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address} team={DOWN}")
    send()
    after(2)
    after(60)
    assert len(receiver.posts) == 1
    (waiting,) = alerts.waiting()
    assert waiting.attempts == 3
    assert "s3cret" not in waiting.path.read_text(), "addresses are not kept"


def test_others_are_told_after_an_hour_once(receiver: Receiver, monkeypatch):
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={DOWN} escalation={receiver.address}")
    send()
    for minutes in (1, 6, 21, 51, 111, 171, 231):
        after(minutes)
    (post,) = receiver.posts
    assert post["title"] == "not delivered: s: regression"
    assert "error rose" in post["message"]
    after(8 * 24 * 60)
    assert alerts.waiting() == []
    (left,) = (entries.home() / "alerts").iterdir()
    assert left.suffix == alerts.UNDELIVERED, "it is kept, and tried no more"


def test_nobody_to_tell_is_nothing_to_wait_for(monkeypatch):
    monkeypatch.delenv("ENGRAM_NOTIFY", raising=False)
    assert send().startswith("nobody: no address")
    assert alerts.waiting() == []
