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
    LR,
    WEIGHT_DECAY,
    Answer,
    Effect,
    Missing,
    Record,
    best,
    change,
    falls,
    learns,
    listed,
    measure,
    not_higher,
    rises,
    selected_error,
    short,
    signed,
    tuned,
    usable,
)

CLAIMED_RATES = (0.2, 0.5)  # of the article's table between none and all


@dataclass(frozen=True)
class _Setting:
    """One setting against none: its gap and test error, paired."""

    name: str
    record: Record
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
    rates = {r["params"].get(LR) for r in (base, *others.values())}
    for value, record in others.items():
        gap = change(record, base, "generalization_gap") if learns(record) else None
        label = f"{name} {short(value)}".strip() + (_at(record) if len(rates) > 1 else "")
        cost = not_higher(record, base, "test_error", margin)
        error = change(record, base, "test_error")
        found.append(_Setting(label, record, gap, error, cost))
    return found


def _at(record: Record) -> str:
    """The learning rate that an arm was given."""
    return f" (lr {record['params'][LR]:g})"


def _chosen(settings: Sequence[_Setting]) -> _Setting:
    """The setting of the lowest validation error."""
    return min(settings, key=lambda setting: selected_error(setting.record))


def _gap(setting: _Setting) -> Effect | None:
    """What the setting chosen on validation makes of the gap, to be pooled over datasets."""
    if setting.gap is None:
        return None
    return Effect(f"change of the gap by {setting.name}", setting.gap, "lower")


def _start(base: Record, without: str) -> str:
    lr = _at(base) if LR in base["params"] else ""
    return (
        f"{without}{lr} the gap is {measure(base, 'generalization_gap')} and the test error "
        f"{measure(base, 'test_error')}"
    )


def dropout(records: Sequence[Record], margin: float | None = None) -> Answer:
    rates = tuned(records, DROPOUT)
    base = rates.pop(0.0, None)
    if base is None:
        raise Missing("a completed trial without dropout")
    settings = _settings(base, rates, margin, "dropout")
    claimed = [s for s in settings if s.record["params"][DROPOUT] in CLAIMED_RATES]
    if not claimed:
        raise Missing(f"a completed trial with dropout {listed([f'{r:g}' for r in CLAIMED_RATES])}")
    good = [s for s in claimed if s.good]
    sentence = f"{_start(base, 'Without dropout')}. Against that: {'; '.join(map(str, settings))}."
    columns = ("test_error", "train_error", "generalization_gap", "bias2", "variance")
    told: dict[str, Any] = {
        "effect": _gap(_chosen(claimed)),
        "arms": (base, *rates.values()),
    }
    if not good:
        return Answer("not supported", sentence, "", columns, **told)
    if len(good) == len(claimed):
        return Answer("supported", sentence, "", columns, **told)
    bad = [s for s in claimed if not s.good]
    on = f"the rate: {listed([s.name for s in good])} at no cost, not {listed([s.name for s in bad])}"
    return Answer("depends", sentence, on, columns, **told)


def weight_decay(records: Sequence[Record], margin: float | None = None) -> Answer:
    plain = [
        r for r in usable(records) if not r["params"].get(WEIGHT_DECAY) and not r["params"].get(L1)
    ]
    if not plain:
        raise Missing("a completed trial without either")
    base = best(plain)
    kinds = []
    for key, name in ((WEIGHT_DECAY, "weight decay"), (L1, "L1")):
        arms = {value: r for value, r in tuned(records, key).items() if value}
        if not arms:
            raise Missing(f"a completed trial with {name}")
        kinds.append(_settings(base, arms, margin, name))
    chosen = [_chosen(settings) for settings in kinds]
    everything = [s for settings in kinds for s in settings]
    columns = ("test_error", "train_error", "generalization_gap", "bias2", "variance")
    sentence = (
        f"{_start(base, 'Without either')}. Of each the strength of the lowest validation error, against that: "
        + "; ".join(map(str, chosen))
        + f". At no cost in test error {sum(s.good for s in everything)} of {len(everything)} strengths narrow the gap."
    )
    told: dict[str, Any] = {
        "effect": _gap(chosen[0]),
        "arms": (base, *(s.record for s in everything)),
    }
    if all(s.good for s in chosen):
        return Answer("supported", sentence, "", columns, **told)
    if any(s.good for s in chosen):
        (one,) = [s for s in chosen if s.good]
        return Answer("depends", sentence, f"which of the two: {one.name} does", columns, **told)
    if any(s.good for s in everything):
        some = listed([s.name for s in everything if s.good])
        on = f"the strength: {some} would do, and validation chooses another"
        return Answer("depends", sentence, on, columns, **told)
    return Answer("not supported", sentence, "", columns, **told)


def early_stopping(records: Sequence[Record], margin: float | None = None) -> Answer:
    patience = tuned(records, "training.early_stopping")
    base = patience.pop(None)
    settings = _settings(base, patience, margin, "patience")
    losses = [
        f"patience {short(value)}: {signed(change(record, base, 'test_loss'))}"
        for value, record in patience.items()
    ]
    sentence = (
        f"{_start(base, 'Trained to the end')}. Against that: {'; '.join(map(str, settings))}. "
        f"The test loss ({measure(base, 'test_loss')} nats) changes more: {'; '.join(losses)}."
    )
    columns = ("test_error", "test_loss", "train_error", "generalization_gap")
    told: dict[str, Any] = {
        "effect": _gap(_chosen(settings)),
        "arms": (base, *patience.values()),
    }
    good = [s for s in settings if s.good]
    costly = [s for s in settings if s.narrows and not s.good]
    if good and not costly:
        return Answer("supported", sentence, "", columns, **told)
    if any(falls(change(r, base, "test_loss")) for r in patience.values()):
        on = "the measure: it saves loss, not accuracy"
        return Answer("depends", sentence, on, columns, **told)
    return Answer("not supported", sentence, "", columns, **told)


def augmentation(records: Sequence[Record], margin: float | None = None) -> Answer:
    kinds = tuned(records, "data.augmentation")
    base = kinds.pop("none")
    settings = _settings(base, kinds, margin)
    better = [s.name for s in settings if falls(s.error)]
    others = [s.name for s in settings if not falls(s.error)]
    sentence = (
        f"{_start(base, 'Without augmentation')}. Against that: {'; '.join(map(str, settings))}."
    )
    chosen = _chosen(settings)
    effect = Effect(f"change of the test error by {chosen.name}", chosen.error, "lower")
    told: dict[str, Any] = {"effect": effect, "arms": (base, *kinds.values())}
    if not better:
        return Answer("not supported", sentence, **told)
    on = f"the kind: better with {listed(better)}, not with {listed(others)}" if others else ""
    return Answer("depends" if others else "supported", sentence, on, **told)
