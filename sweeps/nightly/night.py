"""One night of one study: train, compare with the last few, keep the trend, tell whom it concerns.

Each step leaves its mark in the night's entry, so that whoever comes after a crash does what is missing
and nothing twice. What goes wrong after training is logged and never makes the night fail.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engram import files
from engram.sweeps.nightly import alerts, entries, history, retention, summary, training
from engram.sweeps.nightly.entries import DONE, FAILED, INTERRUPTED, MISSED, Clock, Entry
from engram.sweeps.nightly.judgement import Judgement, judge
from engram.sweeps.nightly.series import FEW, NOISY, REGRESSION, Earlier
from engram.sweeps.nightly.timetable import Slot
from engram.sweeps.nightly.training import Limits, Train
from engram.sweeps.results.boards import available, default_column, rank
from engram.sweeps.results.evidence import Evidence, gather
from engram.sweeps.results.tables import SHOWN
from engram.sweeps.state import owner, paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.tracking import nightly

FINE, WENT_WRONG, SOME_FAILED, MOVED = 0, 1, 3, 4
MOST_BACK = 3  # times the baseline that earlier nights are looked at
MOST_KEPT = 100  # trials whose measures stay in a night's entry
UNSETTLED = 5  # nights back that are looked through for steps that are missing
log = logging.getLogger(__name__)


def run(study: Study, slot: Slot, limits: Limits, lock: int, clock: Clock, train: Train) -> Entry:
    """Train the night of a slot, or go on with it, and see to all that follows. lock: held by the caller."""
    known = {entry.night: entry for entry in entries.of_study(study.name)}
    entry = known.get(slot.night) or Entry(study.name, slot.night, slot.at.isoformat())
    entry.state, entry.code, entry.why, entry.ended = entries.RUNNING, None, "", None
    entry.started = entry.started or clock().isoformat()
    entry.owner, entry.host = owner.owner(), owner.host()
    entry.attempts += 1
    entry.notified, entry.recorded, entry.said, entry.judgement = "", False, [], {}
    entry.write()
    code = train(study, slot.night, limits, lock)
    _trained(entry, code)
    if entry.state == INTERRUPTED:
        entry.write()
        return entry
    judgement = _judged(study, entry, limits)
    if entry.state == DONE:
        entry.code = _code(code, judgement)
    entry.ended = clock().isoformat()
    _say(study, entry, judgement)
    entry.write()
    return settle(study, clock)[entry.night]


def miss(study: Study, slot: Slot, why: str, clock: Clock) -> Entry:
    """Write down a night that will not be run."""
    entry = Entry(study.name, slot.night, slot.at.isoformat(), MISSED, why=why)
    entry.ended = clock().isoformat()
    entry.write()
    return entry


def give_up(study: Study, entry: Entry, clock: Clock) -> Entry:
    """A night that died too often, or that is not to be caught up, has failed."""
    entry.state, entry.code = FAILED, WENT_WRONG
    times = "once" if entry.attempts == 1 else f"{entry.attempts} times"
    last = f"; the last time: {entry.why}" if entry.why else ""
    entry.why = f"it died or was interrupted {times}, and is not tried again{last}"
    entry.ended = clock().isoformat()
    _say(study, entry, None)
    entry.write()
    return entry


# -- what came of the training ----------------------------------------------------------------------


def _trained(entry: Entry, code: int) -> None:
    entry.seconds, entry.gpu_seconds = training.used(entry.night)
    if code == training.INTERRUPTED:
        entry.state, entry.code = INTERRUPTED, code
        entry.why = "interrupted; the next night finishes it"
        return
    if code < 0:  # the system wanted its memory, for one: it goes on at once
        entry.state, entry.code = INTERRUPTED, WENT_WRONG
        entry.why = f"its run was ended by signal {-code}"
        return
    if why := training.machine_trouble(entry.night, code):
        entry.state, entry.code = INTERRUPTED, WENT_WRONG
        entry.why = f"the machine could not run it: {why}"
        return
    entry.state = DONE if code in (FINE, SOME_FAILED) else FAILED
    entry.code = FINE if entry.state == DONE else WENT_WRONG
    if entry.state == FAILED:
        said = training.tail(entry.night)
        entry.why = _reason(code, said)


def _reason(code: int, said: str) -> str:
    indented = "\n".join(f"    {line}" for line in said.splitlines())
    return f"the run failed with exit code {code}" + (
        f"; it said last:\n{indented}" if said else ""
    )


def _judged(study: Study, entry: Entry, limits: Limits) -> Judgement | None:
    """The comparison with the nights before; None where there is nothing of tonight."""
    tonight: Evidence | None = None
    with harmless(f"reading {entry.night}"):
        tonight = gather(entry.night)
    if tonight is None:
        return None
    planned = study.planned_trials()
    entry.trials = (len(tonight.records), planned)
    if entry.state == FAILED:
        return None
    if planned is not None and len(tonight.records) < planned:
        entry.why = f"stopped before its end by {limits.why or 'its budget'}"
    entry.measures = _measures(tonight)
    judgement: Judgement | None = None
    with harmless(f"the comparison of {entry.night}"):
        judgement = judge(tonight, list(_earlier(study, entry)), study.nightly.margin)
        entry.judgement = judgement.entry()
    return judgement


def _earlier(study: Study, entry: Entry) -> Iterator[Earlier]:
    """The nights to compare with, the newest first."""
    before = [e for e in entries.of_study(study.name) if e.compares and e.at < entry.at]
    quiet = 0  # a night that is suspect of anything counts for no baseline: look further back
    for night in before[: -MOST_BACK * study.nightly.baseline - 1 : -1]:
        moved, suspects = (
            frozenset((p, m) for p, m in night.judgement.get(name, []))
            for name in ("moved", "suspects")
        )
        with harmless(f"the records of {night.night}"):
            yield Earlier(gather(night.night), moved, suspects)
        quiet += not suspects
        if quiet == study.nightly.baseline:
            return


def _measures(found: Evidence) -> list[dict[str, Any]]:
    """What the trend needs of each trial, the best first."""
    if not found.completed:
        return []
    by = default_column(found.records, found.objective)
    names = [
        n for n in dict.fromkeys([by, *(n for n, _ in SHOWN)]) if n in available(found.records)
    ]
    rows = rank(found.completed, by).rows[:MOST_KEPT]
    return [
        {
            "params": row.record["params"],
            "status": row.record["status"],
            "measures": {name: row.record["measures"].get(name) for name in names},
        }
        for row in rows
    ]


def _code(code: int, judgement: Judgement | None) -> int:
    return MOVED if judgement is not None and judgement.verdict == REGRESSION else code


# -- what follows -----------------------------------------------------------------------------------


def settle(study: Study, clock: Clock) -> dict[str, Entry]:
    """Record, tell and prune what has not been: tonight's, and what an earlier night could not.

    Returns the study's entries by night."""
    known = entries.of_study(study.name)
    place = place_of(study)
    ended = [e for e in known if e.state not in entries.UNFINISHED and e.state != MISSED]
    for entry in ended[-UNSETTLED:]:
        if not entry.recorded:
            with harmless(f"recording {entry.night} in MLflow"):
                entry.recorded = _record(place, entry)
                entry.write()
        if not entry.notified:
            entry.notified = _tell(study, entry, _missed_before(known, entry), clock)
            entry.write()
    with harmless(f"the trend of {study.name}"):
        history.keep(study, place, known)
    with harmless(f"pruning old nights of {study.name}"):
        retention.prune(study, place, known)
    return {entry.night: entry for entry in known}


