"""What a study asks, and what its records say of it: a measure, moved or not by each swept key.

Values of a key are compared where all else is the same, replica by replica, at one error rate for the whole
answer. Knows records, not sentences: `answer` writes those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engram.measures import comparison, equivalence, intervals
from engram.measures.intervals import Interval, Needed
from engram.sweeps.results import columns
from engram.sweeps.results.evidence import Evidence, Share, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.results.slices import (
    EXACT,
    Column,
    Slices,
    known,
    mean_of,
    ordered,
    slices_of,
    values_of,
)
from engram.sweeps.study.sections import ALIASES, BEFORE, CASES, AsksConfig, Range, several

Word = Literal["yes", "no", "depends", "cannot be told yet", "which"]
Way = Literal["lower", "higher", "same", "unknown"]
ALPHA = 0.05  # of the whole answer
MARGIN_SHARE = 0.1  # of the value a comparison starts from, for measures that are no error
SQUARED_OR_ERROR = ("error", "squared error")
FEWEST_FOR_SHARES = 10


@dataclass(frozen=True)
class Step:
    """One value of a key against the one where it starts: change = value minus start.

    place: what else held, where it is one slice; needed: more replicas that would show a change; quiet: that would
    show that there is none."""

    start: Any
    value: Any
    change: Interval
    way: Way
    margin: float
    before: float
    after: float
    place: dict[str, Any] = field(default_factory=dict)
    needed: Needed | None = None
    quiet: int | None = None


@dataclass(frozen=True)
class Best:
    """The best value of a key: which cannot be told from it, and the mean of each, the best first."""

    values: list[Any]
    tied: int
    means: list[Interval]
    place: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effect:
    """One answer: to `does the key move the measure as hoped?`. axis: None where trials are held against a number.

    opposed: single slices or values that say otherwise; left_out: values that could not be compared, and why."""

    measure: str
    axis: str | None
    hoped: str
    word: Word
    steps: list[Step] = field(default_factory=list)
    opposed: list[Step] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)
    share: Share | None = None  # of the differences, explained by the key
    against: Any = None
    left_out: list[Any] = field(default_factory=list)


def effects(evidence: Evidence) -> list[Effect]:
    """The answers to what the study asks, in its order; empty where nothing can be compared."""
    asks = evidence.study.asks if evidence.study else AsksConfig()
    if evidence.board is None or asks.against == BEFORE:
        return []
    against = asks.held_against
    measures = several(asks.measure) or tuple(against) or (evidence.board.by,)
    axes = _axes(evidence, asks)
    count = max(1, len(against) + len(measures) * len(axes))
    found: list[Effect | None] = []
    for measure in measures:
        if measure in against:
            found.append(_held_against(evidence, asks, measure, against[measure], ALPHA / count))
        found += [_effect(evidence, asks, measure, axis, ALPHA / count) for axis in axes]
    return [effect for effect in found if effect is not None]


def _axes(evidence: Evidence, asks: AsksConfig) -> list[str]:
    cases = (CASES,) if evidence.study and evidence.study.cases else ()
    there = (*evidence.axes, *cases, *(evidence.study.sweep if evidence.study else ()))
    named = [key for name in several(asks.of) if (key := ALIASES.get(name, name)) in there]
    if named or asks.against is not None:
        return named
    cased = set(evidence.study.cases[0]) if evidence.study and evidence.study.cases else set()
    tuned = {ALIASES.get(key, key) for key in several(asks.tuned)}
    free = [axis for axis in evidence.axes if axis not in cased | tuned]
    free = [axis for axis in free if axis != "data.fold"] or free  # the others are asked over folds
    return ([CASES] if cased else []) + free


def hoped_of(evidence: Evidence, asks: AsksConfig, measure: str, axis: str) -> str:
    """What yes means: as the study says, else the better way for numbers, and any for names."""
    if asks.expects and asks.against is None:
        return asks.expects
    better = columns.column(measure, evidence.records).better
    values = [] if axis == CASES else evidence.values(axis)
    ordered = all(is_number(v) or v is None or isinstance(v, bool) for v in values)
    if axis == CASES or not ordered or not better:
        return "differ"
    return "lower" if better == "min" else "higher"


# -- one key ----------------------------------------------------------------------------------------


def _effect(
    evidence: Evidence, asks: AsksConfig, measure: str, axis: str, alpha: float
) -> Effect | None:
    if evidence.study and isinstance(evidence.study.sweep.get(axis), Range):
        return _drawn(evidence, measure, axis)
    hoped = hoped_of(evidence, asks, measure, axis)
    slices = slices_of(evidence, asks, measure, axis)
    if not slices.found and len(evidence.completed) >= FEWEST_FOR_SHARES and axis != CASES:
        return _drawn(evidence, measure, axis)
    if not slices.found:
        return Effect(measure, axis, hoped, "cannot be told yet", left_out=slices.left_out)
    if hoped in ("differ", "best"):
        return _among(evidence, measure, axis, hoped, slices, alpha)
    return _from_start(evidence, asks, measure, axis, hoped, slices, alpha)


def _from_start(
    evidence: Evidence,
    asks: AsksConfig,
    measure: str,
    axis: str,
    hoped: str,
    slices: Slices,
    alpha: float,
) -> Effect | None:
    """Each value against the first one, over all slices that have both; then slice by slice."""
    values = ordered(evidence, axis, slices)
    start = values[0]
    compared = max(1, len(values) - 1)
    steps, single, left_out = [], [], list(slices.left_out)
    for value in values[1:]:
        both = [
            (place, column[repr(start)][1], column[repr(value)][1])
            for place, column in slices.found
            if repr(start) in column and repr(value) in column
        ]
        if not both:
            left_out.append(value)
            continue
        steps.append(_step(measure, start, value, both, asks.margin, alpha / compared))
        level = alpha / compared / len(both)
        single += [_step(measure, start, value, [one], asks.margin, level, one[0]) for one in both]
    if not steps:
        return Effect(measure, axis, hoped, "cannot be told yet", left_out=left_out)
    opposite = {"lower": "higher", "higher": "lower"}.get(hoped, "")
    ways = {step.way for step in steps}
    with_it = [step for step in single if step.way == hoped]
    against_it = [step for step in single if step.way == opposite]
    word: Word = "cannot be told yet"
    opposed: list[Step] = []
    if hoped == "same":
        word = "yes" if ways == {"same"} else "no" if ways & {"lower", "higher"} else word
    elif hoped in ways and opposite in ways:
        word, opposed = "depends", [step for step in steps if step.way == opposite]
    elif len(slices.found) > 1 and with_it and against_it:
        word, opposed = "depends", _strongest([*with_it, *against_it])
    elif hoped in ways:
        word = "yes"
    elif ways <= {"same", opposite}:
        word = "no"
    return Effect(measure, axis, hoped, word, steps, opposed, left_out=left_out)


def _strongest(steps: list[Step]) -> list[Step]:
    """Of each slice its clearest step, the slices in their order."""
    found: dict[str, Step] = {}
    for step in steps:
        known = found.get(repr(step.place))
        if known is None or abs(step.change.mean) > abs(known.change.mean):
            found[repr(step.place)] = step
    return list(found.values())


def _step(
    measure: str,
    start: Any,
    value: Any,
    pairs: Sequence[tuple[Any, Record, Record]],
    margin: float | None,
    alpha: float,
    place: dict[str, Any] | None = None,
) -> Step:
    before = [known(r, measure) for _, r, _ in pairs]
    after = [known(r, measure) for _, _, r in pairs]
    change = np.mean([np.subtract(b, a) for a, b in zip(before, after, strict=True)], axis=0)
    starts, ends = float(np.mean(before)), float(np.mean(after))
    limit = margin or margin_of(measure, pairs[0][1], starts)
    return _judged(start, value, change, limit, alpha, starts, ends, place or {}, measure in EXACT)


def _judged(
    start: Any,
    value: Any,
    change: np.ndarray,
    margin: float,
    alpha: float,
    before: float,
    after: float,
    place: dict[str, Any],
    exact: bool,
) -> Step:
    """A step with its way: by its interval, by equivalence within the margin, or not known."""
    level = 1 - alpha
    interval = intervals.t_interval(change, level)
    way: Way = "unknown"
    needed, quiet = None, None
    if exact:
        way = "same" if interval.mean == 0 else "lower" if interval.mean < 0 else "higher"
    elif interval.excludes(0):
        way = "lower" if interval.mean < 0 else "higher"
    elif equivalence.equivalent(change, margin, alpha / 2).shown:
        way = "same"
    elif interval.known:
        needed = intervals.replicas_needed(change, level)
        room = margin - abs(interval.mean)
        if needed is None and room > 0:
            quiet = math.ceil(interval.n * (interval.half_width / room) ** 2) - interval.n
    return Step(start, value, interval, way, margin, before, after, place, needed, quiet)


def margin_of(measure: str, record: Record, value: float) -> float:
    """What counts as no change: a share of chance for errors, of the value itself for anything else."""
    if columns.column(measure, [record]).unit in SQUARED_OR_ERROR and record.get("chance_error"):
        return equivalence.MARGIN_SHARE * float(record["chance_error"])
    return max(MARGIN_SHARE * abs(value), 1e-9)


# -- which value ------------------------------------------------------------------------------------


def _among(
    evidence: Evidence,
    measure: str,
    axis: str,
    hoped: str,
    slices: Slices,
    alpha: float,
) -> Effect:
    """Which values can be told from the best, over the slices that have all values, or slice by slice."""
    sign = -1 if columns.higher_is_better(measure, evidence.records) else 1
    everywhere = set.intersection(*(set(column) for _, column in slices.found))
    single = [
        _best(measure, [column], set(column), sign, alpha / len(slices.found), place)
        for place, column in slices.found
    ]
    found = (
        [_best(measure, [c for _, c in slices.found], everywhere, sign, alpha, {})]
        if len(everywhere) > 1
        else single
    )
    common = set.intersection(*({repr(v) for v in b.values[: b.tied]} for b in single))
    if len(single) > 1 and not common:
        return Effect(measure, axis, hoped, "depends", best=single, left_out=slices.left_out)
    told = [best for best in found if best.tied < len(best.values)]
    word: Word = "cannot be told yet"
    if hoped == "best":
        word = "which" if all(best.tied == 1 for best in found) else word
    elif told:
        word = "yes"
    elif all(_alike(measure, best, slices) for best in found):
        word = "no"
    return Effect(measure, axis, hoped, word, best=found, left_out=slices.left_out)


def _best(
    measure: str,
    slices: list[Column],
    keys: set[str],
    sign: float,
    alpha: float,
    place: dict[str, Any],
) -> Best:
    names = [key for key in slices[0] if key in keys]
    tables = [np.mean([known(c[key][1], measure) for c in slices], axis=0) for key in names]
    order = sorted(range(len(names)), key=lambda k: sign * float(tables[k].mean()))
    table = np.array([sign * tables[k] for k in order])
    groups = comparison.groups(table, alpha) if table.shape[1] > 1 else np.ones(len(table))
    means = [intervals.t_interval(tables[k]) for k in order]
    tied = [k for k, group in zip(order, groups, strict=True) if group == 1]
    rest = [k for k, group in zip(order, groups, strict=True) if group != 1]
    by_key = dict(zip(order, means, strict=True))
    listed = [*tied, *rest]
    return Best(
        [slices[0][names[k]][0] for k in listed], len(tied), [by_key[k] for k in listed], place
    )


def _alike(measure: str, best: Best, slices: Slices) -> bool:
    """Whether the spread between values is within the margin for sure."""
    record = next(iter(slices.found[0][1].values()))[1]
    margin = margin_of(measure, record, best.means[0].mean)
    ends = [end for mean in best.means for end in (mean.low, mean.high)]
    return all(map(math.isfinite, ends)) and max(ends) - min(ends) < margin


def _drawn(evidence: Evidence, measure: str, axis: str) -> Effect:
    """Of a key that is drawn from a distribution: how much of the differences it explains, and whether that is shown."""
    there = [r for r in evidence.completed if math.isfinite(mean_of(r, measure))]
    if len(there) < FEWEST_FOR_SHARES:
        return Effect(measure, axis, "explains", "cannot be told yet")
    found = evidence.shares(measure, there)[axis]
    word: Word = "yes" if found.told == "told" else "cannot be told yet"
    return Effect(measure, axis, "explains", word, share=found)


# -- against a number -------------------------------------------------------------------------------


def _held_against(
    evidence: Evidence, asks: AsksConfig, measure: str, against: Any, alpha: float
) -> Effect | None:
    """Each trial held against a number, another measure, or a number of its own."""
    there = [r for r in evidence.completed if values_of(r, measure) is not None]
    pairs = list(_targets(evidence, against, there, measure))
    better = columns.column(measure, evidence.records).better
    hoped = asks.expects or ("higher" if better == "max" else "lower")
    steps = []
    for record, target in pairs:
        change = np.subtract(known(record, measure), target)
        level, before = alpha / len(pairs), float(np.mean(target))
        limit = asks.margin or margin_of(measure, record, before)
        after, place = float(np.mean(known(record, measure))), record["params"]
        steps.append(
            _judged(before, None, change, limit, level, before, after, place, measure in EXACT)
        )
    if not steps:
        return Effect(measure, None, hoped, "cannot be told yet", against=against)
    hits = [step.way == hoped for step in steps]
    word: Word = "cannot be told yet"
    if all(hits):
        word = "yes"
    elif any(hits):
        word = "depends" if any(s.way not in (hoped, "unknown") for s in steps) else word
    elif all(step.way != "unknown" for step in steps):
        word = "no"
    return Effect(measure, None, hoped, word, steps, against=against)


def _targets(
    evidence: Evidence, against: Any, there: Sequence[Record], measure: str
) -> Iterator[tuple[Record, Any]]:
    if isinstance(against, str):
        for record in there:
            other = values_of(record, against)
            if other is not None and len(other) == len(known(record, measure)):
                yield record, np.asarray(other)
        return
    listed: dict[str, float] = {}
    moved = any(str(o).startswith("sweep") for o in evidence.info.get("overrides") or ())
    if isinstance(against, list | tuple) and evidence.study and not moved:
        grid = evidence.study.grid()
        listed = {repr(sorted(p.items())): t for p, t in zip(grid, against, strict=False)}
    for record in there:
        key = repr(sorted(record["params"].items()))
        target = listed.get(key) if isinstance(against, list | tuple) else against
        if target is not None:
            yield record, target
