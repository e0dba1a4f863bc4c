"""Who comes first and who was stopped: intervals with tie groups, the Pareto front, the scheduler's saving."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from engram.measures import catalog
from engram.sweeps.results.boards import Board
from engram.sweeps.results.columns import beside, column, superlative
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures.style import (
    BAND,
    BIAS,
    GAP,
    MUTED,
    TEST,
    Drawing,
    bars,
    error_unit,
    figure,
    legend_above,
    mean_of,
    shorten,
)
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import title_of
from engram.sweeps.study.configuration import label

MOST_ROWS = 24
MOST_BARS = 40
CHARACTER, LINE = 0.0125, 0.06  # of a name on the front, in shares of the panel


def leaderboard(evidence: Evidence) -> Drawing | None:
    """The first rows of the selecting board, with intervals; tie groups are shaded in turn."""
    board = evidence.board
    rows = [row for row in board.rows if row.tie_group is not None][:MOST_ROWS] if board else []
    if board is None or len(rows) < 2:
        return None
    made, axes = figure(1, 1, 1.0 + 0.24 * len(rows))
    panel = axes[0, 0]
    places = range(len(rows))
    for place, row in enumerate(rows):
        if row.tie_group and row.tie_group % 2:
            panel.axhspan(place - 0.5, place + 0.5, color=BAND, zorder=0)
    for name, colour, marker, filled, shift in _shown(board, evidence.records):
        panel.errorbar(
            [mean_of(row.record, name) for row in rows],
            [place + shift for place in places],
            xerr=bars([row.record for row in rows], name),
            linestyle="none",
            color=colour,
            marker=marker,
            markersize=4.5,
            markerfacecolor=colour if filled else "white",
            label=title_of(name),
        )
    panel.set_yticks(places, [shorten(f"{r.rank}  {label(r.record['params'])}", 42) for r in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)
    shares = column(board.by, evidence.records).unit == catalog.ERROR
    panel.set_xlabel(error_unit(evidence.regression) if shares else title_of(board.by))
    legend_above(panel)
    more = len(board.rows) - len(rows)
    caption = (
        "Means with 95 % intervals over replicas. Rows with the same shading are one tie group: compared "
        "replica by replica, they cannot be told apart from its first."
        + (f" {more} more trials are ranked below." if more else "")
    )
    return Drawing("leaderboard", _tie_title(board, evidence.records), caption, made)


def _shown(board: Board, records: list[Record]) -> list[tuple[str, str, str, bool, float]]:
    on_test = beside(board.by, records)
    if on_test == board.by:
        return [(board.by, BIAS, "o", True, 0.0)]
    return [(board.by, BIAS, "o", True, -0.15), (on_test, TEST, "s", False, 0.15)]


def _tie_title(board: Board, records: list[Record]) -> str:
    best = superlative(board.by, records)
    first = [row for row in board.rows if row.tie_group == 1]
    compared = sum(row.tie_group is not None for row in board.rows)
    if len(first) == 1:
        return f"{label(first[0].record['params'])} has the {best} {title_of(board.by)} of {compared}, clearly"
    return f"{len(first)} of {compared} configurations tie for the {best} {title_of(board.by)}"


# -- two quantities at once -------------------------------------------------------------------------


def pareto(evidence: Evidence) -> Drawing | None:
    """The objectives of a search with several, else bias² against variance; the front is joined."""
    objectives = dict(evidence.study.search.objective) if evidence.study else {}
    if len(objectives) >= 2:
        names, source = list(objectives)[:2], "selection"
        signs = [1 if objectives[name] == "min" else -1 for name in names]
    else:
        names, source, signs = ["bias2", "variance"], "measures", [1, 1]
    points = [(r, _point(r, names, source)) for r in evidence.completed]
    points = [(r, p) for r, p in points if all(map(math.isfinite, p))]
    if len(points) < 4:
        return None
    front = pareto_front([[s * v for s, v in zip(signs, p, strict=True)] for _, p in points])
    made, axes = figure(1, 1, 3.6)
    panel = axes[0, 0]
    rest = [p for k, (_, p) in enumerate(points) if k not in front]
    if rest:
        panel.plot(*zip(*rest, strict=True), "o", color=MUTED, markersize=4, label="beaten on both")
    ordered = sorted((points[k] for k in front), key=lambda point: point[1])
    xs, ys = zip(*(p for _, p in ordered), strict=True)
    panel.plot(xs, ys, "s--", color=TEST, markersize=6, linewidth=1, label="not beaten")
    panel.margins(x=0.16, y=0.12)
    _name_points(panel, [(record, point) for record, point in ordered])
    if source == "measures":
        _risk_lines(panel, [p for _, p in points])
    places = ["validation set", "test set"]
    panel.set_xlabel(f"{title_of(names[0])} ({places[source == 'measures']})")
    panel.set_ylabel(f"{title_of(names[1])} ({places[source == 'measures']})")
    legend_above(panel)
    title = (
        f"{len(front)} of {len(points)} configurations are not beaten on both "
        f"{title_of(names[0])} and {title_of(names[1])}"
    )
    caption = "The Pareto front: on it, less of one costs more of the other." + (
        " Grey lines join points of equal risk." if source == "measures" else ""
    )
    return Drawing("pareto", title, caption, made)


def _name_points(panel: Axes, points: list[tuple[Record, tuple[float, float]]]) -> None:
    """Names beside points of the front, left out where one would lie over another."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for record, (x, y) in points:
        name = shorten(label(record["params"]), 30)
        across, up = (x - left) / (right - left), (y - bottom) / (top - bottom)
        wide = len(name) * CHARACTER
        on_left = across > 0.5
        start = across - wide if on_left else across
        for above in (True, False):
            height = up + (0.02 if above else -LINE)
            if start < 0 or start + wide > 1:
                continue
            if any(abs(height - h) < LINE and start < b and a < start + wide for a, b, h in taken):
                continue
            taken.append((start - 0.01, start + wide + 0.01, height))
            panel.annotate(
                name,
                (x, y),
                textcoords="offset points",
                xytext=(-5 if on_left else 5, 5 if above else -11),
                ha="right" if on_left else "left",
                fontsize=7,
            )
            break


