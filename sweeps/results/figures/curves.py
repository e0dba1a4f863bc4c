"""Learning curves: the gap shaded, the spread of the replicas around each line."""

from __future__ import annotations

import numpy as np

from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures.style import (
    TEST,
    TRAIN,
    Drawing,
    error_unit,
    figure,
    mean_of,
    shorten,
)
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import cell
from engram.sweeps.study.configuration import label

PANELS = 3


def learning_curves(evidence: Evidence) -> Drawing | None:
    """Train and test error by epoch of the best trial, of the one with the largest gap, and of the least learned."""
    chosen = _chosen(evidence)
    if not chosen:
        return None
    made, axes = figure(1, len(chosen), 3.2, sharey=True)
    for panel, (record, why) in zip(axes[0], chosen, strict=True):
        curves = evidence.arrays(record)
        epochs = curves["epochs"]
        train = _line(panel, epochs, curves["train_error_curve"], TRAIN, "--", "train")
        test = _line(panel, epochs, curves["test_error_curve"], TEST, "-", "test")
        panel.fill_between(
            epochs,
            train,
            test,
            facecolor="none",
            edgecolor="#999999",
            hatch="///",
            linewidth=0,
            label="gap",
        )
        panel.set_title(f"{why}\n{shorten(label(record['params']), 34)}", loc="left")
        panel.set_xlabel("epoch")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel(error_unit(evidence.regression))
    made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    best = chosen[0][0]
    title = (
        f"{label(best['params'])}: train error ends at {cell(best, 'train_error', False)}, "
        f"test error at {cell(best, 'test_error', False)}, a gap of {cell(best, 'generalization_gap')}"
    )
    caption = (
        "Lines are means over replicas, bands one standard deviation between replicas; the hatched area "
        "between train and test is the generalization gap."
    )
    return Drawing("learning_curves", title, caption, made)


def _chosen(evidence: Evidence) -> list[tuple[Record, str]]:
    """Up to three trials worth a look, each with the reason, the best first."""
    completed = evidence.completed
    if not completed or evidence.best is None:
        return []
    wanted = [
        (evidence.best, "best"),
        (max(completed, key=lambda r: mean_of(r, "generalization_gap")), "largest gap"),
        (max(completed, key=lambda r: mean_of(r, "train_error")), "highest train error"),
    ]
    found: list[tuple[Record, str]] = []
    for record, why in wanted:
        if any(record is known for known, _ in found):
            continue
        curves = evidence.arrays(record)
        if "train_error_curve" in curves and len(curves["epochs"]) > 1:
            found.append((record, why))
    return found[:PANELS] if found and found[0][0] is evidence.best else []


def _line(
    panel, epochs: np.ndarray, curves: np.ndarray, colour: str, dashes: str, name: str
) -> np.ndarray:
    """A mean with its band; curves: [E, R]. Returns the mean [E]."""
    mean, spread = curves.mean(axis=1), curves.std(axis=1, ddof=1) if curves.shape[1] > 1 else 0
    panel.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    panel.plot(epochs, mean, color=colour, linestyle=dashes, linewidth=1.6, label=name)
    return mean
