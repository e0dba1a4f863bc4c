"""One measure of one configuration over nights: its baseline, tonight's change with an interval, and what that is called.

Trials are matched and paired by `compare`; what is added here is the baseline of several nights and the
noise between nights. Knows nothing of verdicts over a whole night.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import between_nights
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
    """A night to compare with, the series that moved in it, and those that were perhaps worse: no baseline is made of
    those until it is known."""

    evidence: Evidence
    moved: frozenset[Key]
    suspects: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class Change:
    """One series tonight. before: mean of its baseline of `nights` nights; change: tonight minus before,
    with the ends of its simultaneous interval; needs: more replicas that would decide a noisy one; suspect: worse
    by itself at 95 %, though not among all comparisons."""

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
    suspect: bool = False

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

    eras: [B], 0 for the nights since it last moved. suspects: [B], nights in which it was perhaps worse. sampling:
    variance of the difference between two test samples; 0 where the data are the same."""

    params: dict[str, Any]
    measure: str
    tonight: np.ndarray
    nights: np.ndarray
    eras: list[int]
    suspects: list[bool]
    paired: bool
    sampling: float

    @property
    def current(self) -> list[int]:
        """The nights that make the baseline; where all since it last moved are suspect, all of them."""
        era = [b for b, number in enumerate(self.eras) if number == 0]
        return [b for b in era if not self.suspects[b]] or era

    @property
    def exhausted(self) -> bool:
        """Whether it was perhaps worse on all nights there are to compare with, but one at most."""
        quiet = [b for b, era in enumerate(self.eras) if era == 0 and not self.suspects[b]]
        return len(quiet) < FEWEST_NIGHTS <= sum(self.suspects)

    @property
    def baseline(self) -> np.ndarray:
        return self.nights[self.current].mean(axis=0)

    @property
    def recent(self) -> np.ndarray | None:
        """The mean of tonight and the suspect nights just before it [R]; None where last night was not suspect."""
        count = next((b for b, s in enumerate(self.suspects) if not s), len(self.suspects))
        if not count or self.exhausted:
            return None
        return np.mean([self.tonight, *self.nights[:count]], axis=0)

    def change(self, values: np.ndarray) -> Interval:
        """These values against the baseline, by replicas alone."""
        found = compare.difference(
            _record(self.measure, self.baseline),
            _record(self.measure, values),
            self.measure,
            self.paired,
            0.95,
        )
        assert found is not None
        return found

    def between(self) -> tuple[float, int]:
        """Variance of night means about their eras' means, replica noise and all, and its degrees of freedom."""
        known = [b for b, suspect in enumerate(self.suspects) if not suspect]
        means = self.nights.mean(axis=1)
        return between_nights.between([means[b] for b in known], [self.eras[b] for b in known])


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
    suspects: list[bool] = []
    current: list[Matched] = []
    era = 0
    for one in earlier:
        before = one.records.get(record["trial"], {}).get("replica_values", {}).get(measure)
        # A night that lost replicas says nothing replica by replica.
        if values and before and len(before) == len(values):
            rows.append(before)
            eras.append(era)
            suspects.append(key in one.night.suspects)
            if era == 0:
                current.append(one)
        era += key in one.night.moved
    if not current:
        return None
    newest = current[0]
    sampling = 0.0
    if newest.sampling:
        se = _sampling(newest.records[record["trial"]], measure, newest.night.evidence)
        # Nights with the same data share their sample; the baseline is a mean over those that do not.
        alike = Counter(json.dumps(_digests(one.night.evidence), sort_keys=True) for one in current)
        shares = sum((count / len(current)) ** 2 for count in alike.values())
        sampling = _sampling(record, measure, tonight) ** 2 + se**2 * shares
    paired = all(one.paired for one in current)
    return Series(
        record["params"],
        measure,
        np.asarray(values, float),
        np.asarray(rows, float),
        eras,
        suspects,
        paired,
        sampling,
    )


def _sampling(record: Record, measure: str, evidence: Evidence) -> float:
    """Standard error of a measure from its finite test (or validation) sample, as far as it is recorded.

    That of the squared risk stands for all measures of the test set."""
    se = float((record.get("test_sampling_se") or {}).get("squared_risk") or 0.0)
    if record.get("test_groups"):  # rows of a group are alike: its number of rows says nothing
        return se
    if not measure.startswith("validation") or record.get("task") not in (
        "classification",
        "ordinal",
    ):
        return se
    mean = float(np.mean(record["replica_values"][measure]))
    held = float(evidence.study.data.validation) if evidence.study is not None else 0.0
    pool = record.get("pool_examples") or 0
    size = held if held >= 1 else pool * held / (1 - held)
    return math.sqrt(mean * (1 - mean) / size) if size and 0 < mean < 1 else se
