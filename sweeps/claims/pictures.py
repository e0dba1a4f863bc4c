"""One picture for each claim: the measures that its answer quotes, with their intervals."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from engram.sweeps.claims import beyond, catalog
from engram.sweeps.claims.panels import ERRORS, Along, Drawn, Each, Panel, Picture
from engram.sweeps.results import across, words
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.figures import examples
from engram.sweeps.results.figures.style import (
    DASHES,
    MARKERS,
    RC,
    SERIES,
    Drawing,
    bars,
    figure,
    half_width,
    is_log,
    mean_of,
    render,
    value_text,
)
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import title_of
from engram.sweeps.study.configuration import label

COLOURS = 48
MOST_TICKS = 5
LEGEND_CHARACTERS = 100  # that fit below a figure
TICK_CHARACTERS = 52  # that fit below all panels together
CAPTION = "Means over replicas with 95 % intervals."


def draw(name: str, evidence: Evidence, title: str) -> bytes | None:
    """The picture of a claim as a small PNG; None where its trials do not support one."""
    with rc_context(RC):
        made = _made(catalog.row(name).picture, evidence)
        if made is None:
            return None
        return _small(render(Drawing(name, title, made[1], made[0])).png)


def _small(png: bytes) -> bytes:
    """The same picture in COLOURS colours: a repository keeps every version of it."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(COLOURS).save(out, "PNG", optimize=True)
    return out.getvalue()


Made = tuple[Figure, str] | None


def _made(picture: Picture, evidence: Evidence) -> Made:
    match picture:
        case Along():
            return _along(picture, evidence)
        case Each():
            return _each(picture.panels, evidence)
        case Drawn():
            return OWN[picture.function](evidence)


def _names(panel: Panel) -> list[tuple[str, str]]:
    """The measures of a panel, each with what the legend calls it."""
    return list(zip(panel.measures, panel.words or map(title_of, panel.measures), strict=True))


def _order(panels: Sequence[Panel]) -> list[str]:
    """The measures of all panels: one look each, the same in every panel."""
    return list(dict.fromkeys(measure for panel in panels for measure in panel.measures))


