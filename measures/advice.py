"""What a study's own trials say to do: sentences from pairs of trials that differ in one setting.

Nothing is advised that the data do not separate, and nothing is known here of what settings usually do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.measures import arrays, catalog, intervals
from engram.measures.arrays import Floats
from engram.measures.intervals import Interval

SIZE = "data.train_size"
# What a trial is given, not what it does: never compared as advice.
CONDITIONS = frozenset({SIZE, "data.label_noise", "data.random_labels"})

# Whose loss would be the price of lowering each measure. All are better low.
PRICES = {
    "test_error": "train_error",
    "generalization_gap": "test_error",
    "variance": "bias2",
    "bias2": "variance",
    "memorization": "test_error",
    "membership_auc": "test_error",
    "epochs_to_convergence": "test_error",
}
# A cost is called none when even the upper end of its interval is below this share of the gain.
FREE_SHARE = 0.25


@dataclass(frozen=True)
class Naming:
    """How sentences call a setting: by itself, as in `dropout 0.2`, and where one value stands for another."""

    setting: Callable[[str, Any], str]
    change: Callable[[str, Any, Any], str]


PLAIN = Naming(
    lambda key, value: f"{key} {_short(value)}",
    lambda key, value, instead: f"{key} {_short(value)} instead of {_short(instead)}",
)


@dataclass(frozen=True)
class Record:
    """One trial: its dotted parameters, and per-replica values [R] of each measure (pseudo-values too)."""

    params: Mapping[str, Any]
    measures: Mapping[str, Any]


@dataclass(frozen=True)
class Advice:
    """`key` = `value` instead of `instead` lowers `measure` by `gain`, all else in `context` being equal."""

    sentence: str
    key: str
    value: Any
    instead: Any
    measure: str
    gain: Interval
    cost: Interval | None
    context: Mapping[str, Any]


def advise(
    records: Sequence[Record],
    level: float = 0.95,
    *,
    prices: Mapping[str, str] = PRICES,
    inits: int = 1,
    most: int | None = None,
    naming: Naming = PLAIN,
) -> list[Advice]:
    """Advice from every pair of trials that differ in exactly one parameter, most certain first.

    records: trials with plain parameters and per-replica arrays; a measure that is absent, has NaN, or has
    other replicas in the two trials is passed over for that pair (equal counts are paired, replica by
    replica). A difference counts when its interval, at a level divided among all the comparisons made
    (Bonferroni), excludes zero; the ± printed is that of one comparison at `level`. The price named is that of
    PRICES: "costs no bias beyond 0.01" when the whole interval is below that margin, a quarter of the gain, "raises bias by" when
    that is separated as well, and otherwise that it is not resolved. CONDITIONS (more data, fewer wrong labels)
    are never compared as advice: they are no settings. naming: what settings are called. Refuses a record
    without parameters."""
    arrays.within("level", level, 0, 1)
    for k, record in enumerate(records):
        if not record.params:
            raise ValueError(f"record {k} has no params; advice compares parameters")
    pairs = list(_pairs(records))
    comparisons = [
        (pair, measure, gain)
        for pair in pairs
        for measure in prices
        if (gain := _gain(pair[1], pair[2], measure, level, inits)) is not None
    ]
    varied = _varied(records)
    strict = 1 - (1 - level) / max(1, len(comparisons))
    found = []
    for (key, first, second), measure, gain in comparisons:
        better, worse = (first, second) if gain.mean < 0 else (second, first)
        certain = _gain(better, worse, measure, strict, inits)
        if certain is None or not certain.excludes(0):
            continue
        found.append(_advice(key, better, worse, measure, prices, level, inits, varied, naming))
    found.sort(key=lambda a: -_certainty(a.gain))
    return found[:most]


def sentences(records: Sequence[Record], level: float = 0.95, **options: Any) -> list[str]:
    """The sentences of `advise`, which see: "at data.train_size 1000, model.dropout 0.2 instead of 0 lowers ..."."""
    return [advice.sentence for advice in advise(records, level, **options)]


def _advice(
    key: str,
    better: Record,
    worse: Record,
    measure: str,
    prices: Mapping[str, str],
    level: float,
    inits: int,
    varied: list[str],
    naming: Naming,
) -> Advice:
    found = _gain(better, worse, measure, level, inits)
    assert found is not None
    gain = Interval(-found.mean, -found.high, -found.low, found.se, found.n, level)
    cost = _gain(better, worse, prices[measure], level, inits)
    context = {k: better.params[k] for k in varied if k != key and k in better.params}
    if SIZE in better.params:
        context = {SIZE: better.params[SIZE], **context}
    value, instead = better.params.get(key), worse.params.get(key)
    place = ", ".join(naming.setting(k, v) for k, v in context.items())
    sentence = (
        (f"at {place}, " if place else "")
        + f"{naming.change(key, value, instead)} lowers {_word(measure)} by {gain}"
        + _price(prices[measure], cost, gain)
    )
    return Advice(sentence, key, value, instead, measure, gain, cost, context)


def _price(measure: str, cost: Interval | None, gain: Interval) -> str:
    """The clause about what the gain costs."""
    word = _word(measure)
    if cost is None or not cost.known:
        return ""
    if cost.excludes(0):
        amount = Interval(abs(cost.mean), 0, 2 * cost.half_width, cost.se, cost.n)
        return f" and {'lowers' if cost.mean < 0 else 'raises'} {word} by {amount}"
    margin = FREE_SHARE * gain.mean
    if cost.high < margin:  # shown not to be higher by the margin, which the sentence states
        return f" and costs no {word.removeprefix('the ')} beyond {margin:.2g}"
    return f"; what it does to {word} is not resolved ({cost})"


def _gain(a: Record, b: Record, measure: str, level: float, inits: int) -> Interval | None:
    """Interval of a - b in one measure; None where the two cannot be paired."""
    first, second = _values(a, measure), _values(b, measure)
    if first is None or second is None or first.shape != second.shape or first.size < 2:
        return None
    if first.size % inits or first.size // inits < 2:
        return None
    return intervals.paired(first, second, level, inits=inits)


def _values(record: Record, measure: str) -> Floats | None:
    if measure not in record.measures or record.measures[measure] is None:
        return None
    values = arrays.plain(record.measures[measure]).astype(np.float64)
    return values if values.ndim == 1 and values.size and np.isfinite(values).all() else None


def _pairs(records: Sequence[Record]) -> list[tuple[str, Record, Record]]:
    """Trials that differ in one key that is a setting.

    Grouping by all keys but one finds them without comparing every trial with every other."""
    keys = sorted({key for record in records for key in record.params} - CONDITIONS)
    found = []
    for key in keys:
        groups: dict[tuple, list[Record]] = {}
        for record in records:
            rest = tuple(sorted((k, repr(v)) for k, v in record.params.items() if k != key))
            groups.setdefault(rest, []).append(record)
        for group in groups.values():
            for first, second in itertools.combinations(group, 2):
                if repr(first.params.get(key)) != repr(second.params.get(key)):
                    found.append((key, first, second))
    return found


def _varied(records: Sequence[Record]) -> list[str]:
    """Keys with more than one value in the study: the context a sentence must state."""
    keys = sorted({key for record in records for key in record.params})
    return [k for k in keys if len({repr(r.params.get(k)) for r in records}) > 1]


def _certainty(gain: Interval) -> float:
    return gain.mean / gain.se if gain.se > 0 else math.inf


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _word(measure: str) -> str:
    found = catalog.find(measure)
    return found.phrase if found else measure
