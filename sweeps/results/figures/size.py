"""Error against dataset size, with a power law and what it predicts for more data."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from engram.measures import scaling
from engram.measures.scaling import PowerLaw
from engram.sweeps.results import words
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures.style import (
    DASHES,
    MARKERS,
    SERIES,
    Drawing,
    bars,
    error_unit,
    figure,
    mean_of,
    shorten,
    value_text,
)
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import label

SIZE = "data.train_size"
FEWEST_POINTS = 3
MOST_CURVES = 4
FURTHER = 4  # times the largest size measured


def size_curve(evidence: Evidence) -> Drawing | None:
    """Test error by dataset size, one curve for each setting of the other axes, the best first."""
    curves = size_fits(evidence)
    if not curves:
        return None
    made, axes = figure(1, 1, 3.6)
    panel = axes[0, 0]
    for k, (name, records, fit) in enumerate(curves):
        _curve(panel, records, fit, name, k)
    sizes = sorted({r["params"][SIZE] for _, records, _ in curves for r in records})
    if any(fit.identified for _, _, fit in curves):
        sizes.append(sizes[-1] * FURTHER)
    panel.set_xscale("log")
    panel.set_xticks(sizes, [value_text(size) for size in sizes], minor=False)
    panel.xaxis.set_minor_formatter(lambda *_: "")
    panel.set_ylim(bottom=0)
    panel.set_xlabel(words.axis_title(SIZE))
    panel.set_ylabel(f"test {error_unit(evidence.regression)}")
    panel.legend(loc="best")
    caption = (
        "Points are means with 95 % intervals over replicas; lines are fits of error = α·n^β + γ, dotted "
        f"beyond the largest size; the band is the fit's 95 % interval, drawn up to {FURTHER} times that size "
        "where the data identify the fit."
    )
    return Drawing("dataset_size", _title(*curves[0]), caption, made)


def size_fits(evidence: Evidence) -> list[tuple[str, list[Record], PowerLaw]]:
    """(name of the other settings, trials by size, fit) of up to four curves, lowest error first."""
    there = [
        r for r in evidence.completed if r["params"].get(SIZE) and r["measures"].get("test_error")
    ]
    others = [key for key in evidence.axes if key != SIZE]
    groups: dict[str, list[Record]] = {}
    for record in there:
        rest = {key: record["params"].get(key) for key in others}
        groups.setdefault(label(rest) if rest else "", []).append(record)
    found = []
    for name, records in groups.items():
        by_size = {r["params"][SIZE]: r for r in records}
        ordered = [by_size[size] for size in sorted(by_size)]
        if len(ordered) >= FEWEST_POINTS:
            found.append((name, ordered, _fit(ordered)))
    found.sort(key=lambda curve: min(mean_of(r, "test_error") for r in curve[1]))
    return found[:MOST_CURVES]


def _fit(records: list[Record]) -> PowerLaw:
    sizes = [r["params"][SIZE] for r in records]
    columns = [r["replica_values"].get("test_error", []) for r in records]
    if all(columns) and len({len(c) for c in columns}) == 1:
        return scaling.power_law(sizes, np.array(columns))
    return scaling.power_law(sizes, [mean_of(r, "test_error") for r in records])


def _curve(panel: Axes, records: list[Record], fit: PowerLaw, name: str, k: int) -> None:
    sizes = np.array([r["params"][SIZE] for r in records], dtype=float)
    colour = SERIES[k]
    panel.errorbar(
        sizes,
        [mean_of(r, "test_error") for r in records],
        bars(records, "test_error"),
        linestyle="none",
        marker=MARKERS[k],
        markersize=4.5,
        color=colour,
        label=shorten(name, 40) or "test error",
    )
    inside = np.geomspace(sizes[0], sizes[-1], 60)
    panel.plot(inside, fit(inside), color=colour, linestyle=DASHES[k], linewidth=1.4)
    if not fit.identified:
        return
    beyond = np.geomspace(sizes[-1], sizes[-1] * FURTHER, 30)
    panel.plot(beyond, fit(beyond), color=colour, linestyle=":", linewidth=1.4)
    ends = [fit.predict(n) for n in np.concatenate([inside[::6], beyond[::5], beyond[-1:]])]
    at = np.concatenate([inside[::6], beyond[::5], beyond[-1:]])
    if all(end.known for end in ends):
        panel.fill_between(
            at, [e.low for e in ends], [e.high for e in ends], color=colour, alpha=0.15, linewidth=0
        )


def _title(name: str, records: list[Record], fit: PowerLaw) -> str:
    first, last = records[0], records[-1]
    at = f" ({name})" if name else ""
    fell = (
        f"Test error goes from {mean_of(first, 'test_error'):.3f} at n = {first['params'][SIZE]} to "
        f"{mean_of(last, 'test_error'):.3f} at n = {last['params'][SIZE]}{at}"
    )
    if not fit.identified:
        return f"{fell}; a power law is not identified: {fit.reason}"
    further = int(last["params"][SIZE] * FURTHER)
    return f"{fell}; the fit, exponent {fit.beta_interval}, predicts {fit.predict(further)} at n = {further}"
