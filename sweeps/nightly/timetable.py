"""When a study's nights are: cron expression and time zone to slots, with clock changes right.

A slot is a moment that the timetable names. Where clocks go forward over it, it comes right after the
gap; where they go back, it comes once, as cron does it. Knows nothing of what became of a night.

Moments are compared in UTC: Python compares two of one zone by what their clocks show.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from engram.sweeps.study.configuration import Study

LONGEST_STEM = 80  # of the 100 characters of a name; dates and times of day take up to 17
SECOND, DAY = dt.timedelta(seconds=1), dt.timedelta(days=1)


@dataclass(frozen=True, order=True)
class Slot:
    """A moment of the timetable, in the study's time zone, and the name of its night's execution."""

    at: dt.datetime
    night: str


def latest(study: Study, now: dt.datetime) -> Slot:
    """The last slot up to now, now included. now: with a time zone."""
    # cronsim errs when it walks back through a repeated hour: begin before it, and walk on.
    now = now.astimezone(dt.UTC)
    before = next(CronSim(study.nightly.cron, _local(study, now - 2 * DAY), reverse=True))
    found = list(takewhile(lambda at: at <= now, _forward(study, before - SECOND)))
    return _slot(study, found[-1])


def upcoming(study: Study, now: dt.datetime, count: int = 1) -> list[Slot]:
    """The next slots after now."""
    return [_slot(study, at) for at in islice(_forward(study, now), count)]


def between(study: Study, since: dt.datetime, until: dt.datetime) -> list[Slot]:
    """The slots after since and up to until."""
    end = until.astimezone(dt.UTC)
    return [_slot(study, at) for at in takewhile(lambda at: at <= end, _forward(study, since))]


def deadline(study: Study, slot: Slot) -> dt.datetime | None:
    """When the night of a slot has to be over: the first such time of day after it; None: no limit."""
    if study.nightly.deadline is None:
        return None
    hour, minute = map(int, study.nightly.deadline.split(":"))
    zone = ZoneInfo(study.nightly.timezone)
    for days in (0, 1, 2):
        day = slot.at.astimezone(zone).date() + dt.timedelta(days)
        end = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
        if end.astimezone(dt.UTC) > slot.at.astimezone(dt.UTC):
            return end
    raise AssertionError("a time of day comes within two days")


def _forward(study: Study, since: dt.datetime) -> Iterator[dt.datetime]:
    return CronSim(study.nightly.cron, _local(study, since))


def _local(study: Study, moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(ZoneInfo(study.nightly.timezone))


def _slot(study: Study, at: dt.datetime) -> Slot:
    name = f"{_stem(study.name)}-{at:%Y-%m-%d}"
    if _several(study, at):
        # The hour that clocks repeat has two slots of one time of day.
        name += f"-{at:%H%M}" + ("b" if at.fold else "")
    return Slot(at, name)


def _stem(name: str) -> str:
    """A study's name as its nights carry it: a long one is cut, so that theirs is still one that may be."""
    if len(name) <= LONGEST_STEM:
        return name
    return f"{name[: LONGEST_STEM - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _several(study: Study, at: dt.datetime) -> bool:
    """Whether the slot's day has others."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0, fold=0) - SECOND
    first_two = list(islice(CronSim(study.nightly.cron, midnight), 2))
    return first_two[-1].date() == at.date()
