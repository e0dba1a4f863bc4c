"""The answer on secrets in a text: how far networks give them away, and what keeps them in."""

from __future__ import annotations

from collections.abc import Sequence

from engram.measures.intervals import Interval
from engram.sweeps.claims.answer import (
    DROPOUT,
    WEIGHT_DECAY,
    Answer,
    Effect,
    Missing,
    Record,
    change,
    falls,
    listed,
    measure,
    of_values,
    rises,
    signed,
    usable,
)

FAMILY = "model.family"
EXPOSURE, EXTRACTED = "exposure_", "extracted_"
TIMES = {0: "never seen", 1: "seen once an epoch", 2: "twice"}
FEW = 1  # times that an epoch shows the secrets that decide


def text_memorization(records: Sequence[Record]) -> Answer:
    families: dict[str, list[Record]] = {}
    for record in usable(records):
        families.setdefault(str(record["params"].get(FAMILY, "")), []).append(record)
    told, exposed, helped, kinds = [], [], [], []
    effect: Effect | None = None
    for family, those in families.items():
        smallest = min(record["train_examples"] for record in those)
        base = next((r for r in those if not _remedy(r, smallest)), None)
        if base is None:
            raise Missing(f"a completed trial of {family} without any remedy")
        above = of_values(base, f"{EXPOSURE}{FEW}", minus=f"{EXPOSURE}0")
        exposed.append(rises(above))
        effect = effect or Effect("exposure in bits above that of unseen secrets", above, "higher")
        told.append(f"{family}: {_by_count(base)}")
        for record in those:
            if name := _remedy(record, smallest):
                lower = change(record, base, f"{EXPOSURE}{FEW}")
                told.append(f"{name} {signed(lower)} bits of those seen once")
                kinds.append(f"{name} ({family})")
                if falls(lower):
                    helped.append(kinds[-1])
    if not families:
        raise Missing("a completed trial")
    columns = ("exposure_0", "exposure_1", "exposure_2", "exposure_8", "extracted_8", "test_loss")
    sentence = f"Secrets planted in the text, {'; '.join(told)}."
    if not any(exposed) or not helped:
        return Answer("not supported", sentence, "", columns, effect)
    if all(exposed) and len(helped) == len(kinds):
        return Answer("supported", sentence, "", columns, effect)
    return Answer("depends", sentence, f"the remedy: {listed(helped)} lower it", columns, effect)


def _remedy(record: Record, smallest: int) -> str:
    """What a trial has against memorization; empty where it has nothing."""
    params = record["params"]
    if params.get(DROPOUT):
        return f"dropout {params[DROPOUT]:g}"
    if params.get(WEIGHT_DECAY):
        return f"weight decay {params[WEIGHT_DECAY]:g}"
    if record["train_examples"] > smallest:
        return f"{record['train_examples']:,} examples"
    return ""


def _by_count(record: Record) -> str:
    """Exposure and extraction by how often an epoch shows a secret."""
    counts = sorted(
        int(name.removeprefix(EXPOSURE)) for name in record["measures"] if name.startswith(EXPOSURE)
    )
    parts = []
    for count in counts:
        found: Interval = measure(record, f"{EXPOSURE}{count}")
        share = measure(record, f"{EXTRACTED}{count}").mean
        often = TIMES.get(count, f"{count} times an epoch")
        parts.append(f"{often} {found} bits and {share:.0%} extracted")
    return ", ".join(parts)
