"""What is said of a trial beside the others of its conditions: underfit, overfit, good, and why.

Judged where selection looked: on validation error, or, where nothing was held out, on test error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from engram.measures import intervals, scaling, verdict
from engram.measures.intervals import Interval
from engram.measures.verdict import Best, Labels, MoreData
from engram.sweeps.results.record import Record, difference, interval_of, needed, tie_groups

SIZE = "data.train_size"
SETTINGS_OF_DATA = ("data.augmentation",)  # a choice; all else under `data` is a condition


class Verdicts:
    """Verdicts of completed trials, each against the best of its conditions (dataset size, label noise).

    The comparison with the best is corrected for the number compared, as on a board. Worked out when asked
    for: of ten thousand trials, a table shows ten.
    """

    def __init__(self, records: Sequence[Record]):
        judged = [r for r in records if _judged(r)]
        held_out = all(
            r["measures"].get("validation_error") and _values(r, "validation_error") for r in judged
        )
        self.by = "validation_error" if judged and held_out else "test_error"
        self._groups: dict[str, list[Record]] = {}
        for record in sorted(judged, key=lambda r: (r["measures"][self.by]["mean"], r["trial"])):
            self._groups.setdefault(_conditions(record), []).append(record)
        self._tied: dict[str, set[int]] = {}
        self._sizes: dict[str, list[Record]] | None = None
        self._laws: dict[str, scaling.PowerLaw | None] = {}
        self._known: dict[int, tuple[str, str]] = {}

    def of(self, record: Record) -> tuple[str | None, str]:
        """(verdict, reason) of one of the records; (None, "") where it has none."""
        if not _judged(record):
            return None, ""
        number = record["trial"]
        if number not in self._known:
            self._known[number] = _verdict(record, self)
        return self._known[number]

    def group(self, record: Record) -> list[Record]:
        """All judged records under the conditions of this one, the best first."""
        return self._groups[_conditions(record)]

    def tied(self, record: Record) -> bool:
        """Whether it cannot be told from the best of its conditions."""
        key = _conditions(record)
        if key not in self._tied:
            group = self._groups[key]
            ties = zip(group, tie_groups(group, self.by), strict=True)
            self._tied[key] = {r["trial"] for r, number in ties if number == 1}
        return record["trial"] in self._tied[key]

    def more_data(self, record: Record) -> MoreData | None:
        """Whether this configuration gains by more data, by its larger sizes here, or by a power law; None: unknown."""
        if self._sizes is None:
            self._sizes = {}
            for one in (r for group in self._groups.values() for r in group):
                self._sizes.setdefault(_configuration(one), []).append(one)
        same = sorted(self._sizes[_configuration(record)], key=lambda r: r["train_examples"])
        larger = [r for r in same if r["train_examples"] > record["train_examples"]]
        if larger:
            return _by_size(record, larger, self.by)
        return self._by_law(record, same)

    def _by_law(self, record: Record, same: list[Record]) -> MoreData | None:
        sizes = [r["train_examples"] for r in same]
        most = MoreData(None, f"n = {sizes[-1]:,} is the most that was tried")
        unknown = most if len(set(sizes)) > 1 else None
        if len(set(sizes)) < max(scaling.FEWEST_SIZES, len(sizes)):
            return unknown
        key = _configuration(record)
        if key not in self._laws:
            values = [_values(r, self.by) for r in same]
            whole = all(values) and len({len(v) for v in values}) == 1
            self._laws[key] = scaling.power_law(sizes, values) if whole else None
        law = self._laws[key]
        if law is None or not law.identified:
            return unknown
        ahead = law.predict(2 * sizes[-1])
        if not ahead.known or ahead.high >= float(law(sizes[-1])):
            return unknown
        return MoreData(
            True,
            f"its errors follow n to the power {law.beta_interval}, {ahead} at n = {2 * sizes[-1]:g}",
        )


def _judged(record: Record) -> bool:
    return record["status"] == "completed" and bool(record["measures"].get("test_error"))


def _conditions(record: Record) -> str:
    """What a trial was given: trials are compared where it is the same."""
    params = {
        key: value
        for key, value in record["params"].items()
        if key.startswith("data.") and key not in (*SETTINGS_OF_DATA, SIZE)
    }
    return json.dumps([record["train_examples"], params], sort_keys=True, default=str)


def _configuration(record: Record) -> str:
    """All that a trial was but for its dataset size."""
    params = {key: value for key, value in record["params"].items() if key != SIZE}
    return json.dumps(params, sort_keys=True, default=str)


def _verdict(record: Record, among: Verdicts) -> tuple[str, str]:
    group = among.group(record)
    best = None if record is group[0] else _best(record, group[0], among)
    found = verdict.verdict(
        interval_of(record, "train_error"),
        _gap(record, among.by),
        _labels(record, among.by),
        best=best,
        error=interval_of(record, among.by),
        train_errors=_values(record, "train_error") or None,
        bias2=interval_of(record, "bias2") if record["measures"].get("bias2") else None,
        variance=interval_of(record, "variance") if record["measures"].get("variance") else None,
        data=among.more_data(record) if best is None or best.tied else None,
        needed=None if best is None else needed(record, group[0], among.by, len(group)),
        held_out=among.by.removesuffix("_error"),
    )
    reason = found.reason
    if len(group) == 1:
        reason += " (the only configuration under its conditions)"
    return found.verdict, reason


def _best(record: Record, best: Record, among: Verdicts) -> Best:
    return Best(
        among.tied(record),
        difference(record, best, among.by),
        interval_of(best, "train_error"),
        _gap(best, among.by),
    )


def _gap(record: Record, by: str) -> Interval:
    """Error where selection looked less train error, replica by replica."""
    held_out, train = _values(record, by), _values(record, "train_error")
    if held_out and len(held_out) == len(train):
        return intervals.paired(held_out, train)
    if by == "test_error" and record["measures"].get("generalization_gap"):
        return interval_of(record, "generalization_gap")
    mean = record["measures"][by]["mean"] - record["measures"]["train_error"]["mean"]
    return Interval(mean, math.nan, math.nan, math.nan, 1)


def _labels(record: Record, by: str) -> Labels:
    """What is known of the labels; records of earlier versions know nothing of noise and classes."""
    random = bool(record.get("random_labels"))
    # Random labels can all be fitted: their error is no floor of training.
    noise = 0.0 if random else float(record.get("noise_error") or 0.0)
    held_out = noise if by == "validation_error" else 0.0
    recall = (record.get("class_recall") or {}).get(by.removesuffix("_error")) or []
    known = [r for r in recall if r is not None]
    return Labels(
        record["chance_error"],
        noise,
        held_out,
        random,
        1 - float(np.mean(known)) if known else None,
        len(known),
    )


def _by_size(record: Record, larger: list[Record], by: str) -> MoreData | None:
    """By the next larger size, tested among all larger ones: where the error is lower there, more data helps."""
    step = larger[0]
    values = _values(step, by), _values(record, by)
    if not all(values) or min(map(len, values)) < 2:
        return None
    level = 1 - 0.05 / len(larger)
    how = intervals.paired if len(values[0]) == len(values[1]) else intervals.welch
    change = how(*values, level)
    place = f"at n = {step['train_examples']:,} the same configuration has an error {change}"
    if change.high < 0:
        return MoreData(True, f"{place} against here")
    return MoreData(False, f"{place} against here, not clearly lower")


def _values(record: Record, name: str) -> list[float]:
    return record["replica_values"].get(name) or []


def learns(record: Record) -> bool:
    """Whether a trial learned in training, so that its gap may be ranked."""
    return bool(record["measures"].get("train_error")) and verdict.learns(
        interval_of(record, "train_error"),
        record["chance_error"],
        noise=_labels(record, "test_error").noise,
    )
