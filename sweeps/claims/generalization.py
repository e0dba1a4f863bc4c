"""Answers on data, learning rates and networks: size, speed, architecture, activation, width, capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engram.sweeps.claims.answer import (
    LR,
    SIZE,
    WIDTH,
    Answer,
    Effect,
    Missing,
    Record,
    accuracy,
    best,
    by,
    change,
    falls,
    listed,
    measure,
    rises,
    selected_error,
    signed,
    tuned,
    usable,
)
from engram.sweeps.results import across

# The article's tables.
ACCURACIES = {10_000: 0.82, 100_000: 0.87, 1_000_000: 0.92, 10_000_000: 0.95}
EPOCHS = {0.001: 50, 0.01: 30, 0.1: 15, 1.0: 5}
NEAR = 0.02  # accuracies this close are the same table


def ten_million(records: Sequence[Record]) -> Answer:
    sizes = by(records, SIZE)
    if len(sizes) < 2:
        raise Missing("at least two sizes")
    steps = list(zip(list(sizes.values())[:-1], list(sizes.values())[1:], strict=True))
    flat = [
        more["params"][SIZE] for less, more in steps if not falls(change(more, less, "test_error"))
    ]
    found = {n: accuracy(r) for n, r in sizes.items()}
    memorized = {n: measure(r, "memorization") for n, r in sizes.items() if _has_memory(r)}
    first, *_, last = memorized.values()
    less = first.low > last.high if first.known and last.known else first.mean > last.mean
    told = "; ".join(
        f"{n:,}: accuracy {found[n]}"
        + (f", memorization {memorized[n]}" if n in memorized else "")
        + (f" (table: {ACCURACIES[n]:g})" if n in ACCURACIES else "")
        for n in sizes
    )
    same = all(abs(found[n].mean - ACCURACIES[n]) <= NEAR for n in sizes if n in ACCURACIES)
    columns = ("test_error", "train_error", "generalization_gap", "memorization")
    if len(flat) == len(steps) or not less:
        return Answer("not supported", f"{told}.", "", columns)
    if flat:
        sizes_told = listed([f"{size:,}" for size in flat])
        on = f"the size: the step to {sizes_told} raises the accuracy by nothing that can be told"
        return Answer("depends", f"{told}.", on, columns)
    if same and set(ACCURACIES) <= set(sizes):
        return Answer("supported", f"{told}.", "", columns)
    on = "the task: more examples do both here too, but the table is not this one's"
    return Answer("depends", f"{told}.", on, columns)


def _has_memory(record: Record) -> bool:
    return record["measures"].get("memorization") is not None


def learning_rate(records: Sequence[Record]) -> Answer:
    told, verdicts = [], {}
    for optimizer in dict.fromkeys(r["params"]["training.optimizer"] for r in records):
        some = [r for r in records if r["params"]["training.optimizer"] == optimizer]
        rates = {r["params"][LR]: r for r in sorted(some, key=lambda r: r["params"][LR])}
        epochs = {rate: _arrival(record) for rate, record in rates.items()}
        steps = [rate for rate in epochs if rate in EPOCHS]
        if not steps:
            continue
        told.append(
            f"{optimizer}: "
            + ", ".join(
                f"{rate:g} {_epochs(epochs[rate])} (table: {EPOCHS[rate]})" for rate in steps
            )
        )
        numbers = [epochs[rate] for rate in steps]
        arrived = [n for n in numbers if math.isfinite(n)]
        fastest = min(epochs, key=lambda rate: epochs[rate])
        verdicts[optimizer] = (
            len(arrived) == len(numbers) and arrived == sorted(arrived, reverse=True),
            numbers[0] > min(numbers),
            fastest,
        )
    if not verdicts:
        raise Missing("a trial at a learning rate of the table")
    threshold = next(r["convergence_error"] for r in records if r.get("convergence_error"))
    sentence = f"Median epochs to a train error of {threshold:g}: {'; '.join(told)}."
    columns = ("epochs_to_convergence", "epochs_at_least", "train_error", "test_error")
    if all(monotone for monotone, _, _ in verdicts.values()):
        return Answer("supported", sentence, "", columns)
    if not any(faster for _, faster, _ in verdicts.values()):
        return Answer("not supported", sentence, "", columns)
    best = listed([f"{name} is fastest at {rate:g}" for name, (_, _, rate) in verdicts.items()])
    return Answer("depends", sentence, f"the range: {best} and slower or lost beyond", columns)


def _arrival(record: Record) -> float:
    """Median epochs to the threshold; infinite where half of the replicas never arrived."""
    found = record["measures"].get("epochs_to_convergence")
    done = record["status"] == "completed" and found is not None
    return float(found["mean"]) if done and found is not None else math.inf


def _epochs(number: float) -> str:
    return f"{number:g}" if math.isfinite(number) else "never"


def families(records: Sequence[Record]) -> Answer:
    kinds = tuned(records, "model.family")
    base = kinds.pop("feedforward")
    first = best(list(kinds.values()))
    differences = {name: change(record, base, "test_error") for name, record in kinds.items()}
    told = "; ".join(
        f"{name} ({record['parameters']:,} parameters) {signed(differences[name])}"
        for name, record in kinds.items()
    )
    sentence = (
        f"Feedforward ({base['parameters']:,} parameters) has a test error of "
        f"{measure(base, 'test_error')}; against that: {told}."
    )
    columns = ("test_error", "train_error", "generalization_gap", "bias2", "variance")
    apart = [name for name, found in differences.items() if found.excludes(0)]
    tied = [name for name in differences if name not in apart]
    family = first["params"]["model.family"]
    words = f"test error of {family}, chosen on validation, minus feedforward's"
    shown: dict[str, Any] = {
        "effect": Effect(words, change(first, base, "test_error"), "lower"),
        "arms": (base, *kinds.values()),
    }
    if not apart:
        return Answer("not supported", sentence, "", columns, **shown)
    on = f"the architecture: {listed(tied)} cannot be told from feedforward" if tied else ""
    return Answer("depends" if tied else "supported", sentence, on, columns, **shown)


def activations(records: Sequence[Record]) -> Answer:
    arms = tuned(records, "model.activation")
    if len(arms) < 2:
        raise Missing("at least two activations")
    # Ranked on validation, so that the order owes nothing to the errors that are compared.
    ranked = sorted(arms, key=lambda name: selected_error(arms[name]))
    told = "; ".join(
        f"{name} {measure(arms[name], 'test_error')} at lr {arms[name]['params'][LR]:g}"
        for name in ranked
    )
    behind = change(arms[ranked[-1]], arms[ranked[0]], "test_error")
    tied = [n for n in ranked[1:] if not rises(change(arms[n], arms[ranked[0]], "test_error"))]
    sentence = (
        f"Each at the learning rate of its best validation error, in the order of that, test errors are: {told}. "
        f"{ranked[-1]} is {signed(behind)} behind {ranked[0]}."
    )
    words = "test error of the last activation on validation minus the first's"
    shown: dict[str, Any] = {
        "effect": Effect(words, behind, "higher"),
        "arms": tuple(arms.values()),
    }
    if not rises(behind):
        return Answer("not supported", sentence, **shown)
    on = f"the pair: {listed(tied)} cannot be told from {ranked[0]}" if tied else ""
    return Answer("depends" if tied else "supported", sentence, on, **shown)


def double_descent(records: Sequence[Record]) -> Answer:
    widths = by(records, WIDTH)
    first, *_, last = widths
    peaks = {
        name: max(widths, key=lambda w: measure(widths[w], name).mean)
        for name in ("variance", "test_error")
    }
    top = peaks["variance"]
    rise = change(widths[top], widths[first], "variance")
    fall = change(widths[last], widths[top], "variance")
    bias = change(widths[last], widths[first], "bias2")
    inner = [w for w in widths if first < w < last]
    error_top = max(inner, key=lambda w: measure(widths[w], "test_error").mean)
    fitted = next((w for w in widths if measure(widths[w], "train_error").mean < 0.01), None)
    sentence = (
        f"From width {first} to {last} bias² changes by {signed(bias)}. Variance rises from "
        f"{measure(widths[first], 'variance')} to {measure(widths[top], 'variance')} at width {top} and is "
        f"{measure(widths[last], 'variance')} at {last}. The test error between the ends is highest at width "
        f"{error_top} ({measure(widths[error_top], 'test_error')}; {measure(widths[first], 'test_error')} at "
        f"{first}, {measure(widths[last], 'test_error')} at {last})"
        + (f"; the train error is below 1 % from width {fitted} on." if fitted else ".")
    )
    columns = ("test_error", "train_error", "bias2", "variance", "ensemble_error")
    if not rises(rise) or not falls(bias):
        return Answer("not supported", sentence, "", columns)
    if top != last and falls(fall):
        on = f"the side of the interpolation threshold: variance peaks at width {top} and falls beyond"
        return Answer("depends", sentence, on, columns)
    return Answer("supported", sentence, "", columns)


def capacity(records: Sequence[Record]) -> Answer:
    networks = across.held(usable(records))
    grown = across.growth(networks)
    if grown is None:
        raise Missing("at least two networks that fitted something")
    told = []
    for parameters, name, found in networks:
        least = "at least " if found.censored.any() else ""
        told.append(f"{parameters:,} parameters ({name}) {least}{found.interval.mean:,.0f} labels")
    sentence = (
        f"Fitted to {across.FITTED:.0%}: {'; '.join(told)}. Capacity grows as parameters to the power "
        f"{grown.exponent}."
    )
    columns = ("train_error", "train_loss", "epochs_to_convergence")
    means = [n.capacity.interval.mean for n in networks]
    grows = grown.exponent.low > 0 if grown.exponent.known else means == sorted(means)
    return Answer("supported" if grows else "not supported", sentence, "", columns)
