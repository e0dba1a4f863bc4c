"""When nights are: clock changes, weekdays, several a day, deadlines."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from engram.sweeps.nightly import timetable
from engram.sweeps.study.configuration import Study

BERLIN = ZoneInfo("Europe/Berlin")


def study(cron: str = "30 2 * * *", **nightly: object) -> Study:
    return Study(name="s", nightly={"cron": cron, "timezone": "Europe/Berlin", **nightly})


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 3 * * *", "30 * * * *", "15 */6 * * *"])
@pytest.mark.parametrize("month", [3, 10])
def test_asked_every_five_minutes_each_slot_comes_once_over_a_clock_change(cron: str, month: int):
    begin = dt.datetime(2026, month, 24 if month == 10 else 28, tzinfo=dt.UTC)
    end = begin + dt.timedelta(days=3)
    slots = timetable.between(study(cron), begin, end)
    asked = [begin + dt.timedelta(minutes=m) for m in range(0, 3 * 24 * 60 + 1, 5)]
    seen = dict.fromkeys(timetable.latest(study(cron), now).night for now in asked)
    before = timetable.latest(study(cron), begin).night
    assert [night for night in seen if night != before] == [s.night for s in slots]
    assert len({s.night for s in slots}) == len(slots)


def test_a_skipped_hour_comes_late_and_a_repeated_one_comes_once():
    march = timetable.between(
        study(), *(dt.datetime(2026, 3, d, 12, tzinfo=BERLIN) for d in (28, 29))
    )
    assert [s.at.isoformat() for s in march] == ["2026-03-29T03:00:00+02:00"]
    october = timetable.between(
        study(), *(dt.datetime(2026, 10, d, 12, tzinfo=BERLIN) for d in (24, 25))
    )
    assert [s.at.isoformat() for s in october] == ["2026-10-25T02:30:00+02:00"]


def test_a_clock_that_shows_the_skipped_hour_is_understood():
    late = dt.datetime(2026, 3, 29, 2, 40, tzinfo=BERLIN)  # no clock shows it; it is 03:40
    assert timetable.latest(study(), late).night == "s-2026-03-29"
    again = dt.datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    assert timetable.latest(study(), again).night == "s-2026-10-25"


def test_the_week_begins_on_sunday_as_in_cron():
    now = dt.datetime(2026, 11, 25, 12, tzinfo=BERLIN)  # a Wednesday
    for day in ("0", "7", "sun"):
        (slot,) = timetable.upcoming(study(f"0 2 * * {day}"), now)
        assert slot.at.strftime("%A") == "Sunday"


def test_names_are_dates_and_have_times_where_a_day_has_several():
    now = dt.datetime(2026, 11, 25, 12, tzinfo=BERLIN)
    assert timetable.latest(study(), now).night == "s-2026-11-25"
    assert timetable.latest(study("0 */6 * * *"), now).night == "s-2026-11-25-1200"


def test_the_date_is_that_of_the_studys_zone():
    late = dt.datetime(2026, 11, 25, 23, 30, tzinfo=dt.UTC)
    assert timetable.latest(study("15 0 * * *"), late).night == "s-2026-11-26"


def test_a_deadline_is_the_next_such_time_of_day():
    slot = timetable.latest(study(), dt.datetime(2026, 3, 29, 12, tzinfo=BERLIN))
    end = timetable.deadline(study(deadline="07:00"), slot)
    assert end == dt.datetime(2026, 3, 29, 7, tzinfo=BERLIN)
    assert end - slot.at == dt.timedelta(hours=4)
    evening = timetable.latest(study("0 22 * * *"), dt.datetime(2026, 3, 28, 23, tzinfo=BERLIN))
    assert timetable.deadline(study(deadline="07:00"), evening) == end
    assert timetable.deadline(study(), slot) is None
