"""What is said of a trial beside the others of its dataset size: underfit, overfit, good, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engram.measures import intervals, verdict
from engram.sweeps.results.record import Record, difference, interval_of


class Verdicts:
    """Verdicts of completed trials, each against the best of its dataset size.

    Worked out when asked for: of ten thousand trials, a table shows ten.
    """

    def __init__(self, records: Sequence[Record]):
        self._groups: dict[int, list[Record]] = {}
        for record in filter(_judged, records):
            self._groups.setdefault(record["train_examples"], []).append(record)
        self._best = {
            size: min(group, key=lambda r: r["measures"]["test_error"]["mean"])
            for size, group in self._groups.items()
        }
        self._known: dict[int, tuple[str, str]] = {}

    def of(self, record: Record) -> tuple[str | None, str]:
        """(verdict, reason) of one of the records; (None, "") where it has none."""
        if not _judged(record):
            return None, ""
        number, size = record["trial"], record["train_examples"]
        if number not in self._known:
            alone = len(self._groups[size]) == 1
            self._known[number] = _verdict(record, self._best[size], alone)
        return self._known[number]


def _judged(record: Record) -> bool:
    return record["status"] == "completed" and bool(record["measures"].get("test_error"))


def _verdict(record: Record, best: Record, alone: bool) -> tuple[str, str]:
    itself = record is best
    behind = None if itself else difference(record, best, "test_error")
    found = verdict.verdict(
        interval_of(record, "train_error"),
        interval_of(record, "generalization_gap"),
        chance=record["chance_error"],
        difference=behind,
        best_train_error=None if itself else interval_of(best, "train_error"),
        best_gap=None if itself else interval_of(best, "generalization_gap"),
        bias2=interval_of(record, "bias2") if record["measures"].get("bias2") else None,
        variance=interval_of(record, "variance") if record["measures"].get("variance") else None,
        more_replicas=None if itself else _needed(record, best),
    )
    reason = found.reason
    if alone:
        reason += " (the only configuration at this dataset size)"
    return found.verdict, reason


def _needed(record: Record, best: Record) -> int | None:
    mine, theirs = (r["replica_values"].get("test_error") for r in (record, best))
    if not mine or not theirs or len(mine) != len(theirs):
        return None
    return intervals.replicas_needed(np.subtract(mine, theirs))


def learns(record: Record) -> bool:
    return bool(record["measures"].get("train_error")) and verdict.learns(
        interval_of(record, "train_error"), record["chance_error"]
    )