def _say(study: Study, entry: Entry, judgement: Judgement | None) -> None:
    with harmless(f"the address of {entry.night}"):
        entry.address = nightly.address(place_of(study), entry.night)
    missed = _missed_before(entries.of_study(study.name), entry)
    entry.said = summary.lines(entry, judgement, missed)


def place_of(study: Study) -> nightly.Place:
    """Where the study is recorded."""
    name = study.tracking.experiment or study.name
    artifacts = None if study.tracking.uri else paths.artifacts_dir() / name
    return nightly.Place(study.tracking.uri or paths.mlflow_uri(), name, artifacts)


def _missed_before(known: list[Entry], entry: Entry) -> list[Entry]:
    """The nights missed since the one before it."""
    found: list[Entry] = []
    for other in known:
        if other.at >= entry.at:
            break
        found = [*found, other] if other.state == MISSED else []
    return found


def _record(place: nightly.Place, entry: Entry) -> bool:
    folder, said = entries.home() / "summaries", "\n".join(entry.said)
    text = files.write(folder / f"{entry.night}.txt", f"{said}\n")
    verdict = entry.judgement.get("verdict", "")
    tags = {
        "state": entry.state,
        "slot": entry.slot,
        "verdict": verdict,
        "causes": ", ".join(entry.judgement.get("causes", [])),
        "summary": said,
    }
    file = files.write(folder / f"{entry.night}.json", json.dumps(entry.judgement, indent=1))
    return nightly.record(place, paths.study_dir(entry.night), entry.night, tags, [text, file])


def _tell(study: Study, entry: Entry, missed: list[Entry], clock: Clock) -> str:
    """Send the summary to whoever wants it; in words, to whom it went."""
    regression = entry.code == MOVED
    failure = entry.state == FAILED or entry.code == SOME_FAILED or bool(missed)
    wanted = {
        "regression": regression,
        "failure": failure,
        "problems": regression or failure,
        "always": True,
    }[study.nightly.notify_on]
    if study.nightly.notify is None:
        return "nobody: nightly.notify is null"
    if not wanted:
        return f"nobody: nightly.notify_on is {study.nightly.notify_on}"
    noisy = entry.judgement.get("verdict") in (NOISY, FEW)
    kind = "failure" if entry.state == FAILED else "warning" if regression or failure else "info"
    kind = kind if kind != "info" or noisy else "success"
    title, text = entry.said[0], "\n".join(entry.said[1:])
    return alerts.send(entry.night, study.nightly.notify, title, text, kind, clock())


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Training is done: what goes wrong now is logged, and the night is as good as it was."""
    try:
        yield
    except Exception as error:
        said = str(error).splitlines() or [""]
        log.warning("%s went wrong: %s: %s", what, type(error).__name__, said[0][:300])
