"""A night against the last few: what moved for the worse beyond a margin that noise cannot explain, and why.

Trials are matched and paired by `compare`; what is added here is the baseline of several nights, the noise
between nights, and one false-alarm rate for all comparisons of a night together. The rule, in words:

- A *series* is one measure of one configuration. Its baseline is the mean of the nights since it last
  moved, replica by replica, out of the last `nightly.baseline` ones.
- Tonight minus the baseline has an interval: paired by replica where draws and data are the same, Welch
  where not, made wider by what nights differ in anyway, and by the test sample where the data are new.
- It is a *regression* where the change for the worse exceeds `nightly.margin`, the interval at level
  1 - FALSE_ALARMS / (number of series) excludes 0 (Bonferroni), and the margin is exceeded against the mean
  of all those nights as well: a night is never judged by one other alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from measures import intervals, nights
from measures.intervals import Interval
from sweeps import compare
from sweeps.compare import Comparison, Pair
from sweeps.definition.configuration import label
from sweeps.leaderboard import Record
from sweeps.reading.evidence import Evidence
from sweeps.tables import title_of

FALSE_ALARMS = (
    0.01  # of a night: regressions reported although nothing happened, at most this often
)
FEWEST_NIGHTS = 2
REGRESSION, BETTER, NOISY, STEADY, FEW, NOTHING = (
    "regression",
    "better",
    "too noisy to tell",
    "no change",
    "too few nights",
    "nothing to compare",
)
CAUSES = ("data", "code", "versions", "study", "machine")

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


@dataclass(frozen=True)
class Judgement:
    """What a night's comparison found. against: the nights it was compared with, the newest first;
    changed: {"data" | "code" | ...: sentences} since the newest; lost: trials that completed then and
    not now, in words."""

    verdict: str
    changes: list[Change] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    margin: float = 0.0
    identical: bool = False

    def of(self, kind: str) -> list[Change]:
        """Changes of one kind, the largest first."""
        found = [change for change in self.changes if change.kind == kind]
        return sorted(found, key=lambda change: -abs(change.change))

    @property
    def moved(self) -> list[Key]:
        return [c.key for c in self.changes if c.kind in (REGRESSION, BETTER)]

    @property
    def causes(self) -> list[str]:
        """What can have moved it, the likeliest first; [] where nothing that is recorded changed."""
        return [kind for kind in CAUSES if kind in self.changed]

    def entry(self) -> dict[str, Any]:
        """The judgement as JSON values."""
        return {
            **asdict(self),
            "causes": self.causes,
            "moved": [list(key) for key in self.moved],
            "false_alarms": FALSE_ALARMS,
        }


def key_of(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def judge(tonight: Evidence, earlier: Sequence[Earlier], margin: float) -> Judgement:
    """Tonight against earlier nights, the newest first."""
    comparisons = [compare.compare(night.evidence, tonight) for night in earlier]
    series = _series(tonight, earlier, comparisons)
    level = 1 - FALSE_ALARMS / max(1, len(series))
    changes = [one.judged(level, margin) for one in series]
    lost = _lost(comparisons)
    newest = comparisons[0] if comparisons else None
    return Judgement(
        _verdict(changes, lost, len(earlier)),
        changes,
        [night.evidence.name for night in earlier],
        newest.changed if newest else {},
        lost,
        margin,
        bool(newest and newest.pairs)
        and all(map(compare.identical, newest.pairs if newest else ())),
    )


def _verdict(changes: list[Change], lost: list[str], nights: int) -> str:
    kinds = {change.kind for change in changes}
    if nights < FEWEST_NIGHTS:
        return FEW
    if not kinds and not lost:
        return NOTHING
    if lost or REGRESSION in kinds:
        return REGRESSION
    return next((kind for kind in (NOISY, BETTER, FEW) if kind in kinds), STEADY)


def _lost(comparisons: list[Comparison]) -> list[str]:
    """Trials that completed in every one of several earlier nights, and did not tonight."""
    if len(comparisons) < FEWEST_NIGHTS:
        return []
    before = [{p.trials[1]: p.statuses[0] for p in c.pairs} for c in comparisons]
    return [
        f"{label(pair.params)} {pair.statuses[1]}, and completed in the {len(comparisons)} nights before"
        for pair in comparisons[0].pairs
        if pair.statuses[1] == "diverged"
        and all(night.get(pair.trials[1]) == "completed" for night in before)
    ]


# -- one series -------------------------------------------------------------------------------------


@dataclass
class _Series:
    """A measure of a configuration: tonight's values [R], those of earlier nights [B, R], the newest first.

    eras: [B], 0 for the nights since it last moved. sampling: variance of the difference between two test
    samples; 0 where the data are the same."""

    pair: Pair
    measure: str
    tonight: np.ndarray
    nights: np.ndarray
    eras: list[int]
    paired: bool
    sampling: float

    def judged(self, level: float, margin: float) -> Change:
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
        variance, freedom = nights.between(self.nights.mean(axis=1).tolist(), self.eras)
        variance *= 1 + 1 / len(current)
        if self.sampling > variance:
            variance, freedom = self.sampling, 0
        wide = nights.widened(found, variance, freedom)
        overall = float(self.tonight.mean() - self.nights.mean())
        kind = self._kind(wide, overall, margin)
        needs = None
        if kind == NOISY and abs(wide.mean) > 2 * math.sqrt(variance):
            needs = intervals.replicas_needed(self.tonight - baseline, level)
        return Change(
            self.pair.params,
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

    def _kind(self, change: Interval, overall: float, margin: float) -> str:
        if len(self.nights) < FEWEST_NIGHTS:
            return FEW
        if abs(change.mean) <= margin or change.mean * overall <= 0 or abs(overall) <= margin:
            return STEADY
        if not change.excludes(0):
            return NOISY if change.mean > 0 else STEADY
        return REGRESSION if change.mean > 0 else BETTER


def _record(measure: str, values: np.ndarray) -> Record:
    return {"replica_values": {measure: values.tolist()}}


def _series(
    tonight: Evidence, earlier: Sequence[Earlier], comparisons: list[Comparison]
) -> list[_Series]:
    found = []
    for record in tonight.records:
        pairs = [
            (night, next((p for p in c.pairs if p.trials[1] == record["trial"]), None))
            for night, c in zip(earlier, comparisons, strict=True)
        ]
        matched = [(night, pair) for night, pair in pairs if pair is not None]
        measures = dict.fromkeys(m.measure for _, pair in matched for m in pair.moved)
        for measure in measures:
            one = _one(tonight, record, measure, matched)
            if one is not None:
                found.append(one)
    return found


def _one(
    tonight: Evidence, record: Record, measure: str, matched: list[tuple[Earlier, Pair]]
) -> _Series | None:
    values = record["replica_values"].get(measure)
    key = (key_of(record["params"]), measure)
    rows: list[list[float]] = []
    eras: list[int] = []
    current: list[tuple[Earlier, Pair]] = []
    era = 0
    for night, pair in matched:
        before = pair.first["replica_values"].get(measure)
        # A night that lost replicas says nothing replica by replica.
        if values and before and len(before) == len(values):
            rows.append(before)
            eras.append(era)
            if era == 0:
                current.append((night, pair))
        era += key in night.moved
    if not current:
        return None
    paired = all(pair.paired for _, pair in current)
    newest = current[0]
    sampling = (
        0.0
        if _same_data(newest[0].evidence, tonight)
        else sum(
            _sampling(r, measure, e) ** 2
            for r, e in ((record, tonight), (newest[1].first, newest[0].evidence))
        )
    )
    return _Series(
        newest[1],
        measure,
        np.asarray(values, float),
        np.asarray(rows, float),
        eras,
        paired,
        sampling,
    )


def _same_data(first: Evidence, second: Evidence) -> bool:
    def digests(evidence: Evidence) -> dict[str, Any]:
        return {k: v for k, v in evidence.provenance.items() if k.startswith(compare.DATA)}

    return digests(first) == digests(second)


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
