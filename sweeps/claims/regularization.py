"""Answers on what holds a network back: dropout, weight decay, L1, early stopping, augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engram.measures.equivalence import Equivalence
from engram.measures.intervals import Interval
from engram.sweeps.claims.answer import (
    DROPOUT,
    L1,
    WEIGHT_DECAY,
    Answer,
    Record,
    Word,
    by,
    change,
    falls,
    learns,
    listed,
    measure,
    not_higher,
    pick,
    rises,
    short,
    signed,
)


@dataclass(frozen=True)
class _Setting:
    """One setting against none: its gap and test error, paired."""

    name: str
    gap: Interval | None
    error: Interval
    cost: Equivalence  # whether the test error is shown to be no higher by the margin

    @property
    def narrows(self) -> bool:
        return self.gap is not None and falls(self.gap)

    @property
    def good(self) -> bool:
        """Narrows the gap, at no cost: which is shown, and not only not refuted."""
        return self.narrows and self.cost.shown

    def __str__(self) -> str:
        gap = "learns nothing" if self.gap is None else f"gap {signed(self.gap)}"
        return f"{self.name}: {gap}, test error {signed(self.error)}{self._cost}"

    @property
    def _cost(self) -> str:
        if self.cost.shown:
            return f" (no cost above {self.cost.margin:.2g})"
        return "" if rises(self.error) else f" (not told whether it costs {self.cost.margin:.2g})"


def _settings(
    base: Record, others: dict[Any, Record], margin: float | None, name: str = ""
) -> list[_Setting]:
    found = []
    for value, record in others.items():
        gap = change(record, base, "generalization_gap") if learns(record) else None
        label = f"{name} {short(value)}".strip()
        cost = not_higher(record, base, "test_error", margin)
        found.append(_Setting(label, gap, change(record, base, "test_error"), cost))
    return found


def _regularizers(settings: list[_Setting], on: str) -> tuple[Word, str]:
    """Supported where each narrows the gap at no cost, depends where only some do."""
    good = [s for s in settings if s.good]
    if not good:
        return "not supported", ""
    return ("supported", "") if len(good) == len(settings) else ("depends", on)


def dropout(records: Sequence[Record], margin: float | None = None) -> Answer:
    rates = by(records, DROPOUT)
    base = rates.pop(0.0, None) or pick(records, model__dropout=0.0)
    settings = _settings(base, rates, margin, "dropout")
    word, _ = _regularizers(settings, "the rate")
    good = [s.name.removeprefix("dropout ") for s in settings if s.good]
    bad = [s.name.removeprefix("dropout ") for s in settings if not s.good]
    on = f"the rate: {listed(good)} at no cost, not {listed(bad)}" if word == "depends" else ""
    sentence = (
        f"Without dropout the gap is {measure(base, 'generalization_gap')} and the test error "
        f"{measure(base, 'test_error')}. Against that: " + "; ".join(map(str, settings)) + "."
    )
    columns = ("test_error", "train_error", "generalization_gap", "bias2", "variance")
    return Answer(word, sentence, on, columns)


def weight_decay(records: Sequence[Record], margin: float | None = None) -> Answer:
    base = pick(records, training__weight_decay=0.0, training__l1=0.0)
    decays = {k: r for k, r in by(records, WEIGHT_DECAY).items() if k > 0}
    norms = {k: r for k, r in by(records, L1).items() if k > 0}
    both = [
        _settings(base, decays, margin, "weight decay"),
        _settings(base, norms, margin, "L1"),
    ]
    good = [[s for s in settings if s.good] for settings in both]
    best = [min(some, key=lambda s: s.error.mean) for some in both if some]
    columns = ("test_error", "train_error", "generalization_gap", "bias2", "variance")
    sentence = (
        f"Without either the gap is {measure(base, 'generalization_gap')} and the test error "
        f"{measure(base, 'test_error')}. The best of each against that: "
        + "; ".join(map(str, best))
        + f". At no cost in test error {sum(map(len, good))} of {sum(map(len, both))} strengths narrow the gap."
    )
    if all(good):
        every = all(len(g) == len(b) for g, b in zip(good, both, strict=True))
        strengths = listed([s.name for some in good for s in some])
        on = "" if every else f"the strength: {strengths} narrow the gap at no cost"
        return Answer("supported" if every else "depends", sentence, on, columns)
    if any(good):
        return Answer("depends", sentence, "which of the two", columns)
    return Answer("not supported", sentence, "", columns)


def early_stopping(records: Sequence[Record], margin: float | None = None) -> Answer:
    patience = by(records, "training.early_stopping")
    base = patience.pop(None)
    settings = _settings(base, patience, margin, "patience")
    losses = [
        f"patience {short(value)}: {signed(change(record, base, 'test_loss'))}"
        for value, record in patience.items()
    ]
    sentence = (
        f"Trained to the end the gap is {measure(base, 'generalization_gap')} and the test error "
        f"{measure(base, 'test_error')}. Against that: {'; '.join(map(str, settings))}. "
        f"The test loss ({measure(base, 'test_loss')} nats) changes more: {'; '.join(losses)}."
    )
    columns = ("test_error", "test_loss", "train_error", "generalization_gap")
    good = [s for s in settings if s.good]
    costly = [s for s in settings if s.narrows and not s.good]
    if good and not costly:
        return Answer("supported", sentence, "", columns)
    if any(falls(change(r, base, "test_loss")) for r in patience.values()):
        return Answer("depends", sentence, "the measure: it saves loss, not accuracy", columns)
    return Answer("not supported", sentence, "", columns)


def augmentation(records: Sequence[Record], margin: float | None = None) -> Answer:
    kinds = by(records, "data.augmentation")
    base = kinds.pop("none")
    settings = _settings(base, kinds, margin)
    better = [s.name for s in settings if falls(s.error)]
    others = [s.name for s in settings if not falls(s.error)]
    sentence = (
        f"Without augmentation the test error is {measure(base, 'test_error')}, the gap "
        f"{measure(base, 'generalization_gap')}. Against that: {'; '.join(map(str, settings))}."
    )
    if not better:
        return Answer("not supported", sentence)
    on = f"the kind: better with {listed(better)}, not with {listed(others)}" if others else ""
    return Answer("depends" if others else "supported", sentence, on)
