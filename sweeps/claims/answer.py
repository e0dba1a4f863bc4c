"""Records read for an answer: trials picked by parameter, measures as intervals, differences in pairs.

Every comparison is paired by replica and counts only where its 95 % interval excludes zero; that there is none counts only
where a test with a margin shows it. Knows the
records' layout; must not know files, stores or how anything is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engram.measures import equivalence, intervals, verdict
from engram.measures.equivalence import Equivalence
from engram.measures.intervals import Interval
from engram.sweeps.results.record import difference

Record = dict[str, Any]
Word = Literal["supported", "not supported", "depends"]

DROPOUT, WEIGHT_DECAY, L1 = "model.dropout", "training.weight_decay", "training.l1"
SIZE, WIDTH, LR = "data.train_size", "model.width", "training.lr"
NOISE, RANDOM = "data.label_noise", "data.random_labels"


@dataclass(frozen=True)
class Effect:
    """The one number of a dataset by which a claim is pooled over several: what it is, and which way was claimed."""

    words: str
    found: Interval
    claimed: Literal["lower", "higher"]

    def borne_out(self, interval: Interval) -> bool:
        """Whether an interval lies clearly on the claimed side of zero."""
        return falls(interval) if self.claimed == "lower" else rises(interval)


@dataclass(frozen=True)
class Answer:
    """The verdict on a claim on one dataset, the sentence with its numbers, what it depends on, and what a table shows.

    effect: what is pooled over datasets; arms: the trials that are compared, where not all are."""

    verdict: Word
    sentence: str
    on: str = ""
    columns: tuple[str, ...] = ("test_error", "generalization_gap")
    effect: Effect | None = None
    arms: tuple[Record, ...] = ()

    @property
    def words(self) -> str:
        """`depends on the rate`, or the verdict alone."""
        return f"{self.verdict} on {self.on}" if self.on else self.verdict


class Missing(ValueError):
    """The records lack a trial or a measure that the answer needs."""


def usable(records: Sequence[Record]) -> list[Record]:
    """Trials whose replicas all came to the end."""
    return [record for record in records if record["status"] == "completed"]


def pick(records: Sequence[Record], **wanted: Any) -> Record:
    """The first completed trial with these parameters (dots written as __)."""
    keys = {key.replace("__", "."): value for key, value in wanted.items()}
    for record in usable(records):
        if all(record["params"].get(key) == value for key, value in keys.items()):
            return record
    raise Missing(f"no completed trial with {keys}")


def by(records: Sequence[Record], key: str) -> dict[Any, Record]:
    """Completed trials by one parameter, in its order; null first."""
    found = {r["params"][key]: r for r in usable(records) if key in r["params"]}
    numeric = all(isinstance(value, int | float) or value is None for value in found)
    if not numeric:
        return found
    return dict(sorted(found.items(), key=lambda item: (item[0] is not None, item[0] or 0)))


def tuned(records: Sequence[Record], key: str) -> dict[Any, Record]:
    """Completed trials by one parameter, each at the other settings of its lowest validation error.

    Where nothing was held out there was nothing to choose by: one trial of each value, or Missing."""
    best: dict[Any, Record] = {}
    for record in usable(records):
        value = record["params"].get(key)
        if value not in best or selected_error(record) < selected_error(best[value]):
            best[value] = record
    return {value: best[value] for value in by(list(best.values()), key)}


def best(records: Sequence[Record]) -> Record:
    """The trial of the lowest validation error."""
    return min(records, key=selected_error)


def selected_error(record: Record) -> float:
    """The mean validation error; Missing where nothing was held out."""
    return measure(record, "validation_error").mean


def of_values(record: Record, name: str, minus: float | str = 0.0) -> Interval:
    """A measure minus a number or another measure, replica by replica, as an interval with its standard error."""
    values = record["replica_values"].get(name)
    other = record["replica_values"].get(minus) if isinstance(minus, str) else minus
    if not values or other is None or np.size(other) not in (1, len(values)):
        raise Missing(f"{name} of trial {record.get('trial')}, replica by replica")
    return intervals.t_interval(np.subtract(values, other), omit_nan=True)


def measure(record: Record, name: str) -> Interval:
    """A measure with its interval; Missing where it is undefined."""
    found = record["measures"].get(name)
    if found is None:
        raise Missing(f"trial {record.get('trial')} has no {name}")
    low, high = (math.nan if found[end] is None else found[end] for end in ("low", "high"))
    units = len(record["replica_values"].get(name, ())) or record.get("replicas", 1)
    return Interval(found["mean"], low, high, math.nan, units)


def change(record: Record, base: Record, name: str) -> Interval:
    """record minus base, paired; Missing where it cannot be told."""
    found = difference(record, base, name)
    if found is None or not found.known:
        raise Missing(f"{name} of trials {record.get('trial')} and {base.get('trial')}")
    return found


def not_higher(record: Record, base: Record, name: str, margin: float | None) -> Equivalence:
    """Whether a measure is shown to be higher by less than the margin: "at no cost"; margin None: a share of chance error."""
    mine, theirs = (r["replica_values"].get(name) for r in (record, base))
    if not mine or not theirs or len(mine) != len(theirs):
        raise Missing(f"{name} of trials {record.get('trial')} and {base.get('trial')}")
    return equivalence.not_higher(np.subtract(mine, theirs), margin_of(base, margin))


def margin_of(record: Record, margin: float | None) -> float:
    """What counts as no difference of an error: what the study says, or a share of chance error."""
    return equivalence.MARGIN_SHARE * record["chance_error"] if margin is None else margin


def learns(record: Record) -> bool:
    return verdict.learns(measure(record, "train_error"), record["chance_error"])


def falls(interval: Interval) -> bool:
    """Clearly below zero."""
    return interval.excludes(0) and interval.mean < 0


def rises(interval: Interval) -> bool:
    """Clearly above zero."""
    return interval.excludes(0) and interval.mean > 0


def accuracy(record: Record) -> Interval:
    """1 - test error."""
    error = measure(record, "test_error")
    return Interval(1 - error.mean, 1 - error.high, 1 - error.low, error.se, error.n)


def signed(interval: Interval) -> str:
    """A difference with its sign: +0.012 ± 0.004."""
    text = str(interval)
    return text if text.startswith("-") else f"+{text}"


def short(value: Any) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
