"""One measure of one configuration over nights: its baseline, tonight's change with an interval, and what that is called.

Trials are matched and paired by `compare`; what is added here is the baseline of several nights and the
noise between nights. Knows nothing of verdicts over a whole night.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import between_nights, intervals
from engram.measures.intervals import Interval
from engram.sweeps.results import compare
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import title_of
from engram.sweeps.study.configuration import label

FEWEST_NIGHTS = 2
REGRESSION, BETTER, NOISY, STEADY, FEW, NOTHING = (
    "regression",
    "better",
    "too noisy to tell",
    "no change",
    "too few nights",
    "nothing to compare",
)

Key = tuple[str, str]  # a series: the configuration's swept values as JSON, and the measure


@dataclass(frozen=True)
class Earlier:
    """A night to compare with, and the series that moved in it."""

    evidence: Evidence
    moved: frozenset[Key]


@dataclass(frozen=True)
class Change:
    """One series tonight. before: mean of its baseline of `nights` nights; change: tonight minus before,
    with the ends of its simultaneous interval; needs: more replicas that would decide a noisy one."""

    params: dict[str, Any]
    measure: str
    kind: str
    before: float
    now: float
    change: float
    low: float | None
    high: float | None
    nights: int
    paired: bool
    needs: int | None = None

    @property
    def key(self) -> Key:
        return key_of(self.params), self.measure

    @property
    def text(self) -> str:
        """As in: test error of dropout 0.2: 0.512 → 0.581, +0.069 ± 0.021 against 7 nights."""
        spread = (
            "" if self.low is None or self.high is None else f" ± {(self.high - self.low) / 2:.3f}"
        )
        counted = f"{self.nights} night{'s' if self.nights != 1 else ''}"
        return (
            f"{title_of(self.measure)} of {label(self.params)}: {self.before:.3f} → {self.now:.3f}, "
            f"{self.change:+.3f}{spread} against {counted}"
        )


def key_of(params: dict[str, Any]) -> str:
    """A configuration as part of a series' key: its swept values, in any order."""
    return json.dumps(params, sort_keys=True)


@dataclass(frozen=True)
class Matched:
    """An earlier night beside tonight. records: its own by tonight's trial; paired: whether replica k is
    the same on both sides; sampling: whether the test samples differ."""

    night: Earlier
    records: dict[int, Record]
    measures: list[str]
    paired: bool
    sampling: bool


def matched(night: Earlier, tonight: Evidence) -> Matched:
    """The trials of an earlier night that tonight has too, and what may be paired."""
    evidence = night.evidence
    _, pairs = compare.match(evidence, tonight)
    same = _digests(evidence) == _digests(tonight)
    return Matched(
        night,
        {second["trial"]: first for first, second in pairs},
        compare.measures_of(evidence, tonight),
        same and compare.same_draws(evidence, tonight),
        not same,
    )


def _digests(evidence: Evidence) -> dict[str, Any]:
    return {k: v for k, v in evidence.provenance.items() if k.startswith(compare.DATA)}


@dataclass
class Series:
    """A measure of a configuration: tonight's values [R], those of earlier nights [B, R], the newest first.

    eras: [B], 0 for the nights since it last moved. sampling: variance of the difference between two test
    samples; 0 where the data are the same."""

    params: dict[str, Any]
    measure: str
    tonight: np.ndarray
    nights: np.ndarray
    eras: list[int]
    paired: bool
    sampling: float

    def judged(self, level: float, margin: float) -> Change:
        """Tonight against the baseline; level: of the interval, for this one series."""
        current = [b for b, era in enumerate(self.eras) if era == 0]
        baseline = self.nights[current].mean(axis=0)
        found = compare.difference(
            _record(self.measure, baseline),
            _record(self.measure, self.tonight),
            self.measure,
            self.paired,
            level,
        )
        assert found is not None
        variance, freedom = between_nights.between(self.nights.mean(axis=1).tolist(), self.eras)
        variance *= 1 + 1 / len(current)
        if self.sampling > variance:
            variance, freedom = self.sampling, 0
        wide = between_nights.widened(found, variance, freedom)
        kind = self._kind(wide, len(current), margin)
        needs = None
        if kind == NOISY and abs(wide.mean) > 2 * math.sqrt(variance):
            more = intervals.replicas_needed(self.tonight - baseline, level)
            needs = more.estimate if more else None
        return Change(
            self.params,
            self.measure,
            kind,
            float(baseline.mean()),
            float(self.tonight.mean()),
            wide.mean,
            wide.low if wide.known else None,
            wide.high if wide.known else None,
            len(current),
            self.paired,
            needs,
        )

    def _kind(self, change: Interval, current: int, margin: float) -> str:
        if len(self.nights) < FEWEST_NIGHTS:
            return FEW
        moves = [change.mean]
        if current < FEWEST_NIGHTS:
            moves.append(float(self.tonight.mean() - self.nights[current:].mean()))
        worse, better = min(moves) > margin, max(moves) < -margin
        if not (worse or better):
            return STEADY
        if not change.excludes(0):
            return NOISY if worse else STEADY
        return REGRESSION if worse else BETTER


def _record(measure: str, values: np.ndarray) -> Record:
    return {"replica_values": {measure: values.tolist()}}


def series_of(tonight: Evidence, before: list[Matched]) -> list[Series]:
    """Every measure of every trial of tonight that any earlier night (the newest first) has too."""
    measures = dict.fromkeys(name for m in before for name in m.measures)
    found = (_one(tonight, record, name, before) for record in tonight.records for name in measures)
    return [series for series in found if series is not None]


def _one(tonight: Evidence, record: Record, measure: str, earlier: list[Matched]) -> Series | None:
    values = record["replica_values"].get(measure)
    key = (key_of(record["params"]), measure)
    rows: list[list[float]] = []
    eras: list[int] = []
    current: list[Matched] = []
    era = 0
    for one in earlier:
        before = one.records.get(record["trial"], {}).get("replica_values", {}).get(measure)
        # A night that lost replicas says nothing replica by replica.
        if values and before and len(before) == len(values):
            rows.append(before)
            eras.append(era)
            if era == 0:
                current.append(one)
        era += key in one.night.moved
    if not current:
        return None
    newest = current[0]
    sampling = 0.0
    if newest.sampling:
        first = newest.records[record["trial"]], newest.night.evidence
        sampling = sum(_sampling(r, measure, e) ** 2 for r, e in ((record, tonight), first))
    paired = all(one.paired for one in current)
    return Series(
        record["params"],
        measure,
        np.asarray(values, float),
        np.asarray(rows, float),
        eras,
        paired,
        sampling,
    )


def _sampling(record: Record, measure: str, evidence: Evidence) -> float:
    """Standard error of a measure from its finite test (or validation) sample, as far as it is recorded.

    That of the squared risk stands for all measures of the test set."""
    se = float((record.get("test_sampling_se") or {}).get("squared_risk") or 0.0)
    if not measure.startswith("validation") or record.get("task") != "classification":
        return se
    mean = float(np.mean(record["replica_values"][measure]))
    held = float(evidence.study.data.validation) if evidence.study is not None else 0.0
    pool = record.get("pool_examples") or 0
    size = held if held >= 1 else pool * held / (1 - held)
    return math.sqrt(mean * (1 - mean) / size) if size and 0 < mean < 1 else se
