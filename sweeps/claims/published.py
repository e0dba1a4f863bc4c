"""Answers on numbers that others published, or that this project's design gives."""

from __future__ import annotations

from collections.abc import Sequence

from engram.sweeps.claims.answer import (
    DROPOUT,
    SIZE,
    Answer,
    Record,
    Word,
    accuracy,
    measure,
    usable,
)

# Published for MNIST-1D: family and depth -> test accuracy, low and high.
PUBLISHED = {
    ("feedforward", 0): (0.32, 0.32),
    ("feedforward", 2): (0.65, 0.68),
    ("convolutional", 3): (0.93, 0.94),
    ("gru", 1): (0.91, 0.91),
}
NEAR = 0.02  # accuracies this close are the same table


def architectures(records: Sequence[Record]) -> Answer:
    told, near = [], []
    for record in usable(records):
        params = record["params"]
        low, high = PUBLISHED[params["model.family"], params["model.depth"]]
        found = accuracy(record)
        name = "logistic" if params["model.depth"] == 0 else params["model.family"]
        span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        told.append(f"{name} {found} (published: {span})")
        near.append(low - NEAR <= found.mean <= high + NEAR)
    sentence = f"Test accuracies: {'; '.join(told)}."
    if all(near) and near:
        return Answer("supported", sentence)
    return Answer(
        "depends" if any(near) else "not supported",
        sentence,
        "the architecture" if any(near) else "",
    )


# (train size, dropout) -> what the design gives.
REFERENCE = {
    (1000, 0.0): {"accuracy": 0.462, "variance": 0.438, "bias2": 0.509},
    (1000, 0.2): {"accuracy": 0.511, "variance": 0.345, "bias2": 0.435},
    (1000, 0.5): {"accuracy": 0.532, "variance": 0.172, "bias2": 0.458},
    (4000, 0.0): {"accuracy": 0.653},
    (4000, 0.2): {"accuracy": 0.681},
    (4000, 0.5): {"accuracy": 0.615},
}


def reference(records: Sequence[Record]) -> Answer:
    told, near = [], []
    for record in usable(records):
        size, rate = record["params"][SIZE], record["params"][DROPOUT]
        wanted = REFERENCE[size, rate]
        parts = []
        for name, value in wanted.items():
            found = accuracy(record) if name == "accuracy" else measure(record, name)
            parts.append(f"{name.replace('bias2', 'bias²')} {found} ({value:g})")
            near.append(abs(found.mean - value) <= NEAR + 0.01 * (name != "accuracy"))
        told.append(f"n = {size}, dropout {rate:g}: {', '.join(parts)}")
    word: Word = "supported" if all(near) else "depends" if any(near) else "not supported"
    on = "the setting" if word == "depends" else ""
    return Answer(
        word, f"Measured (expected): {'; '.join(told)}.", on, ("test_error", "bias2", "variance")
    )
