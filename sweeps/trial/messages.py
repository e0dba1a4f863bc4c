"""What a worker tells the driver of the trial that it trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


# Tune writes every result into a line for its log, whether anybody reads it or not: spelling out the
# arrays of a trial took longer than all the rest of the driver's work on it. Hence no repr here.
@dataclass(repr=False)
class Progress:
    """What one evaluation tells: means over replicas, and their intervals for a trial that is stopped here.

    memory: bytes of a GPU that the trial has held at most; None on a CPU."""

    epoch: int
    step: int
    seconds: float
    metrics: dict[str, float]
    intervals: dict[str, dict[str, float | None]]
    memory: int | None = None


@dataclass(repr=False)
class Saved:
    """A checkpoint of replicas [first, stop) on its way to the driver, which keeps it.

    data: the bytes, or a list of one reference to them; final: they are trained to their end."""

    step: int
    data: Any
    first: int
    stop: int
    final: bool = False


@dataclass(repr=False)
class Finished:
    """What a trial ends in: its record, its arrays as an NPZ file, and its final weights if wanted.

    final: in pieces; empty where they were all told of on the way, None where they are not kept."""

    record: dict[str, Any]
    arrays: bytes
    final: list[Saved] | None
