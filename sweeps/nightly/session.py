"""What is due, one night after the other, under one lock: the work of `nightly` and of each tick of `schedule`."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from engram.sweeps.nightly import alerts, due, entries, night, timetable, training
from engram.sweeps.nightly.due import Due
from engram.sweeps.nightly.entries import Clock, Entry
from engram.sweeps.nightly.timetable import Slot
from engram.sweeps.nightly.training import Limits, Train
from engram.sweeps.running.secrets import Secrets
from engram.sweeps.state import lock, logs
from engram.sweeps.study.configuration import Study

DONE, FAILED, SOME_FAILED, REGRESSION, INTERRUPTED = 0, 1, 3, 4, 130
# Of several studies the first of these decides: an interruption leaves things undone, a failure hides what moved.
ORDER = (INTERRUPTED, FAILED, REGRESSION, SOME_FAILED, DONE)
POLL_S = 2.0
PAUSES_S = (60.0, 300.0)  # before a night that its machine could not run is tried again
LOG = "nightly.log"
log = logging.getLogger(__name__)

Say = Callable[[str], None]


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Session:
    """One holder of the lock. asked: a person or their own timetable wants the latest night of each study
    now; limits: for all of it together; say: takes lines for people."""

    studies: Sequence[Study]
    asked: bool = True
    limits: Limits = field(default_factory=Limits)
    clock: Clock = utc_now
    train: Train = training.train
    say: Say = print
    pause: Callable[[float], None] = time.sleep
    ran: dict[str, Entry] = field(default_factory=dict)

    def run(self, lock_descriptor: int) -> int:
        """Run whatever is due until nothing is; returns the exit code. The caller holds the lock."""
        settled = False
        alerts.deliver(self.now())
        while True:
            plans = [self._due(study) for study in self.studies]
            for plan in plans:
                self._write_down(plan)
            waiting = sorted(
                ((plan.study, slot) for plan in plans for slot in plan.run), key=_urgency
            )
            if not waiting:
                return self._code(plans)
            if not settled:
                self._settle()
                settled = True
            study, slot = waiting[0]
            self._wait_for_the_machine(slot)
            entry = self._night(study, slot, lock_descriptor)
            if entry.code == INTERRUPTED:
                return INTERRUPTED

    def now(self) -> dt.datetime:
        """The moment, in UTC: differences within one zone forget that clocks change."""
        return self.clock().astimezone(dt.UTC)

    def _due(self, study: Study) -> Due:
        now = self.now()
        asked = self.asked and timetable.latest(study, now).night not in self.ran
        return due.due(study, entries.of_study(study.name), now, asked)

    def _write_down(self, plan: Due) -> None:
        for slot, why in plan.missed:
            night.miss(plan.study, slot, why, self.clock)
            self.say(f"{slot.night}: missed: {why}")
        for entry in plan.given_up:
            self.ran[entry.night] = night.give_up(plan.study, entry, self.clock)
            self.say(f"{entry.night}: failed: {entry.why}")
            night.settle(plan.study, self.clock)

    def _night(self, study: Study, slot: Slot, lock_descriptor: int) -> Entry:
        now = self.now()
        end = timetable.deadline(study, timetable.latest(study, now))
        left = None if end is None else (end - now).total_seconds()
        if self.asked and left is not None and left <= 0:
            left = None  # who asks for a night after its deadline wants it now
        limits = self.limits.within(left, f"the deadline {study.nightly.deadline}")
        if limits.spent:
            why = limits.why if left is not None and left <= 0 else "the budget of the night"
            entry = night.miss(study, slot, f"{why} had passed before it could start", self.clock)
            entry.code = FAILED
            entry.write()
            self.say(f"{slot.night}: missed: {entry.why}")
        else:
            self.say(f"{slot.night}: starts; what it says is in {entries.log_path(slot.night)}")
            before = training.used(slot.night)  # by attempts that an earlier session paid for
            entry = night.run(study, slot, limits, lock_descriptor, self.clock, self.train)
            self.limits = self.limits.less(entry.seconds - before[0], entry.gpu_seconds - before[1])
            self.say("\n".join(entry.said or [f"{entry.night}: {entry.why}"]))
        log.info(
            "%s ends: %s, code %s, notified: %s",
            entry.night,
            entry.state,
            entry.code,
            entry.notified,
        )
        self.ran[entry.night] = entry
        return entry

    def _wait_for_the_machine(self, slot: Slot) -> None:
        """A night that it was in no state to run is tried again a while later."""
        before = self.ran.get(slot.night)
        if before is not None and before.state == entries.INTERRUPTED:
            pause = PAUSES_S[min(before.attempts, len(PAUSES_S)) - 1]
            self.say(f"{slot.night}: tried again in {pause:.0f} s")
            self.pause(pause)

    def _settle(self) -> None:
        """What a night before this could not record or tell."""
        for study in self.studies:
            if entries.of_study(study.name):
                night.settle(study, self.clock)

    def _code(self, plans: Sequence[Due]) -> int:
        codes = {entry.code for entry in self.ran.values()}
        for plan in plans:
            if self.asked and plan.done is not None and plan.done.night not in self.ran:
                self.say(f"{plan.done.night}: is {plan.done.state}; a night is run once")
                codes.add(plan.done.code)
        return worst(codes)


def worst(codes: Collection[int | None]) -> int:
    """The exit code that stands for several."""
    return next((code for code in ORDER if code in codes), DONE)


def locked(studies: Sequence[Study]) -> AbstractContextManager[int]:
    """The one lock of all nights of the state folder. lock.Busy where another holds it."""
    return lock.held(entries.home(), "nightly " + " ".join(study.name for study in studies))


def _urgency(waiting: tuple[Study, Slot]) -> tuple:
    study, slot = waiting
    return (-study.nightly.priority, slot.at, study.name)


def hold(session: Session, wait: bool) -> int:
    """Run a session as soon as no other night runs; lock.Busy where it must not wait, or waits in vain.

    Waiting ends when the next slot of any of its studies comes: that night has a process of its own.
    """
    log_to(Secrets(*session.studies))
    end = min(timetable.upcoming(study, session.now())[0].at for study in session.studies)
    told = False
    while True:
        try:
            with locked(session.studies) as held:
                return session.run(held)
        except lock.Busy as busy:
            if not wait or session.now() >= end:
                raise
            if not told:
                session.say(f"waits for another night: {str(busy).splitlines()[0]}")
                told = True
            time.sleep(POLL_S)


def log_to(secrets: Secrets) -> None:
    """All that the nights have to say to whoever looks after them is in one file."""
    logs.rotate(entries.home() / "tick.log")
    handler = logs.handler(entries.home() / LOG, secrets.hidden)
    logger = logging.getLogger("engram")
    for old in logger.handlers:
        old.close()
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
