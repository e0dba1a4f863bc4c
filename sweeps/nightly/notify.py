"""Tells people, over whatever channel they use, and never holds a night up or makes it fail.

Addresses are apprise URLs (mailto://, slack://, msteams://, json://, and a hundred more) with a tag each,
from the environment or a file: `team=slack://...`. They hold secrets, so nothing here ever shows one:
what is said of a channel is its kind.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESSES, FILE = "ENGRAM_NOTIFY", "ENGRAM_NOTIFY_FILE"
VARIABLES = (ADDRESSES, FILE)
PATIENCE_S = 30.0  # for all channels together
EVERYBODY = "all"
TOLD = "told"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """How it went. words: for people; told: the channels that took it, known by digests of their addresses;
    missing: whether somebody who should have it has not."""

    words: str
    told: frozenset[str] = frozenset()
    missing: bool = False


def send(
    tag: str,
    title: str,
    text: str,
    kind: str,
    patience_s: float = PATIENCE_S,
    told: Collection[str] = (),
) -> Sent:
    """Send to every address with this tag at once, but for those told before; says how that went.

    kind: info, success, warning or failure. Returns within patience_s, whatever the receivers do.
    """
    try:
        channels = [c for c in _channels(tag) if _digest(c) not in told]
    except Exception as error:  # a library for a hundred services: nothing of it may end a night
        log.warning("the addresses of notifications cannot be read: %s", type(error).__name__)
        return Sent(f"nobody: the addresses cannot be read ({type(error).__name__})", missing=True)
    if not channels:
        said = f"nobody: no address in {ADDRESSES} or {FILE} has the tag {tag}"
        if not told:
            log.warning(said)
        return Sent(said, frozenset(told))
    outcomes: dict[int, str] = {}

    def deliver(number: int, channel: Any) -> None:
        try:
            good = channel.notify(body=text, title=title, notify_type=kind, body_format="text")
            outcomes[number] = TOLD if good else "refused it or could not be reached"
        except Exception as error:
            outcomes[number] = f"failed ({type(error).__name__})"

    threads = [
        threading.Thread(target=deliver, args=one, name="engram-notify", daemon=True)
        for one in enumerate(channels)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    words = [
        f"{_kind(channel)} {outcomes.get(number, f'did not answer within {patience_s:.0f} s')}"
        for number, channel in enumerate(channels)
    ]
    for number, word in enumerate(words):
        (log.info if outcomes.get(number) == TOLD else log.warning)("notification: %s", word)
    got = {_digest(c) for number, c in enumerate(channels) if outcomes.get(number) == TOLD}
    return Sent("; ".join(words), frozenset(told) | got, len(got) < len(channels))


def _digest(channel: Any) -> str:
    """What a channel is known by from one attempt to the next; says nothing of its address."""
    return hashlib.sha256(channel.url(privacy=False).encode()).hexdigest()[:16]


def _channels(tag: str) -> list[Any]:
    """The senders behind a tag; lines that are no address are left out, and logged by number."""
    logging.getLogger("apprise").disabled = True  # what it says of an address may show it
    import apprise

    found = apprise.Apprise()
    for name, lines in _lines():
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith(("#", ";")):
                continue
            tags, separator, address = text.partition("=")
            if not separator or "://" in tags:
                tags, address = "", text
            if not found.add(address.strip(), tag=tags.replace(",", " ").split()):
                log.warning("%s, address %d: is none that apprise knows", name, number)
    return list(found.find(tag=apprise.common.MATCH_ALL_TAG if tag == EVERYBODY else tag))


def _lines() -> list[tuple[str, list[str]]]:
    """Where addresses may stand: one a word in the environment, one a line in the file."""
    found = [(ADDRESSES, os.environ.get(ADDRESSES, "").split())]
    name = os.environ.get(FILE)
    if name:
        path = Path(name).expanduser()
        if path.stat().st_mode & 0o077:
            log.warning("%s can be read by others; it holds secrets: chmod 600", FILE)
        found.append((FILE, path.read_text().splitlines()))
    return found


def _kind(channel: Any) -> str:
    protocols = channel.secure_protocol if channel.secure else channel.protocol
    return str(protocols if isinstance(protocols, str) else next(iter(protocols or ["channel"])))
