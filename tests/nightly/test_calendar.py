"""The calendar of two weeks without their training: every slot once, whatever crashed, overlapped or was missed."""

from __future__ import annotations

import pytest

from engram.sweeps.nightly import entries, folders
from engram.sweeps.nightly.session import Session, hold
from engram.sweeps.nightly.training import INTERRUPTED
from engram.sweeps.state import lock, paths
from engram.sweeps.study import loading
from tests.nightly.weeks import Clock

NIGHTS = [*((3, day) for day in range(20, 32)), (4, 1), (4, 2)]
INTERRUPTED_ON, LONG, OFF = (3, 22), (3, 26), (3, 28)


def name(night: tuple[int, int]) -> str:
    return f"s-2026-{night[0]:02d}-{night[1]:02d}"


def test_no_night_is_lost_or_doubled(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    path = tmp_path / "s.yaml"
    path.write_text('name: s\nnightly: {cron: "30 2 * * *", timezone: Europe/Berlin}\n')
    clock, trained = Clock.__new__(Clock).at(3, 19, 12), []

    def train(one, night, limits, descriptor) -> int:
        trained.append(night)
        if night == name(LONG):  # it is still at it when the next slot comes
            clock.at(3, 27)
            with pytest.raises(lock.Busy):
                tick()
        return INTERRUPTED if trained == [*trained[:2], name(INTERRUPTED_ON)] else 0

    def tick() -> int:
        session = Session(
            [loading.load(path)], False, clock=clock, train=train, say=lambda text: None
        )
        return hold(session, wait=False)

    tick()
    for night in NIGHTS:
        clock.at(*night)
        if night != OFF:
            tick()

    known = {entry.night: entry for entry in entries.of_study("s")}
    assert list(known) == [name(night) for night in NIGHTS]
    assert [n for n, entry in known.items() if entry.state == "missed"] == [name(OFF)]
    assert {entry.state for n, entry in known.items() if n != name(OFF)} == {"done"}
    assert known["s-2026-03-29"].slot == "2026-03-29T03:00:00+02:00"
    twice = [night for night in set(trained) if trained.count(night) > 1]
    assert twice == [name(INTERRUPTED_ON)]
    assert len(trained) == len(NIGHTS)  # one was missed, and one went on a second time


def test_nights_of_several_state_folders_follow_one_another(tmp_path):
    """None starts while one of another folder runs, whoever asks; each folder has its own entry."""
    homes = [tmp_path / "one", tmp_path / "other"]
    path = tmp_path / "s.yaml"
    path.write_text('name: s\nnightly: {cron: "30 2 * * *", timezone: Europe/Berlin}\n')
    clock, trained = Clock.__new__(Clock).at(3, 19, 12), []

    def session() -> Session:
        return Session([loading.load(path)], False, clock=clock, train=train, say=str)

    def train(one, night, limits, descriptor) -> int:
        trained.append((paths.home(), night))
        for others in (homes, homes[::-1], [homes[0]], [homes[1]]):
            with pytest.raises(lock.Busy):
                folders.tick(others, session)
        return 0

    assert folders.tick(homes, session) == (0, False)
    for night in NIGHTS[:2]:
        clock.at(*night)
        assert folders.tick(homes, session) == (0, True)
        assert folders.tick(homes, session) == (0, False)
    assert trained == [(home, name(night)) for night in NIGHTS[:2] for home in homes]
    for home in homes:
        with paths.at(home):
            assert [e.state for e in entries.of_study("s")] == ["done", "done"]
