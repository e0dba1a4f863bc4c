"""What the swept settings do: gap, bias² and variance against an axis, a map over two, and importance."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from engram.measures import catalog, importance
from engram.sweeps.results import tables, words
from engram.sweeps.results.columns import superlative
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.figures.style import (
    BIAS,
    GAP,
    MUTED,
    VARIANCE,
    Drawing,
    bars,
    figure,
    mean_of,
    shorten,
    value_text,
)
from engram.sweeps.results.record import Record, difference
from engram.sweeps.results.tables import title_of
from engram.sweeps.search import shares
from engram.sweeps.study.configuration import label

MOST_VALUES = 10  # of an axis drawn as bars; beyond it, every trial is a point
MOST_COLUMNS = 4
MOST_AXES = 4
TICK_CHARACTERS = 66  # that fit below all panels together
FEWEST_FOR_IMPORTANCE = 10
STACK = ("generalization_gap", "bias2", "variance")


def stacked(evidence: Evidence) -> list[Drawing]:
    """One picture per swept axis."""
    drawings = [_stacked(evidence, axis) for axis in evidence.axes[:MOST_AXES]]
    return [drawing for drawing in drawings if drawing]


def _stacked(evidence: Evidence, axis: str) -> Drawing | None:
    there = [r for r in evidence.completed if all(r["measures"].get(m) for m in STACK)]
    values = evidence.values(axis, there) if there else []
    if len(values) < 2 or evidence.best is None:
        return None
    if len(values) <= MOST_VALUES:
        return _bars(evidence, axis, values, there)
    return _points(evidence, axis, there) if all(map(is_number, values)) else None


def _bars(evidence: Evidence, axis: str, values: list, there: list[Record]) -> Drawing | None:
    columns = _slices(evidence, axis, there)
    if not columns:
        return None
    made, axes = figure(2, len(columns), 4.2, sharex=True, sharey="row")
    for k, (name, column) in enumerate(columns):
        by_value = {repr(r["params"].get(axis)): r for r in column}
        places = [p for p, v in enumerate(values) if repr(v) in by_value]
        records = [by_value[repr(values[p])] for p in places]
        top, bottom = axes[0, k], axes[1, k]
        top.errorbar(
            places,
            [mean_of(r, "generalization_gap") for r in records],
            bars(records, "generalization_gap"),
            color=GAP,
            marker="o",
            markersize=4,
            linestyle="-",
            linewidth=1,
        )
        bias = np.array([mean_of(r, "bias2") for r in records])
        variance = np.array([mean_of(r, "variance") for r in records])
        bottom.bar(places, bias, 0.6, color=BIAS, edgecolor="white", label=title_of("bias2"))
        bottom.bar(
            places,
            variance,
            0.6,
            bottom=np.maximum(bias, 0),
            color=VARIANCE,
            edgecolor="white",
            hatch="///",
            label=title_of("variance"),
        )
        bottom.set_xticks(range(len(values)), _thinned(values, len(columns)))
        top.set_title(shorten(name, 30), loc="left")
        bottom.grid(axis="x", visible=False)
    axes[0, 0].set_ylim(bottom=min(0, axes[0, 0].get_ylim()[0]))  # the rows share their scale
    axes[0, 0].set_ylabel("generalization gap\n(test − train error)")
    axes[1, 0].set_ylabel("risk (squared error)" if evidence.regression else "risk (Brier score)")
    made.supxlabel(words.axis_title(axis), fontsize=9)
    axes[1, -1].legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.16), borderaxespad=0)
    caption = (
        "Above, the generalization gap with its 95 % interval over replicas; below, bias² and variance on "
        "the test set, which add up to the risk."
    )
    return Drawing(f"axis_{axis}", _finding(evidence, axis, values, columns), caption, made)


def _thinned(values: list, panels: int) -> list[str]:
    """What stands below the bars of one of so many panels: every label, or those that fit."""
    room = TICK_CHARACTERS / panels / len(values)
    told, end = [], -math.inf
    for place, text in enumerate(value_text(v) for v in values):
        half = (len(text) + 1) / 2 / room
        fits = place - half >= end
        told.append(text if fits else "")
        end = place + half if fits else end
    return told


def _slices(evidence: Evidence, axis: str, there: list[Record]) -> list[tuple[str, list[Record]]]:
    """Trials that differ in this axis alone, in up to four columns: [(name, records)]."""
    best = evidence.best
    assert best is not None
    others = [key for key in evidence.axes if key != axis]
    if len(others) == 1 and len(evidence.values(others[0], there)) <= MOST_COLUMNS:
        groups = []
        for value in evidence.values(others[0], there):
            column = [r for r in there if repr(r["params"].get(others[0])) == repr(value)]
            groups.append((label({others[0]: value}), column))
    else:
        held = {key: best["params"].get(key) for key in others}
        column = [
            r for r in there if all(repr(r["params"].get(k)) == repr(v) for k, v in held.items())
        ]
        groups = [(label(held) if held else "", column)]
    return [(name, column) for name, column in groups if len(column) >= 2]


def _finding(
    evidence: Evidence, axis: str, values: list, columns: list[tuple[str, list[Record]]]
) -> str:
    """What going from one end of the axis to the other does, where the best trial is."""
    name, column = next(
        ((n, c) for n, c in columns if any(r is evidence.best for r in c)), columns[0]
    )
    ordered = sorted(
        column, key=lambda r: [repr(v) for v in values].index(repr(r["params"].get(axis)))
    )
    first, last = ordered[0], ordered[-1]
    words = []
    for measure in STACK:
        found = catalog.get(measure)
        word = f"the {found.short}" if found.short else found.title
        moved = difference(last, first, measure)
        a, b = mean_of(first, measure), mean_of(last, measure)
        if moved is not None and moved.excludes(0):
            words.append(f"{word} {'falls' if b < a else 'rises'} from {a:.3f} to {b:.3f}")
        else:
            words.append(f"{word} does not clearly change ({a:.3f}, {b:.3f})")
    ends = f"{label({axis: first['params'].get(axis)})} to {value_text(last['params'].get(axis))}"
    return f"From {ends}" + (f", at {name}" if name else "") + ": " + ", ".join(words)


def _points(evidence: Evidence, axis: str, there: list[Record]) -> Drawing:
    """Every trial a point, for an axis with many values."""
    made, axes = figure(1, 3, 2.9)
    x = np.array([float(r["params"][axis]) for r in there])
    for panel, measure in zip(axes[0], STACK, strict=True):
        y = np.array([mean_of(r, measure) for r in there])
        error = bars(there, measure)
        panel.errorbar(
            x,
            y,
            error,
            linestyle="none",
            marker="o",
            markersize=3,
            color=GAP,
            ecolor="#AAAAAA",
            elinewidth=0.8,
            capsize=0,
        )
        if len(there) >= 12:
            middle = _running_median(x, y)
            panel.plot(*middle, color=BIAS, linewidth=2, zorder=3)  # above the points
        if evidence.scale(axis) == "log":
            panel.set_xscale("log")
        panel.set_title(title_of(measure), loc="left")
    axes[0, 0].set_ylabel("on the test set")
    made.supxlabel(words.axis_title(axis), fontsize=9)
    best, board = evidence.best, evidence.board
    assert best is not None
    assert board is not None
    title = (
        f"The {superlative(board.by, evidence.records)} {title_of(board.by)}, "
        f"{tables.cell(best, board.by)}, is at {label({axis: best['params'].get(axis)})}"
    )
    caption = (
        "Each point is a trial with its 95 % interval; other settings vary too. The line is the median of "
        "neighbouring trials."
    )
    return Drawing(f"axis_{axis}", title, caption, made)


def _running_median(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x)
    parts = np.array_split(order, max(3, len(x) // 5))
    return np.array([np.median(x[p]) for p in parts]), np.array([np.median(y[p]) for p in parts])


# -- two axes ---------------------------------------------------------------------------------------


def heat_map(evidence: Evidence) -> Drawing | None:
    """The selecting measure over the two axes that matter most."""
    board, best = evidence.board, evidence.best
    if board is None or best is None or len(evidence.axes) < 2:
        return None
    completed = [r for r in evidence.completed if not math.isnan(mean_of(r, board.by))]
    first, second = _two_axes(evidence, completed, board.by)
    xs, ys = evidence.values(first, completed), evidence.values(second, completed)
    if len(xs) < 2 or len(ys) < 2:
        return None
    tied = sum(row.tie_group == 1 for row in board.rows)
    title = (
        f"The {superlative(board.by, evidence.records)} {title_of(board.by)}, {tables.cell(best, board.by)}, is at {label(best['params'])}"
        + (f", tied with {tied - 1} other{'s' if tied > 2 else ''}" if tied > 1 else "")
    )
    held = {k: best["params"].get(k) for k in evidence.axes if k not in (first, second)}
    at = [r for r in completed if all(repr(r["params"].get(k)) == repr(v) for k, v in held.items())]
    if len(xs) <= MOST_VALUES and len(ys) <= MOST_VALUES and 2 * len(at) > len(xs) * len(ys):
        return _cells(board.by, (first, xs), (second, ys), at, best, held, title)
    if len(completed) >= 3 and all(map(is_number, [*xs, *ys])):
        scales = evidence.scale(first), evidence.scale(second)
        return _cloud(board.by, first, second, completed, best, title, scales)
    return None


def _two_axes(evidence: Evidence, completed: list[Record], by: str) -> tuple[str, str]:
    if len(evidence.axes) == 2 or len(completed) < 4:
        return evidence.axes[0], evidence.axes[1]
    values = [mean_of(r, by) for r in completed]
    told = importance.effects(_settings(evidence, completed), values)
    ranked = sorted(evidence.axes, key=lambda key: told[key].beside)
    return ranked[0], ranked[1]


def _cells(
    by: str,
    across: tuple[str, list],
    up: tuple[str, list],
    at: list[Record],
    best: Record,
    held: dict[str, Any],
    title: str,
) -> Drawing | None:
    """A grid of cells with the numbers written in."""
    places = {(repr(r["params"].get(across[0])), repr(r["params"].get(up[0]))): r for r in at}
    table = np.full((len(up[1]), len(across[1])), math.nan)
    for (i, y), (j, x) in itertools.product(enumerate(up[1]), enumerate(across[1])):
        record = places.get((repr(x), repr(y)))
        if record:
            table[i, j] = mean_of(record, by)
    if np.isfinite(table).sum() < 3:
        return None
    made, axes = figure(1, 1, max(2.9, 1.3 + 0.42 * len(up[1])))
    panel = axes[0, 0]
    image = panel.imshow(table, cmap="cividis", aspect="auto", origin="lower")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for i, j in np.argwhere(np.isfinite(table)):
        record = places[repr(across[1][j]), repr(up[1][i])]
        panel.text(
            j,
            i,
            f"{table[i, j]:.3f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if table[i, j] < middle else "black",
            fontweight="bold" if record is best else "normal",
        )
    panel.set_xticks(range(len(across[1])), [value_text(v) for v in across[1]])
    panel.set_yticks(range(len(up[1])), [value_text(v) for v in up[1]])
    panel.grid(visible=False)
    panel.set_xlabel(words.axis_title(across[0]))
    panel.set_ylabel(words.axis_title(up[0]))
    made.colorbar(image, ax=panel, label=title_of(by))
    where = f" Held as in the best trial: {label(held)}." if held else ""
    caption = f"Mean {title_of(by)} of each pair of values; {_shade(by, at)}.{where}"
    return Drawing("map", title, caption, made)


def _cloud(
    by: str,
    across: str,
    up: str,
    completed: list[Record],
    best: Record,
    title: str,
    scales: tuple[str, str],
) -> Drawing:
    """Every trial a point, coloured by its value."""
    made, axes = figure(1, 1, 3.6)
    panel = axes[0, 0]
    x = [float(r["params"][across]) for r in completed]
    y = [float(r["params"][up]) for r in completed]
    shades = [mean_of(r, by) for r in completed]
    cloud = panel.scatter(x, y, c=shades, cmap="cividis", s=40, edgecolors="black", linewidths=0.4)
    panel.plot(
        float(best["params"][across]),
        float(best["params"][up]),
        marker="o",
        markersize=13,
        markerfacecolor="none",
        markeredgecolor="black",
        markeredgewidth=1.8,
    )
    if scales[0] == "log":
        panel.set_xscale("log")
    if scales[1] == "log":
        panel.set_yscale("log")
    panel.set_xlabel(words.axis_title(across))
    panel.set_ylabel(words.axis_title(up))
    made.colorbar(cloud, ax=panel, label=title_of(by))
    caption = (
        f"Each point is a completed trial; {_shade(by, completed)}; the ring is the best trial."
    )
    return Drawing("map", title, caption, made)


def _shade(by: str, records: list[Record]) -> str:
    """How the colours are read."""
    good = "dark is low" if superlative(by, records) == "lowest" else "light is high"
    return f"{good}, which is good"


# -- importance -------------------------------------------------------------------------------------


def parameter_importance(evidence: Evidence) -> Drawing | None:
    """How much of the differences between trials each axis explains by itself, and whether it is told from nothing."""
    by = evidence.board.by if evidence.board else ""
    completed = [r for r in evidence.completed if not math.isnan(mean_of(r, by))]
    if len(evidence.axes) < 2 or len(completed) < FEWEST_FOR_IMPORTANCE:
        return None
    settings, values = _settings(evidence, completed), [mean_of(r, by) for r in completed]
    found, told = shares.shares(settings, values), importance.effects(settings, values)
    ranked = sorted(evidence.axes, key=lambda key: found[key].mean)
    made, axes = figure(1, 1, 1.4 + 0.34 * len(ranked))
    panel = axes[0, 0]
    names = [_named(key, told[key].word) for key in ranked]
    colors = [BIAS if told[key].word == "told" else MUTED for key in ranked]
    panel.barh(
        names, [100 * found[key].mean for key in ranked], 0.55, color=colors, edgecolor="white"
    )
    for place, key in enumerate(ranked):
        ends = 100 * found[key].low, 100 * found[key].high
        panel.plot(ends, [place, place], color="black", linewidth=1.2)
    panel.set_xlim(0, 100)
    panel.set_xlabel(f"share of the variance of {title_of(by)} between trials (%)")
    panel.grid(axis="y", visible=False)
    large = [key for key in reversed(ranked) if told[key].word == "told"]
    if large:
        share = 100 * found[large[0]].mean
        title = f"{words.axis_title(large[0]).capitalize()} explains {share:.0f} % of the differences in {title_of(by)}"
    else:
        title = f"No setting is shown to move the {title_of(by)} by itself"
    left_out = len(evidence.records) - len(completed)
    rest = 100 * max(0.0, 1 - sum(share.mean for share in found.values()))
    caption = (
        f"Shares of single settings by Optuna's fANOVA (a random forest over {len(completed)} completed trials), with the "
        f"middle nine tenths of forests that saw other trials; {rest:.0f} % is interaction, or what the forest does not "
        "explain. Grey: not told from a setting that does nothing, by an F test beside the other settings, 5 % for all of "
        "them together; confounded: told alone, but the search moved it together with others."
        + (f" {left_out} trials that did not complete are left out." if left_out else "")
    )
    return Drawing("importance", title, caption, made)


def _named(key: str, word: str) -> str:
    return f"{words.axis_title(key)} ({word})" if word != "told" else words.axis_title(key)


def _settings(evidence: Evidence, completed: list[Record]) -> dict[str, list[Any]]:
    return {key: [r["params"].get(key) for r in completed] for key in evidence.axes}
