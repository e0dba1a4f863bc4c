"""What the messages about one run come to, in their order. Knows no store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engram.sweeps.tracking.batches import Point
from engram.sweeps.tracking.outbox import Message

BEGINNINGS = {"start", "metrics", "artifact"}  # kinds of messages that a run is made for


@dataclass
class Contents:
    """start: the first message that says how the run is called; last: what it was last told, to start or to end."""

    kinds: set[str] = field(default_factory=set)
    metrics: list[Point] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)
    start: Message | None = None
    last: Message | None = None

    @property
    def begins(self) -> bool:
        """Whether a run is made for it."""
        return bool(self.kinds & BEGINNINGS)

    @property
    def ends(self) -> bool:
        return self.last is not None and self.last["kind"] == "end"


def contents(messages: Sequence[Message]) -> Contents:
    found = Contents({m["kind"] for m in messages})
    for message in messages:
        kind = message["kind"]
        if kind == "metrics":
            points = message["metrics"].items()
            found.metrics += [(k, v, message["time"], message["step"]) for k, v in points]
        elif kind == "start":
            found.start = found.start or message
            found.params.update(message["params"])
            found.tags.update(message["tags"])
        elif kind == "tags":
            found.tags.update(message["tags"])
        elif kind == "inputs":
            found.datasets += message["datasets"]
        if kind in ("start", "end"):
            found.last = message
    return found
