"""What a tracking server will never take: told from what may change, set aside with the reason, and counted.

A server that is away, busy, or asks who one is, is waited for. One that says that this very message is
wrong, or that it knows no such request (an older version), would say so for ever, and hold up all behind it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from engram.sweeps.state import journal
from engram.sweeps.tracking.outbox import Message

FILE = "outbox.refused.jsonl"
TRIES = 3  # before an answer that a server in trouble might give as well is believed
MAY_CHANGE = {401, 403, 408, 409, 423, 425, 429, 499}
# The server read the message, and says what is wrong with it.
CERTAIN = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
LONGEST_REASON = 500
RUN_ID = re.compile(r"[0-9a-f]{32}")


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error stands for; None where it is not an answer (no connection, a bug)."""
    answered = getattr(getattr(error, "response", None), "status_code", None)
    if answered is not None:
        return int(answered)
    said = getattr(error, "json", None)
    if isinstance(said, dict) and "error_code" not in said and said.get("detail") == "Not Found":
        return 404  # of MLflow 3's web framework, where no endpoint has the name
    code = getattr(error, "get_http_status_code", None)
    return int(code()) if code is not None and getattr(error, "error_code", None) else None


def hopeless(error: BaseException) -> bool:
    """Whether the same message will be refused whenever it is sent."""
    status = status_of(error)
    return (
        status is not None and (400 <= status < 500 or status == 501) and status not in MAY_CHANGE
    )


def forbidden(error: BaseException) -> bool:
    """Whether the server wants to know who one is (401), or does not let one do this (403)."""
    return status_of(error) in (401, 403)


def reason_of(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first[:LONGEST_REASON]


class TryAgain(RuntimeError):
    """A refusal that is not believed yet."""


class Refusals:
    """Messages that were refused for good. folder: of the execution; the file is begun by the first."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self.reason = ""  # of the first
        self._now: set[str] = set()  # those refused to this process
        self._believed: set[tuple[str, str]] = (
            set()
        )  # kinds of messages, each with the answer to it
        self._journal: journal.Journal | None = None
        self._kept: set[str] = set()
        self._tries: Counter[str] = Counter()
        if self.path.exists():
            lines = (content for content, _ in journal.read(self.path))
            self._kept = {_digest(line["message"]) for line in lines if line and "message" in line}

    @property
    def count(self) -> int:
        """Messages that were refused to this process."""
        return len(self._now)

    def judge(self, message: Message, error: Exception, healthy: Callable[[], object]) -> None:
        """Set a message aside if it will never be taken; otherwise raise: it is tried again.

        healthy() raises where the server, or the run that the message is about, has another trouble.
        """
        if not hopeless(error):
            raise error
        digest, reason = _digest(message), reason_of(error)
        alike = str(message["kind"]), RUN_ID.sub("", reason)
        self._tries[digest] += 1
        healthy()
        certain = getattr(error, "error_code", None) in CERTAIN or alike in self._believed
        if self._tries[digest] < TRIES and not certain:
            raise TryAgain(reason) from error
        self._believed.add(alike)
        self._keep(digest, message, reason)

    def holds(self, message: Message) -> bool:
        """Whether a message was set aside, by this process or another."""
        return bool(self._kept) and _digest(message) in self._kept

    def _keep(self, digest: str, message: Message, reason: str) -> None:
        self._now.add(digest)
        self.reason = self.reason or reason
        if digest in self._kept:
            return  # refused and kept before: a message may be sent twice
        self._kept.add(digest)
        self._journal = self._journal or journal.Journal(self.path)
        line = {"refused": time.strftime("%Y-%m-%d %H:%M:%S"), "reason": reason, "message": message}
        self._journal.append([line])

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def _digest(message: Message) -> str:
    """What tells a message from another, whenever it was sent."""
    content = {key: value for key, value in message.items() if key != "time"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
