"""The timetable of studies: kept by a small service, or by a tick that cron, systemd or Kubernetes starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sweeps import lock, nightly
from sweeps.definition.configuration import Study
from sweeps.nights import entries, installing, service, timetable
from sweeps.nights.session import DONE, Session, hold, utc_now


def run(paths: Sequence[str], overrides: Sequence[str], small: bool) -> int:
    """Keep the timetable until a signal comes; returns the exit code."""
    return service.serve(nightly.load(paths, overrides, small), _say)


def once(paths: Sequence[str], overrides: Sequence[str], small: bool) -> int:
    """Run what is due now, if anything, and leave; at once where another night runs."""
    session = Session(nightly.load(paths, overrides, small), asked=False, say=_say)
    try:
        return hold(session, wait=False)
    except lock.Busy:
        return DONE  # whoever holds it, or the next tick, sees to what is due


def entry(form: str, paths: Sequence[str], overrides: Sequence[str], small: bool) -> int:
    """Print what starts a tick every few minutes: cron, systemd or kubernetes."""
    studies = nightly.load(paths, overrides, small)
    words = [
        *paths,
        *(word for o in overrides for word in ("--set", o)),
        *(["--small"] if small else []),
    ]
    print(installing.FORMS[form](studies, words))
    return DONE


def show(paths: Sequence[str], overrides: Sequence[str], small: bool, form: str) -> int:
    """Print when each study runs next, when it last did, and how that ended."""
    found = [_state(study) for study in nightly.load(paths, overrides, small)]
    if form == "json":
        print(json.dumps(found, indent=1))
        return DONE
    header = ("study", "timetable", "next", "in", "last", "ended")
    table = [header, *([str(row[name]) for name in header] for row in found)]
    widths = [max(len(line[k]) for line in table) for k in range(len(header))]
    for line in table:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
    return DONE


def _state(study: Study) -> dict[str, Any]:
    now = utc_now()
    known = entries.of_study(study.name)
    coming = timetable.upcoming(study, now)[0]
    last = known[-1] if known else None
    return {
        "study": study.name,
        "timetable": f"{study.nightly.cron} {study.nightly.timezone}",
        "next": f"{coming.at:%Y-%m-%d %H:%M %Z}",
        "in": _until((coming.at - now).total_seconds()),
        "last": last.night if last else "never",
        "ended": _ending(last) if last else "",
        "code": last.code if last else None,
    }


def _ending(last: entries.Entry) -> str:
    verdict = last.judgement.get("verdict", "")
    return f"{last.state}: {verdict}" if verdict else last.state


def _until(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60:02d} min"


def _say(text: str) -> None:
    print(text, flush=True)