def _along(picture: Along, evidence: Evidence) -> Made:
    axis, split = picture.axis, picture.split
    there = [r for r in evidence.completed if axis in r["params"]]
    if len(there) < 2:
        return None
    made, axes = figure(1, len(picture.panels), 2.7)
    order = _order(picture.panels)
    for place, panel in zip(axes[0], picture.panels, strict=True):
        groups = [(value, [r for r in there if r["params"][split] == value]) for value in evidence.values(split)] if split else [(None, there)]  # fmt: skip
        for k, (value, records) in enumerate(groups):
            for measure, name in _names(panel):
                j = order.index(measure)
                said = [] if value is None else [label({split or "": value})]
                said += [name] if len(order) > 1 else []
                _line(place, axis, records, measure, " · ".join(said), k if split else j, j)
        place.set_ylabel(panel.title)
    told = axes[0] if len(picture.panels) < 3 else axes[0][len(picture.panels) // 2 :][:1]
    for place in told:
        place.set_xlabel(words.axis_title(axis))
    _legends(made, axes[0])
    return made, CAPTION


def _legends(made: Figure, places: Sequence[Axes]) -> None:
    """One legend below all panels, with everything that any of them shows, in as many columns as fit."""
    told: dict[str, Any] = {}
    for place in places:
        handles, names = place.get_legend_handles_labels()
        told |= dict(zip(names, handles, strict=True))
    if len(told) < 2:
        return
    columns = max(1, LEGEND_CHARACTERS // (max(map(len, told)) + 8))
    made.legend(
        told.values(), told.keys(), loc="outside lower center", ncols=min(columns, len(told))
    )


def _line(
    place: Axes,
    axis: str,
    records: Sequence[Record],
    measure: str,
    name: str,
    k: int,
    j: int | None = None,
) -> None:
    """One measure along an axis; a number's place is its value, a word's its turn.

    k: of its colour; j: of its dashes and marker, the same without it."""
    j = k if j is None else j
    shown = [r for r in records if not math.isnan(mean_of(r, measure))]
    values = [r["params"][axis] for r in shown]
    numeric = all(map(is_number, values))
    if numeric:
        shown = sorted(shown, key=lambda r: r["params"][axis])
        values = [r["params"][axis] for r in shown]
    x = values if numeric else range(len(shown))
    place.errorbar(
        x,
        [mean_of(r, measure) for r in shown],
        bars(shown, measure),
        color=SERIES[k % len(SERIES)],
        marker=MARKERS[
            (j + j // len(SERIES)) % len(MARKERS)
        ],  # those that share a colour differ in the rest
        linestyle=DASHES[(j + j // len(SERIES)) % len(DASHES)] if numeric else "none",
        markersize=4,
        linewidth=1.3,
        label=name,
    )
    if not numeric:
        told = [value_text(v) for v in values]
        place.set_xticks(range(len(shown)), told)
        if sum(map(len, told)) > TICK_CHARACTERS / len(place.figure.axes):
            place.tick_params(axis="x", rotation=40)
        place.margins(x=0.2)
    elif is_log(values):
        place.set_xscale("log")
        ticks = values[:: -(-len(values) // MOST_TICKS)]
        place.set_xticks(ticks, [_tick(v) for v in ticks])
        place.xaxis.set_minor_formatter(NullFormatter())


def _few_ticks(axis: Axis, values: Sequence[float]) -> None:
    """Of an axis in logarithm: powers of ten, and twice and five times those where there are few."""
    wide = max(values) > 300 * min(values)
    axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    """10k, 1M; small numbers as they are."""
    for size, unit_ in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * size or (value >= size and value % size == 0):
            return f"{value / size:g}{unit_}"
    return value_text(value)


def _each(panels: Sequence[Panel], evidence: Evidence) -> Made:
    there = evidence.completed
    if not there:
        return None
    made, axes = figure(1, len(panels), 1.0 + 0.3 * len(there), sharey=True)
    names = [label({k: r["params"][k] for k in evidence.axes if k in r["params"]}) for r in there]
    order = _order(panels)
    for place, panel in zip(axes[0], panels, strict=True):
        for measure, name in _names(panel):
            j = order.index(measure)
            shown = [(k, r) for k, r in enumerate(there) if not math.isnan(mean_of(r, measure))]
            place.errorbar(
                [mean_of(r, measure) for _, r in shown],
                [k for k, _ in shown],
                xerr=bars([r for _, r in shown], measure),
                color=SERIES[j % len(SERIES)],
                marker=MARKERS[(j + j // len(SERIES)) % len(MARKERS)],
                linestyle="none",
                markersize=4,
                label=name,
            )
        place.set_xlabel(panel.title)
    _legends(made, axes[0])
    axes[0, 0].set_yticks(range(len(there)), names)
    axes[0, 0].invert_yaxis()
    return made, CAPTION


def _weight_decay(evidence: Evidence) -> Made:
    """Both strengths, each beside none of it."""
    made, axes = figure(1, 2, 2.7, sharey=True)
    keys = ("training.weight_decay", "training.l1")
    for place, key, other in zip(axes[0], keys, keys[::-1], strict=True):
        records = [r for r in evidence.completed if not r["params"].get(other)]
        if len(records) < 2:
            return None
        for k, measure in enumerate(ERRORS.measures):
            _line(place, key, records, measure, title_of(measure), k)
        smallest = min(r["params"][key] for r in records if r["params"][key])
        place.set_xscale("symlog", linthresh=smallest)
        place.set_xlabel(words.axis_title(key))
    axes[0, 0].set_ylabel("error")
    _legends(made, axes[0])
    return made, CAPTION + " The leftmost point has neither."


def _fitted(evidence: Evidence) -> Made:
    """Shares of the labels that are predicted, over the epochs, for each share of wrong ones."""
    there = [r for r in evidence.completed if "fitted_wrong_curve" in evidence.arrays(r)]
    if not there:
        return None
    made, axes = figure(1, len(there), 2.7, sharey=True)
    names = (
        ("clean", "right labels"),
        ("wrong", "wrong labels"),
        ("true", "the true class of the wrong ones"),
    )
    for place, record in zip(axes[0], there, strict=True):
        arrays = evidence.arrays(record)
        for k, (name, told) in enumerate(names):
            curve = arrays[f"fitted_{name}_curve"]
            place.plot(
                arrays["epochs"],
                curve.mean(axis=1),
                color=SERIES[k],
                linestyle=DASHES[k],
                label=told,
            )
        place.set_title(label(record["params"]), loc="left")
        place.set_xlabel("epochs")
    axes[0, 0].set_ylabel("share predicted")
    _legends(made, axes[0])
    return (
        made,
        "Share of the training examples whose given label is predicted, mean over replicas; for examples with a wrong label also the share given their true class.",
    )


def _capacity(evidence: Evidence) -> Made:
    networks = [n for n in across.held(evidence.completed) if n.capacity.interval.mean > 0]
    if not networks:
        return None
    made, axes = figure(1, 2, 2.8)
    for k, width in enumerate(evidence.values("model.width")[: len(SERIES)]):
        records = [r for r in evidence.completed if r["params"]["model.width"] == width]
        name = f"width {width}"
        _line(axes[0, 0], across.SIZE, records, "train_error", name, k)
    axes[0, 0].set_xlabel("random labels")
    axes[0, 0].set_ylabel("train error")
    _legends(made, axes[0])
    axes[0, 1].errorbar(
        [n.parameters for n in networks],
        [n.capacity.interval.mean for n in networks],
        [n.capacity.interval.half_width for n in networks],
        color=SERIES[0],
        marker="o",
        linestyle="-",
    )
    axes[0, 1].set_xscale("log")
    axes[0, 1].set_yscale("log")
    _few_ticks(axes[0, 1].xaxis, [n.parameters for n in networks])
    _few_ticks(axes[0, 1].yaxis, [n.capacity.interval.mean for n in networks])
    axes[0, 1].set_xlabel("parameters")
    axes[0, 1].set_ylabel(f"labels fitted to {across.FITTED:.0%}")
    return made, CAPTION


def _layers(evidence: Evidence) -> Made:
    there = [r for r in evidence.completed if r.get("layers")]
    if not there:
        return None
    made, axes = figure(1, 2, 2.8, sharey=True)
    kinds = (("reinit", "set back to its start"), ("rerandom", "drawn anew"))
    for place, (kind, how) in zip(axes[0], kinds, strict=True):
        for k, record in enumerate(there[: len(SERIES)]):
            count = len(record["layers"])
            names = [f"{kind}_layer{number + 1}_excess" for number in range(count)]
            place.errorbar(
                np.linspace(0, 1, count),
                [mean_of(record, name) for name in names],
                [half_width(record["measures"].get(name)) for name in names],
                color=SERIES[k],
                marker=MARKERS[k],
                linestyle=DASHES[k],
                markersize=4,
                label=label(record["params"]),
            )
        place.axhline(0, color="black", linewidth=0.8)
        place.set_title(f"one layer {how}", loc="left")
        place.set_xlabel("place of the layer (0: first, 1: read-out)")
    axes[0, 0].set_ylabel("accuracy lost on wrong labels,\nminus on right ones")
    _legends(made, axes[0])
    return made, CAPTION


def _flatness(evidence: Evidence) -> Made:
    """The gap of each trial that fits its examples, by the sharpness of its minimum and by its norm."""
    there = beyond.fitting(evidence.completed)
    if len(there) < 2:
        return None
    made, axes = figure(1, 2, 2.8, sharey=True)
    for place, measure in zip(axes[0], ("sharpness", "weight_norm"), strict=True):
        for k, size in enumerate(evidence.values("training.batch_size")[: len(SERIES)]):
            records = [r for r in there if r["params"]["training.batch_size"] == size]
            place.errorbar(
                [mean_of(r, measure) for r in records],
                [mean_of(r, "generalization_gap") for r in records],
                bars(records, "generalization_gap"),
                color=SERIES[k],
                marker=MARKERS[k],
                linestyle="none",
                markersize=4,
                label=f"batches of {size}",
            )
        place.set_xscale("log")
        _few_ticks(place.xaxis, [mean_of(r, measure) for r in there])
        place.set_xlabel(title_of(measure))
    axes[0, 0].set_ylabel("generalization gap")
    _legends(made, axes[0])
    return made, "Trials that fit their examples. " + CAPTION


def _examples(evidence: Evidence) -> Made:
    made = examples.most_memorized(evidence)
    return None if made is None else (made.figure, made.caption)


OWN: dict[str, Callable[[Evidence], Made]] = {
    "weight_decay": _weight_decay,
    "capacity": _capacity,
    "fitted": _fitted,
    "flatness": _flatness,
    "memorized": _examples,
    "layers": _layers,
}
