"""Which nights are to run now: a decision from the timetable and what became of earlier nights.

The same question may be asked every few minutes, by several processes, after any crash: a night that has
an end is never due again, and one that died is, until it has died too often.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from engram.sweeps.nightly import entries, timetable
from engram.sweeps.nightly.entries import Entry
from engram.sweeps.nightly.timetable import Slot
from engram.sweeps.study.configuration import Study

LATE = dt.timedelta(hours=1)  # a slot that nobody started by then has been missed
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Due:
    """What to do for one study. run: nights in the order of their slots; missed: nights to write down as
    such, each with the reason; given_up: nights that died too often; done: the entry of the latest night
    where it has an end already."""

    study: Study
    run: list[Slot] = field(default_factory=list)
    missed: list[tuple[Slot, str]] = field(default_factory=list)
    given_up: list[Entry] = field(default_factory=list)
    done: Entry | None = None


def due(study: Study, known: list[Entry], now: dt.datetime, asked: bool) -> Due:
    """What is due for a study. Called by whoever holds the lock: an entry that runs has died.

    known: its entries, the oldest first; asked: a person or a timetable of their own wants the latest
    night now, whenever its slot was, and a night that failed once more.
    """
    slot = timetable.latest(study, now)
    by_night = {entry.night: entry for entry in known}
    found = Due(study)
    again = [e for e in known if e.state in entries.UNFINISHED and e.night != slot.night]
    for entry in again:
        _old(study, entry, found)
    _gaps(study, known, slot, found)
    latest = by_night.get(slot.night)
    if latest is None:
        _new(study, known, slot, now, asked, found)
    elif latest.state in entries.UNFINISHED and latest.attempts >= MOST_ATTEMPTS and not asked:
        found.given_up.append(latest)
    elif latest.state in entries.UNFINISHED or (
        asked and latest.state in (entries.FAILED, entries.MISSED)
    ):
        found.run.append(Slot(latest.at, latest.night))
    else:
        return Due(study, found.run, found.missed, found.given_up, latest)
    return found


def _old(study: Study, entry: Entry, found: Due) -> None:
    """A night before the latest one that died or was interrupted: finished first, unless it keeps dying."""
    if study.nightly.missed == "skip" or entry.attempts >= MOST_ATTEMPTS:
        found.given_up.append(entry)
    else:
        found.run.append(Slot(entry.at, entry.night))


def _gaps(study: Study, known: list[Entry], slot: Slot, found: Due) -> None:
    """Slots between the last night and this one that nobody started: caught up by this one, or skipped."""
    if not known:
        return
    nights = {entry.night for entry in known}
    why = (
        f"nobody started it; {slot.night} catches up"
        if study.nightly.missed == "once"
        else "nobody started it, and nightly.missed is skip"
    )
    found.missed.extend(
        (gap, why)
        for gap in timetable.between(study, known[-1].at, slot.at)
        if gap.night not in nights and gap.night != slot.night
    )


def _new(
    study: Study, known: list[Entry], slot: Slot, now: dt.datetime, asked: bool, found: Due
) -> None:
    if asked:
        found.run.append(slot)
    elif not known and slot.at < entries.since(study.name, now):
        return  # before anybody kept this timetable
    elif study.nightly.missed == "skip" and now - slot.at > LATE:
        found.missed.append((slot, "nobody started it in time, and nightly.missed is skip"))
    else:
        found.run.append(slot)
