"""What only several trials together tell: power laws, crossings, capacity, and advice.

Pure functions of records, which hold each measure replica by replica. Knows neither stores nor tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engram.measures import advice, capacity, scaling
from engram.measures.capacity import Capacity, Growth
from engram.measures.scaling import Crossing, PowerLaw
from engram.sweeps.results import words
from engram.sweeps.study.configuration import label

Record = dict[str, Any]
SIZE = "data.train_size"
FITTED = 0.99  # a set of random labels is held when this share of it is right
MOST_CURVES = 6  # settings whose curves are compared with each other
MOST_VALUES = 12  # on an axis whose values are compared pair by pair
FEWEST_REPLICAS = 3  # for advice: the halves of a pair are not independent
ADVISED = ("test_error", "generalization_gap", "variance", "bias2", "memorization")


class Curve(NamedTuple):
    """Trials that differ in dataset size alone, and the fit of their test errors."""

    name: str
    records: list[Record]
    fit: PowerLaw


class Held(NamedTuple):
    """How many random labels a network held; replica by replica."""

    parameters: int
    name: str
    capacity: Capacity


def findings(records: Sequence[Record], most: int | None = None) -> list[str]:
    """What the trials say together, in sentences, the most surprising first; only what they separate."""
    done = [r for r in records if r["status"] == "completed" and r["measures"].get("test_error")]
    if any(r.get("random_labels") for r in done):
        return _capacity_sentence(done)[:most]
    curves = size_curves(done)
    found = [
        f"by test error, {crossing}"
        for crossing in crossings(curves)
        if crossing.interval.known and not crossing.extrapolated
    ]
    found += advised(done)
    found += [_law(curve) for curve in curves if curve.fit.identified]
    return found[:most]


def size_curves(records: Sequence[Record]) -> list[Curve]:
    """Power laws of the test error over dataset sizes, one for each setting with enough sizes."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["params"].get(SIZE) and record["replica_values"].get("test_error"):
            groups.setdefault(label(_others(record["params"])), []).append(record)
    curves = []
    for name, some in groups.items():
        ordered = sorted(some, key=lambda r: r["params"][SIZE])
        sizes = [r["params"][SIZE] for r in ordered]
        if len(set(sizes)) < scaling.FEWEST_SIZES or len(set(sizes)) < len(sizes):
            continue
        curves.append(Curve(name, ordered, scaling.power_law(sizes, _table(ordered))))
    return curves


def crossings(curves: Sequence[Curve]) -> list[Crossing]:
    """Where two settings change places as the dataset grows: "weight decay 1 wins below n = 800"."""
    found = []
    for first, second in itertools.combinations(curves[:MOST_CURVES], 2):
        found += scaling.crossings(first.fit, second.fit, (first.name, second.name))
    return found


def advised(records: Sequence[Record], most: int | None = None) -> list[str]:
    """What single changes of a setting do, the most certain first."""
    done = [r for r in records if r["params"] and (r.get("replicas") or 0) >= FEWEST_REPLICAS]
    keys = {key for record in done for key in record["params"]}
    if any(len({repr(r["params"].get(key)) for r in done}) > MOST_VALUES for key in keys):
        return []  # drawn from a distribution: no two trials differ in one setting alone
    found = [
        advice.Record(r["params"], {m: r["replica_values"].get(m) for m in ADVISED}) for r in done
    ]
    prices = {measure: advice.PRICES[measure] for measure in ADVISED}
    told: dict[tuple[str, str], str] = {}  # the most certain of each setting and measure
    naming = advice.Naming(words.setting, words.change)
    for one in advice.advise(found, prices=prices, naming=naming) if found else []:
        told.setdefault((one.key, one.measure), one.sentence)
    return list(told.values())[:most]


def held(records: Sequence[Record]) -> list[Held]:
    """The largest randomly labelled set that each network fitted, the smallest network first."""
    groups: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        if record["params"].get(SIZE) and record["replica_values"].get("train_error"):
            key = record["parameters"], label(_others(record["params"]))
            groups.setdefault(key, []).append(record)
    found = []
    for (parameters, name), some in sorted(groups.items()):
        ordered = sorted(some, key=lambda r: r["params"][SIZE])
        accuracies = 1 - _table(ordered, "train_error")
        sizes = [r["params"][SIZE] for r in ordered]
        found.append(Held(parameters, name, capacity.largest_fitted(sizes, accuracies, FITTED)))
    return found


def growth(networks: Sequence[Held]) -> Growth | None:
    """How capacity grows with parameters, by the networks whose limit was found where two or more are.

    None where fewer than two sizes of network fitted anything."""
    found = [n for n in networks if n.capacity.per_replica.mean() > 0]
    limited = [n for n in found if not n.capacity.censored.any()]
    chosen = limited if len({n.parameters for n in limited}) > 1 else found
    if len({n.parameters for n in chosen}) < 2:
        return None
    return capacity.growth(
        [n.parameters for n in chosen], [n.capacity.per_replica.mean() for n in chosen]
    )


def _capacity_sentence(records: Sequence[Record]) -> list[str]:
    networks = held(records)
    grown = growth(networks)
    if grown is None:
        return []
    return [
        f"random labels fitted to {FITTED:.0%} grow as parameters to the power {grown.exponent}"
    ]


def _law(curve: Curve) -> str:
    further = int(curve.records[-1]["params"][SIZE] * 4)
    name = "" if curve.name == label({}) else f"at {curve.name}, "
    told = (
        f"{name}the test error falls as n to the power {curve.fit.beta_interval} towards "
        f"{curve.fit.gamma_interval}"
    )
    ahead = curve.fit.predict(further)
    return f"{told}; at n = {further} it would be {ahead}" if ahead.known else told


def _others(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key != SIZE}


def _table(records: Sequence[Record], name: str = "test_error") -> np.ndarray:
    """A measure [S, R], NaN where a size has fewer replicas."""
    rows = [r["replica_values"][name] for r in records]
    table = np.full((len(rows), max(map(len, rows))), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table
