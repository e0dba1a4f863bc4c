"""A night against the last few: what moved for the worse beyond a margin that noise cannot explain, and why.

One false-alarm rate holds for all comparisons of a night together. The rule, in words:

- A *series* is one measure of one configuration. Its baseline is the mean of the nights since it last
  moved, replica by replica, out of the last `nightly.baseline` ones.
- Tonight minus the baseline has an interval: paired by replica where draws and data are the same, Welch
  where not, its variance moderated among all series of the night, made wider by what nights differ in beyond
  that, and by the test sample where the data are new.
- It is a *regression* where the change for the worse exceeds `nightly.margin` and noise does not explain it: of
  FALSE_ALARMS, 60 % are shared among the series one by one (Bonferroni), 10 % among series that were perhaps
  worse last night too (both nights against the baseline), and 30 % are for all series together.
- Perhaps worse, *suspect*, is a change for the worse at 95 % by itself. Such a night makes no baseline, so that a
  shift is compared with what was before it until it is called or gone; where only one other night is left, it is called.
- A night is never judged by one other alone: where the series moved only last night, the margin must be exceeded
  against the nights before as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engram.sweeps.nightly import noise
from engram.sweeps.nightly.series import (
    BETTER,
    FEW,
    FEWEST_NIGHTS,
    NOISY,
    NOTHING,
    REGRESSION,
    STEADY,
    Change,
    Earlier,
    Key,
    Matched,
    matched,
    series_of,
)
from engram.sweeps.results import compare
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study.configuration import label

# Of a night: regressions reported although nothing happened, at most this often.
FALSE_ALARMS = 0.01
CAUSES = ("data", "code", "versions", "study", "machine")


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
    def suspects(self) -> list[Key]:
        return [c.key for c in self.changes if c.suspect]

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
            "suspects": [list(key) for key in self.suspects],
            "false_alarms": FALSE_ALARMS,
        }


def judge(tonight: Evidence, earlier: Sequence[Earlier], margin: float) -> Judgement:
    """Tonight against earlier nights, the newest first."""
    before = [matched(night, tonight) for night in earlier]
    series = series_of(tonight, before)
    changes = noise.judged(series, FALSE_ALARMS, margin)
    lost = _lost(before, tonight)
    newest = compare.compare(earlier[0].evidence, tonight) if earlier else None
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


def _lost(before: list[Matched], tonight: Evidence) -> list[str]:
    """Trials that completed in every one of several earlier nights, and diverged tonight."""
    if len(before) < FEWEST_NIGHTS:
        return []
    return [
        f"{label(record['params'])} diverged, and completed in the {len(before)} nights before"
        for record in tonight.records
        if record["status"] == "diverged"
        and all(m.records.get(record["trial"], {}).get("status") == "completed" for m in before)
    ]
