"""The nights as monitoring sees them: numbers for Prometheus, and whether one has ended lately.

Reads what is on disk and changes nothing, so that it may be asked as often as one likes, by whoever can read it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engram.sweeps.nightly import alerts, entries
from engram.sweeps.nightly.entries import DONE, Entry
from engram.sweeps.state import paths, prometheus
from engram.sweeps.state.prometheus import Metric


def metrics(studies: Sequence[str], folders: Sequence[Path], now: dt.datetime) -> str:
    """In Prometheus' text format: nights by verdict, age and code of the last one, trials, hours, alerts that wait.

    Where there are several state folders, each number says of which it is.
    """
    verdicts: list[tuple[dict[str, str], float]] = []
    ages, codes, hours, attempts, waiting = [], [], [], [], []
    for folder in folders:
        with paths.at(folder):
            where = {"folder": str(folder)} if len(folders) > 1 else {}
            waiting.append((where, float(len(alerts.waiting()))))
            known_of = {study: entries.of_study(study) for study in studies}
        for study, known in known_of.items():
            mine = {**where, "study": study}
            counted = Counter((e.state, str(e.judgement.get("verdict", ""))) for e in known)
            verdicts += [
                ({**mine, "state": state, "verdict": verdict}, float(count))
                for (state, verdict), count in sorted(counted.items())
            ]
            if (since := ended_since(known, now)) is not None:
                ages.append((mine, since))
            if known:
                last = known[-1]
                codes += [(mine, float(last.code))] if last.code is not None else []
                hours.append((mine, last.seconds / 3600))
                attempts.append((mine, float(last.attempts)))
    return prometheus.text(
        [
            Metric("nights", "Nights by how they ended and what was found.", verdicts),
            Metric("night_seconds_since_end", "Since a night of the study was done.", ages),
            Metric("night_exit_code", "Of the last night.", codes),
            Metric("night_hours", "That the last night has taken.", hours),
            Metric("night_attempts", "At the last night.", attempts),
            Metric("alerts_waiting", "Messages that have not been delivered.", waiting),
        ]
    )


def ended_since(known: Sequence[Entry], now: dt.datetime) -> float | None:
    """Seconds since a night was done; None where none ever was."""
    ends = [dt.datetime.fromisoformat(e.ended) for e in known if e.state == DONE and e.ended]
    return (now - max(ends)).total_seconds() if ends else None


def overdue(
    studies: Sequence[str], folders: Sequence[Path], hours: float, now: dt.datetime
) -> list[str]:
    """What is wrong, a line a study and folder: no night that was done in so many hours."""
    found = []
    for folder in folders:
        of = f"{folder}: " if len(folders) > 1 else ""
        with paths.at(folder):
            ages = [(study, ended_since(entries.of_study(study), now)) for study in studies]
        for study, since in ages:
            if since is None:
                found.append(f"{of}{study}: no night has ever been done")
            elif since > hours * 3600:
                found.append(f"{of}{study}: the last night was done {since / 3600:.1f} h ago")
    return found
