"""Answers on what the article does not claim and its readers ask: epochs, sizes, calibration, flat minima."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engram.measures import comparison, intervals
from engram.measures.intervals import Interval
from engram.sweeps.claims.answer import (
    DROPOUT,
    SIZE,
    WEIGHT_DECAY,
    Answer,
    Effect,
    Missing,
    Record,
    best,
    by,
    change,
    falls,
    listed,
    measure,
    not_higher,
    rises,
    selected_error,
    signed,
    usable,
)

SMOOTHING = "training.label_smoothing"
REGULARIZERS = {DROPOUT: "dropout", WEIGHT_DECAY: "weight decay", SMOOTHING: "label smoothing"}
FITTED = 0.01  # train error of a network that fits its examples
FEWEST = 4  # trials that fit theirs


def epochwise(records: Sequence[Record]) -> Answer:
    epochs = by(records, "training.epochs")
    if len(epochs) < 2:
        raise Missing("at least two numbers of epochs")
    first, *_, last = epochs
    bias, variance = (change(epochs[last], epochs[first], name) for name in ("bias2", "variance"))
    top = max(epochs, key=lambda e: measure(epochs[e], "test_error").mean)
    low = min(epochs, key=lambda e: measure(epochs[e], "test_error").mean)
    sentence = (
        f"From {first:g} to {last:g} epochs bias² changes by {signed(bias)} and variance by {signed(variance)}; the test "
        f"error is {measure(epochs[first], 'test_error')} at first, lowest at {low:g} "
        f"({measure(epochs[low], 'test_error')}) and {measure(epochs[last], 'test_error')} at last."
    )
    columns = ("test_error", "train_error", "bias2", "variance", "ensemble_error")
    effect = Effect(f"change of the variance from {first:g} to {last:g} epochs", variance, "higher")
    if not falls(bias) or not rises(variance):
        return Answer("not supported", sentence, "", columns, effect)
    later = [e for e in epochs if e > low]
    peak = max(later, key=lambda e: measure(epochs[e], "test_error").mean) if later else last
    if peak != last and falls(change(epochs[last], epochs[peak], "test_error")) and peak != top:
        on = f"the epochs: past {peak:g} the test error falls a second time"
        return Answer("depends", sentence, on, columns, effect)
    return Answer("supported", sentence, "", columns, effect)


def samplewise(records: Sequence[Record]) -> Answer:
    sizes = by(records, SIZE)
    steps = list(itertools.pairwise(sizes.items()))
    if not steps:
        raise Missing("at least two sizes")
    level = 1 - comparison.ALPHA / len(steps)
    worse, told = [], []
    for (_, less), (size, more) in steps:
        now, before = (np.asarray(r["replica_values"]["test_error"]) for r in (more, less))
        found = intervals.welch(now, before, level=level)  # other examples at every size: no pairs
        told.append(f"{size:,} {signed(found)}")
        if rises(found):
            worse.append(f"{size:,}")
    start = next(iter(sizes))
    sentence = (
        f"From {start:,} examples with a test error of {measure(sizes[start], 'test_error')} on, each step changes it by: "
        f"{'; '.join(told)} (95 % for all steps together)."
    )
    columns = ("test_error", "train_error", "bias2", "variance")
    if not worse:
        return Answer("supported", sentence, "", columns)
    if len(worse) == len(steps):
        return Answer("not supported", sentence, "", columns)
    on = f"the size: the step to {listed(worse)} makes it worse"
    return Answer("depends", sentence, on, columns)


def calibration(records: Sequence[Record], margin: float | None = None) -> Answer:
    plain = [r for r in usable(records) if not any(r["params"].get(key) for key in REGULARIZERS)]
    if not plain:
        raise Missing("a completed trial without regularization")
    base, told, good, arms = best(plain), [], [], []
    first: tuple[float, Interval, str] | None = None
    for key, name in REGULARIZERS.items():
        those = [r for r in usable(records) if r["params"].get(key)]
        if not those:
            continue
        arm = best(those)
        found, cost = (
            change(arm, base, "calibration_error"),
            not_higher(arm, base, "test_error", margin),
        )
        label = f"{name} {arm['params'][key]:g}"
        at_no_cost = "no cost" if cost.shown else "not told to be at no cost"
        told.append(
            f"{label} {signed(found)} (test error {signed(change(arm, base, 'test_error'))}: {at_no_cost})"
        )
        arms.append(arm)
        if falls(found) and cost.shown:
            good.append(name)
        if first is None or selected_error(arm) < first[0]:
            first = selected_error(arm), found, label
    if first is None:
        raise Missing("a completed trial with a regularizer")
    sentence = (
        f"Without, the calibration error is {measure(base, 'calibration_error')}. Of each kind the strength of the lowest "
        f"validation error, against that: {'; '.join(told)}."
    )
    columns = ("calibration_error", "test_error", "test_loss", "generalization_gap")
    shown: dict[str, Any] = {
        "effect": Effect(f"change of the calibration error by {first[2]}", first[1], "lower"),
        "arms": (base, *arms),
    }
    if not good:
        return Answer("not supported", sentence, "", columns, **shown)
    if len(good) == len(arms):
        return Answer("supported", sentence, "", columns, **shown)
    return Answer("depends", sentence, f"the kind: {listed(good)} at no cost", columns, **shown)


def fitting(records: Sequence[Record]) -> list[Record]:
    """Those whose networks fit their examples."""
    return [r for r in records if measure(r, "train_error").mean < FITTED]


def flatness(records: Sequence[Record]) -> Answer:
    there = fitting(usable(records))
    if len(there) < FEWEST:
        raise Missing(f"{FEWEST} trials that fit their examples")
    found = {name: _correlation(there, name) for name in ("sharpness", "weight_norm")}
    words = {"sharpness": "sharpness", "weight_norm": "the norm of the weights"}
    told = "; ".join(f"{words[name]} {tau}" for name, tau in found.items())
    sentence = (
        f"Among {len(there)} of {len(usable(records))} trials that fit their examples, the rank correlation with the gap is: "
        f"{told} (Kendall's, between trials that differ in one setting)."
    )
    columns = ("generalization_gap", "train_error", "sharpness", "weight_norm", "weight_distance")
    effect = Effect("rank correlation of sharpness and gap", found["sharpness"], "higher")
    good = [words[name] for name, tau in found.items() if rises(tau)]
    if not good:
        return Answer("not supported", sentence, "", columns, effect)
    if len(good) == len(found):
        return Answer("supported", sentence, "", columns, effect)
    return Answer("depends", sentence, f"the measure: {listed(good)} only", columns, effect)


def _correlation(records: Sequence[Record], name: str) -> Interval:
    """Kendall's rank correlation of a measure with the gap within pairs that differ in one setting, averaged over settings:
    of each replica number, with the t interval over those. Source: Jiang et al. 2020, section 4 (granulated coefficient)."""
    measured, gap = (
        np.array([r["replica_values"][n] for r in records]) for n in (name, "generalization_gap")
    )
    by_setting: dict[str, list[np.ndarray]] = {}
    for setting, one, other in _pairs(records):
        agree = np.sign(measured[one] - measured[other]) * np.sign(gap[one] - gap[other])
        by_setting.setdefault(setting, []).append(agree)
    if not by_setting:
        raise Missing("two trials that fit their examples and differ in one setting")
    rows = [np.mean(agree, axis=0) for agree in by_setting.values()]
    found = intervals.t_interval(np.mean(rows, axis=0))
    low, high = (max(-1.0, min(1.0, end)) for end in (found.low, found.high))
    return found if math.isnan(found.low) else Interval(found.mean, low, high, found.se, found.n)


def _pairs(records: Sequence[Record]) -> Iterator[tuple[str, int, int]]:
    """The setting in which two trials alone differ, and their places."""
    for one, other in itertools.combinations(range(len(records)), 2):
        a, b = records[one]["params"], records[other]["params"]
        apart = [key for key in a if a[key] != b.get(key)]
        if len(apart) == 1:
            yield apart[0], one, other
