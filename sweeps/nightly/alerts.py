"""Messages about nights that wait to be delivered: tried again with growing pauses, and told to others when it takes long.

One file a message under `nightly/alerts/`, gone when everybody has it. A message that nobody took for a week stays
there, as `.undelivered`. Knows addresses by digests only. Called by whoever holds the lock of the nights.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engram import files
from engram.sweeps.nightly import entries, notify

PAUSES_MIN = (1, 5, 15, 30, 60)  # before the next attempts; the last for all that follow
ESCALATES_AFTER = dt.timedelta(hours=1)
ESCALATION = "escalation"  # the tag of those who hear of what could not be delivered
GIVEN_UP_AFTER = dt.timedelta(days=7)
UNDELIVERED = ".undelivered"
log = logging.getLogger(__name__)


@dataclass
class Alert:
    """A message to a tag. first, due: when it was sent first, and when it is tried again (ISO 8601);
    told: digests of the channels that have it."""

    name: str
    tag: str
    title: str
    text: str
    kind: str
    first: str
    due: str
    attempts: int = 0
    told: list[str] = field(default_factory=list)
    escalated: bool = False

    @property
    def path(self) -> Path:
        return _folder() / f"{self.name}.json"


def send(name: str, tag: str, title: str, text: str, kind: str, now: dt.datetime) -> str:
    """Send a message, and keep it where somebody did not get it; in words, to whom it went. name: of the night."""
    alert = Alert(name, tag, title, text, kind, now.isoformat(), now.isoformat())
    files.write(alert.path, json.dumps(asdict(alert), indent=1))
    return _try(alert, now)


def deliver(now: dt.datetime) -> None:
    """Try again what is due."""
    for alert in waiting():
        if dt.datetime.fromisoformat(alert.due) <= now:
            _try(alert, now)


def waiting() -> list[Alert]:
    """What has not been delivered yet, in the order of its nights' names."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        said = files.read_json(path)
        try:
            found.append(Alert(**said))
        except TypeError:
            log.warning("%s is no message: left where it is", path)
    return found


def _try(alert: Alert, now: dt.datetime) -> str:
    sent = notify.send(alert.tag, alert.title, alert.text, alert.kind, told=alert.told)
    alert.told = sorted({*alert.told, *sent.told})
    alert.attempts += 1
    if not sent.missing:
        alert.path.unlink(missing_ok=True)
        return sent.words
    waited = now - dt.datetime.fromisoformat(alert.first)
    if waited >= ESCALATES_AFTER and not alert.escalated:
        others = notify.send(
            ESCALATION,
            f"not delivered: {alert.title}",
            f"{alert.attempts} attempts since {alert.first[:16]} to reach {alert.tag}: {sent.words}\n{alert.text}",
            "failure",
        )
        alert.escalated = bool(others.told)
    pause = PAUSES_MIN[min(alert.attempts, len(PAUSES_MIN)) - 1]
    alert.due = (now + dt.timedelta(minutes=pause)).isoformat()
    files.write(alert.path, json.dumps(asdict(alert), indent=1))
    if waited >= GIVEN_UP_AFTER:
        log.error("%s was never delivered to %s: given up", alert.name, alert.tag)
        alert.path.replace(alert.path.with_suffix(UNDELIVERED))
    return f"{sent.words}; kept, and tried again from {alert.due[:16]} on"


def _folder() -> Path:
    return entries.home() / "alerts"
