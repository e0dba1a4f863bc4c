"""Which nights are to run: the same question, asked at any time and after anything."""

from __future__ import annotations

import datetime as dt

import pytest

from engram.sweeps.nightly import due, entries
from engram.sweeps.nightly.entries import DONE, FAILED, INTERRUPTED, MISSED, RUNNING, Entry
from engram.sweeps.study.configuration import Study


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))


def study(**nightly: object) -> Study:
    return Study(name="s", nightly=nightly)


def entry(day: int, state: str = DONE, attempts: int = 1) -> Entry:
    return Entry(
        "s", f"s-2026-11-{day:02d}", f"2026-11-{day:02d}T02:00:00+00:00", state, attempts=attempts
    )


def at(day: int, hour: int = 2, minute: int = 10) -> dt.datetime:
    return dt.datetime(2026, 11, day, hour, minute, tzinfo=dt.UTC)


def asked(known: list[Entry], now: dt.datetime, asked: bool = False, **nightly: object):
    found = due.due(study(**nightly), known, now, asked)
    return [s.night[-2:] for s in found.run], [s.night[-2:] for s, _ in found.missed], found


def test_a_new_timetable_owes_nothing_and_then_runs_what_comes():
    assert asked([], at(20, 15))[:2] == ([], [])
    assert asked([], at(21, 1))[:2] == ([], [])
    assert asked([], at(21))[:2] == (["21"], [])


def test_a_person_gets_the_latest_night_at_once():
    assert asked([], at(20, 15), asked=True)[0] == ["20"]


def test_a_night_that_has_an_end_is_not_due():
    for state in (DONE, FAILED, MISSED):
        run, _, found = asked([entry(19), entry(20, state)], at(20, 4))
        assert run == []
        assert found.done.state == state
    assert asked([entry(20)], at(20, 4), asked=True)[0] == []


def test_a_failed_or_missed_night_is_run_again_by_a_person_only():
    for state in (FAILED, MISSED):
        assert asked([entry(20, state)], at(20, 4), asked=True)[0] == ["20"]


@pytest.mark.parametrize("state", [RUNNING, INTERRUPTED])
def test_a_night_that_died_goes_on_and_comes_before_a_new_one(state: str):
    assert asked([entry(20, state)], at(20, 4))[0] == ["20"]
    assert asked([entry(20, state)], at(21))[0] == ["20", "21"]


def test_a_night_that_keeps_dying_is_given_up():
    run, _, found = asked([entry(20, RUNNING, due.MOST_ATTEMPTS)], at(20, 4))
    assert (run, [e.night for e in found.given_up]) == ([], ["s-2026-11-20"])
    run, _, found = asked([entry(20, RUNNING, due.MOST_ATTEMPTS)], at(21))
    assert (run, len(found.given_up)) == (["21"], 1)


def test_missed_nights_are_caught_up_once():
    assert asked([entry(20)], at(24, 9))[:2] == (["24"], ["21", "22", "23"])


def test_or_skipped():
    assert asked([entry(20)], at(24, 9), missed="skip")[:2] == ([], ["21", "22", "23", "24"])
    assert asked([entry(20)], at(24), missed="skip")[:2] == (["24"], ["21", "22", "23"])


def test_entries_survive_writing_and_damaged_files_are_left_out(tmp_path):
    entry(20).write()
    entry(19, MISSED).write()
    (tmp_path / "nightly" / "history" / "s" / "torn.json").write_text('{"study": "s", "nig')
    assert [e.night for e in entries.of_study("s")] == ["s-2026-11-19", "s-2026-11-20"]
    assert entries.studies() == ["s"]
