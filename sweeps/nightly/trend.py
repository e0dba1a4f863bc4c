"""The trend of a study over its nights: error and gap, night by night, and what happened when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from engram.sweeps.nightly.entries import DONE, Entry
from engram.sweeps.results.figures.style import (
    DASHES,
    MARKERS,
    MUTED,
    RC,
    SERIES,
    Drawing,
    Picture,
    figure,
    half_width,
    render,
    shorten,
)
from engram.sweeps.results.tables import title_of
from engram.sweeps.study.configuration import label

PANELS = ("test_error", "generalization_gap")
WORSE, LOST = "#D55E00", "#767676"


def trend(study: str, known: Sequence[Entry]) -> Picture | None:
    """Test error and gap of the best configurations by night, with 95 % intervals over replicas.

    A ring marks a regression, a dotted line a change of data, a dashed one of code or versions, a cross
    on the axis a night that was missed or failed. None before the second night.
    """
    ran = [entry for entry in known if entry.state == DONE and entry.measures]
    if len(ran) < 2:
        return None
    with rc_context(RC):
        return render(_drawing(study, known, ran))


def _drawing(study: str, known: Sequence[Entry], ran: list[Entry]) -> Drawing:
    made, axes = figure(len(PANELS), 1, 4.8, sharex=True)
    chosen = _chosen(ran)
    for panel, measure in zip(axes[:, 0], PANELS, strict=True):
        for k, params in enumerate(chosen):
            _line(panel, ran, params, measure, k)
        _events(panel, known)
        panel.set_ylabel(title_of(measure))
    bottom = axes[-1, 0]
    bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))  # whole days, however few
    bottom.xaxis.set_major_formatter(dates.DateFormatter("%d %b"))
    handles, names = axes[0, 0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    made.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=2)
    caption = (
        "Means with 95 % intervals over replicas, which say how far another draw of subsets and seeds "
        "would move them; nights share draws and seeds, so that a change between nights is known far better."
    )
    return Drawing("nights", _title(study, known, ran), caption, made)


def _chosen(ran: list[Entry]) -> list[dict[str, Any]]:
    """Up to four configurations: those that have moved for the worse, then the best of the newest night."""
    moved = [
        change["params"]
        for entry in reversed(ran)
        for change in entry.judgement.get("changes", [])
        if change["kind"] == "regression"
    ]
    best = [trial["params"] for trial in ran[-1].measures]
    unique = {label(params): params for params in [*best[:1], *moved, *best]}
    return list(unique.values())[: len(SERIES)]


def _line(panel: Axes, ran: list[Entry], params: dict[str, Any], measure: str, k: int) -> None:
    points = []
    for entry in ran:
        trial = next((t for t in entry.measures if t["params"] == params), None)
        found = trial["measures"].get(measure) if trial else None
        if found:
            points.append((entry, found))
    if not points:
        return
    when = np.array([_moment(entry) for entry, _ in points])
    means = np.array([found["mean"] for _, found in points])
    half = np.array([half_width(found) for _, found in points])
    panel.plot(
        when,
        means,
        DASHES[k],
        marker=MARKERS[k],
        markersize=3.5,
        color=SERIES[k],
        linewidth=1.3,
        label=shorten(label(params), 34),
    )
    panel.fill_between(when, means - half, means + half, color=SERIES[k], alpha=0.12, linewidth=0)
    worse = [
        j
        for j, (entry, _) in enumerate(points)
        for change in entry.judgement.get("changes", [])
        if change["kind"] == "regression"
        and change["measure"] == measure
        and change["params"] == params
    ]
    if worse:
        panel.plot(
            when[worse],
            means[worse],
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=WORSE,
            markeredgewidth=1.8,
            label="regression",
        )


def _events(panel: Axes, known: Sequence[Entry]) -> None:
    for entry in known:
        when = _moment(entry)
        causes = entry.judgement.get("causes", [])
        if "data" in causes:
            panel.axvline(when, color=MUTED, linestyle=":", linewidth=1.0, label="new data")
        if {"code", "versions", "study"} & set(causes):
            panel.axvline(
                when, color=MUTED, linestyle="--", linewidth=0.7, label="code or versions"
            )
        if entry.state != DONE:
            panel.plot(
                [when],
                [0.0],
                "x",
                color=LOST,
                transform=panel.get_xaxis_transform(),
                clip_on=False,
                markersize=6,
                label="missed or failed",
            )


def _moment(entry: Entry) -> float:
    """A night on the axis: its own time of day, whatever clocks did."""
    return float(dates.date2num(entry.at.replace(tzinfo=None)))


def _title(study: str, known: Sequence[Entry], ran: list[Entry]) -> str:
    worse = [e for e in ran if e.judgement.get("verdict") == "regression"]
    span = f"{study}: {len(known)} nights to {known[-1].at:%Y-%m-%d}"
    if not worse:
        return f"{span}, no regression"
    counted = "1 regression" if len(worse) == 1 else f"{len(worse)} regressions"
    return f"{span}, {counted}, the last on {worse[-1].at:%Y-%m-%d}"
