"""What was memorized: how much of the pool, which examples, and how well an attacker tells members apart."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from engram.measures import membership, memorization
from engram.sweeps.results.evidence import Arrays, Evidence
from engram.sweeps.results.figures.style import (
    DASHES,
    MUTED,
    SERIES,
    Drawing,
    figure,
    mean_of,
    shorten,
)
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import cell
from engram.sweeps.study.configuration import label

SHOWN_EXAMPLES = 12
LONGEST_TEXT = 84  # characters of a line
MEMORIZED = 0.5  # an example counts as memorized above this
LEAST_RATE = 1e-4
DOZENS = 24  # replicas below which single examples say little


def memorization_histogram(evidence: Evidence) -> Drawing | None:
    """Memorization of every pool example, for the best trial and the one that memorizes most."""
    chosen = _chosen(evidence, "memorization", "memorization")
    if not chosen:
        return None
    made, axes = figure(1, 1, 3.2)
    panel = axes[0, 0]
    replicas = chosen[0][0]["replicas"]
    for k, (record, why) in enumerate(chosen):
        for values, name, dashes in _parts(evidence.arrays(record), why, record, DASHES[k]):
            panel.hist(
                values,
                bins=np.linspace(-1, 1, 42 if replicas >= DOZENS else 22).tolist(),
                weights=np.full(len(values), 1 / len(values)),
                histtype="step",
                linewidth=1.5,
                color=SERIES[k],
                linestyle=dashes,
                label=name,
            )
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("memorization: accuracy when trained on, minus when held out")
    panel.set_ylabel("share of examples")
    panel.legend(loc="upper left")
    record, _ = chosen[0]
    values = _known(evidence.arrays(record)["memorization"])
    title = f"Memorization in {label(record['params'])} averages {cell(record, 'memorization')}"
    if replicas >= DOZENS:  # with fewer, noise alone carries examples over the line
        title += f"; {100 * float((values > MEMORIZED).mean()):.0f} % of the examples are above {MEMORIZED}"
    caption = "The share of pool examples at each value, on a logarithmic scale."
    if replicas < DOZENS:
        worst = memorization.worst_standard_error(0.5, replicas)
        caption += (
            f" With {replicas} replicas one example's value has a standard error of up to {worst:.2f}: read "
            "the whole, not single examples."
        )
    return Drawing("memorization", title, caption, made)


def _parts(
    arrays: Arrays, why: str, record: Record, dashes: str
) -> list[tuple[np.ndarray, str, str]]:
    """Clean and wrong labels apart where there are wrong ones: [(values, name, dashes)]."""
    name = f"{why}: {shorten(label(record['params']), 32)}"
    values, wrong = arrays["memorization"], arrays.get("pool_wrong")
    if wrong is None or not wrong.any() or wrong.all():
        return [(_known(values), name, dashes)]
    return [
        (_known(values[~wrong]), f"{name}, right labels", "-"),
        (_known(values[wrong]), f"{name}, wrong labels", "--"),
    ]


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)].astype(float)


def _chosen(evidence: Evidence, measure: str, array: str) -> list[tuple[Record, str]]:
    """The best trial, and the one where a measure is highest, where they have the array."""
    there = [r for r in evidence.completed if r["measures"].get(measure)]
    if not there:
        return []
    wanted = [(evidence.best, "best"), (max(there, key=lambda r: mean_of(r, measure)), "highest")]
    found: list[tuple[Record, str]] = []
    for record, why in wanted:
        known = any(record is other for other, _ in found)
        if record is not None and not known and array in evidence.arrays(record):
            found.append((record, why))
    return found


# -- the examples themselves ------------------------------------------------------------------------


def most_memorized(evidence: Evidence) -> Drawing | None:
    """The examples that the best trial memorized most, as they are."""
    best = evidence.best
    arrays = evidence.arrays(best) if best else {}
    if best is None or "most_memorized_inputs" not in arrays:
        return None
    inputs = arrays["most_memorized_inputs"][:SHOWN_EXAMPLES]
    if inputs.dtype.kind == "U":
        return _texts(best, arrays, inputs)
    if len(inputs) < 4 or inputs[0].ndim > 3:
        return None
    labels = arrays["most_memorized_targets"]
    values = np.sort(arrays["memorization"][np.isfinite(arrays["memorization"])])[::-1]
    wrong = set()
    if "pool_wrong" in arrays and arrays["pool_wrong"].any():
        ranked = np.argsort(-np.nan_to_num(arrays["memorization"], nan=-2), kind="stable")
        wrong = {k for k, index in enumerate(ranked[: len(inputs)]) if arrays["pool_wrong"][index]}
    columns = 6
    rows = -(-len(inputs) // columns)
    made, axes = figure(rows, columns, 1.15 * rows + 0.2)
    for panel in axes.flat[len(inputs) :]:
        panel.set_axis_off()
    for k, (panel, example) in enumerate(zip(axes.flat, inputs, strict=False)):
        _show(panel, example)
        panel.set_title(
            f"{labels[k]}{' (wrong)' if k in wrong else ''} · {values[k]:.2f}",
            fontsize=8,
            loc="left",
        )
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(visible=False)
    title = (
        f"What {label(best['params'])} knows only from training on it: the {len(inputs)} most memorized examples"
        + (f", {len(wrong)} of them with wrong labels" if wrong else "")
    )
    caption = "Above each example its label and its memorization (1: always right when trained on, never when held out)."
    if best["replicas"] < DOZENS:
        caption += f" With {best['replicas']} replicas, which of the many at the top are shown is partly chance."
    return Drawing("most_memorized", title, caption, made)


def _texts(best: Record, arrays: Arrays, texts: np.ndarray) -> Drawing:
    """The same of text: a line each."""
    values = np.sort(arrays["memorization"][np.isfinite(arrays["memorization"])])[::-1]
    made, axes = figure(1, 1, 0.24 * len(texts) + 0.2)
    panel = axes[0, 0]
    panel.set_axis_off()
    panel.set_ylim(len(texts), 0)
    for k, text in enumerate(texts):
        line = " ".join(str(text).split())
        said = line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"
        panel.text(0, k + 0.5, f"{values[k]:.2f}", fontsize=8, family="monospace", va="center")
        panel.text(0.08, k + 0.5, said, fontsize=8, family="monospace", va="center")
    title = f"What {label(best['params'])} knows only from training on it: the {len(texts)} most memorized windows"
    caption = (
        "Before each its memorization: the share of its tokens that are right when trained on it, less that when "
        "held out."
    )
    return Drawing("most_memorized", title, caption, made)


def _show(panel: Axes, example: np.ndarray) -> None:
    if example.ndim == 1:
        panel.plot(example, color="black", linewidth=1)
        return
    image = example if example.ndim == 2 else np.moveaxis(example, 0, -1)
    span = float(image.max() - image.min()) or 1.0
    shown = (image - image.min()) / span
    panel.imshow(
        shown[..., 0] if shown.ndim == 3 and shown.shape[-1] == 1 else shown, cmap="gray_r"
    )


# -- the attack -------------------------------------------------------------------------------------


def membership_roc(evidence: Evidence) -> Drawing | None:
    """How many members an attacker finds at how few false alarms, in logarithms, as the few are what counts."""
    chosen = _chosen(evidence, "membership_auc", "confidence")
    if not chosen:
        return None
    made, axes = figure(1, 1, 3.6)
    panel = axes[0, 0]
    panel.plot(
        [LEAST_RATE, 1], [LEAST_RATE, 1], color=MUTED, linewidth=1, linestyle=":", label="guessing"
    )
    title = ""
    for k, (record, why) in enumerate(chosen):
        arrays = evidence.arrays(record)
        confidence = arrays["confidence"].astype(np.float64)
        member = np.unpackbits(arrays["member"], axis=1, count=confidence.shape[1]).astype(bool)
        attack = membership.lira(confidence, member)
        fpr, tpr = _thinned(attack.roc.fpr, attack.roc.tpr)
        panel.plot(
            fpr,
            tpr,
            color=SERIES[k],
            linestyle=DASHES[k],
            linewidth=1.6,
            drawstyle="steps-post",
            label=f"{why}: {shorten(label(record['params']), 32)}, AUC {cell(record, 'membership_auc')}",
        )
        if not title:
            title = (
                f"At 1 % false alarms an attacker finds {100 * attack.tpr(0.01):.1f} % of the members of "
                f"{label(record['params'])} (AUC {cell(record, 'membership_auc')})"
            )
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(LEAST_RATE, 1)
    panel.set_ylim(LEAST_RATE, 1.1)
    panel.set_xlabel("false alarms (share of non-members called members)")
    panel.set_ylabel("members found (share)")
    panel.legend(loc="lower right")
    caption = (
        "Likelihood-ratio attack (LiRA) with the other replicas as shadow models, all pairs of model and "
        "example pooled; 0.5 is the AUC of guessing."
    )
    return Drawing("membership_roc", title, caption, made)


def _thinned(fpr: np.ndarray, tpr: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """The curve at evenly spaced logarithms, so that a picture stays small."""
    grid = np.geomspace(LEAST_RATE, 1, points)
    at = np.searchsorted(fpr, grid, side="right") - 1
    return grid, tpr[np.maximum(at, 0)]