def _point(record: Record, names: list[str], source: str) -> tuple[float, float]:
    if source == "measures":
        return mean_of(record, names[0]), mean_of(record, names[1])
    first, second = (record["selection"].get(name, math.nan) for name in names)
    return first, second


def pareto_front(points: list[list[float]]) -> list[int]:
    """Indices of points that no other point beats: lower is better in every coordinate."""
    table = np.array(points, dtype=float)
    beaten = [((table <= p).all(axis=1) & (table < p).any(axis=1)).any() for p in table]
    return [k for k, is_beaten in enumerate(beaten) if not is_beaten]


def _risk_lines(panel, points: list[tuple[float, float]]) -> None:
    risks = [sum(p) for p in points]
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim(), autoscale_on=False)
    for risk in np.linspace(min(risks), max(risks), 4):
        panel.axline((risk, 0), slope=-1, color="#CCCCCC", linewidth=0.8, zorder=0)


# -- the scheduler ----------------------------------------------------------------------------------


def stopping(evidence: Evidence) -> Drawing | None:
    """Epochs each trial trained of those it was given, and what stopping early saved."""
    study = evidence.study
    if study is None or not (study.prunes or study.training.early_stopping):
        return None
    planned, trained, records = [], [], []
    for record in evidence.records:
        if record["status"] == "failed" or not record.get("epochs"):
            continue
        planned.append(study.configure(record["params"]).epochs)
        trained.append(record["epochs"])
        records.append(record)
    if not records:
        return None
    saved = 1 - sum(trained) / sum(planned)
    stopped = sum(r["status"] == "pruned" for r in records)
    if len(records) <= MOST_BARS:
        made = _bars(records, trained, planned)
    else:
        made = _survival(trained, planned)
    diverged = sum(r["status"] == "diverged" for r in records)
    title = (
        f"{stopped or 'None'} of {len(records)} trials {'was' if stopped < 2 else 'were'} stopped by the scheduler"
        + (f" and {diverged} diverged" if diverged else "")
        + f": {100 * max(0.0, saved):.0f} % of the epochs were not trained"
    )
    caption = (
        "Solid: epochs trained; outlined: epochs given up. Trials in the order they were proposed."
    )
    if len(records) > MOST_BARS:
        caption = "Trials still training after each epoch; the hatched area is what was saved."
    return Drawing("stopping", title, caption, made)


def _bars(records: list[Record], trained: list[int], planned: list[int]):
    made, axes = figure(1, 1, 1.1 + 0.2 * len(records))
    panel = axes[0, 0]
    places = np.arange(len(records))
    panel.barh(places, planned, 0.62, facecolor="none", edgecolor="#AAAAAA", linewidth=0.7)
    colours = [BIAS if r["status"] == "completed" else MUTED for r in records]
    panel.barh(places, trained, 0.62, color=colours)
    for place, record, epochs in zip(places, records, trained, strict=True):
        if record["status"] != "completed":
            panel.annotate(
                record["status"],
                (epochs, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
    panel.set_yticks(
        places, [shorten(f"{r['trial']}  {label(r['params'])}", 40) for r in records], fontsize=7
    )
    panel.set_ylim(len(records) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("epochs trained")
    return made


def _survival(trained: list[int], planned: list[int]):
    made, axes = figure(1, 1, 3.0)
    panel = axes[0, 0]
    epochs = np.arange(max(planned) + 1)
    alive = np.array([sum(t >= e for t in trained) for e in epochs])
    given = np.array([sum(p >= e for p in planned) for e in epochs])
    panel.fill_between(
        epochs, alive, step="pre", color=BIAS, alpha=0.35, linewidth=0, label="trained"
    )
    panel.fill_between(
        epochs,
        alive,
        given,
        step="pre",
        facecolor="none",
        edgecolor="#999999",
        hatch="///",
        linewidth=0,
        label="saved",
    )
    panel.step(epochs, alive, where="pre", color=GAP, linewidth=1.2)
    panel.set_xlabel("epoch")
    panel.set_ylabel("trials still training")
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper right")
    return made
