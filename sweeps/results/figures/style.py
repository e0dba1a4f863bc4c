"""How pictures look, and how they become files: colours that survive grey and colour blindness.

Line style, marker and hatch say what colour says. Figures are narrow, so that a phone shows their text.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text

from engram.sweeps.results import columns
from engram.sweeps.results.evidence import is_number

# Okabe & Ito's palette, in an order that also falls in lightness.
TRAIN, TEST, BIAS, VARIANCE, GAP = "#0072B2", "#D55E00", "#0072B2", "#E69F00", "#000000"
MUTED, GRID, BAND = "#767676", "#DDDDDD", "#F2F2F2"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
DASHES = ("-", "--", "-.", ":")
WIDTH = 6.6  # inches: read at arm's length on paper, and on a phone
TITLE_CHARACTERS = 74
TITLE_LINE = 0.19  # inches
LONGEST_VALUE = 18  # characters beside a tick
MANY = 400  # points of one series, beyond which they are drawn as pixels

RC: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "hatch.linewidth": 0.6,
    "errorbar.capsize": 2.5,
    "figure.dpi": 150,
    "text.hinting": "no_hinting",
}


@dataclass(frozen=True)
class Picture:
    """A finished picture. title: what it finds; caption: how to read it. The PNG has its title written
    above it; the SVG stands beside text that says it."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes


@dataclass(frozen=True)
class Drawing:
    """A figure before it is rendered."""

    name: str
    title: str
    caption: str
    figure: Figure


def figure(
    rows: int = 1, columns: int = 1, height: float = 3.4, **options: Any
) -> tuple[Figure, Any]:
    """A figure of house width, and its axes as an array [rows, columns]."""
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options)


def render(drawing: Drawing) -> Picture:
    """The picture as PNG and SVG. It is laid out once: the SVG is the same, cut below the title."""
    made = drawing.figure
    title, strip = lay_out(drawing)
    _dots_as_pixels(made)
    png = _save(made, "png", drawing.name)
    title.set_visible(False)
    return Picture(
        drawing.name,
        drawing.title,
        drawing.caption,
        png,
        _cut(_save(made, "svg", drawing.name), strip),
    )


def _dots_as_pixels(made: Figure) -> None:
    """Points and bars too many to be told apart as pixels, the rest as vectors: a page of any size of study is sent by mail."""
    for axes in made.axes:
        for drawn in axes.get_children():
            if isinstance(drawn, Line2D):
                many = len(np.asarray(drawn.get_xydata()))
            else:
                many = len(drawn.get_paths()) if isinstance(drawn, LineCollection) else 0
                many = (
                    len(np.asarray(drawn.get_offsets()))
                    if isinstance(drawn, PathCollection)
                    else many
                )
            if many > MANY:
                drawn.set_rasterized(True)


def lay_out(drawing: Drawing) -> tuple[Text, float]:
    """Put the title above the figure, and everything in its place: (the title, its height in inches)."""
    made = drawing.figure
    lines = textwrap.wrap(drawing.title, TITLE_CHARACTERS)
    height, strip = made.get_figheight(), 0.08 + TITLE_LINE * len(lines)
    made.set_figheight(height + strip)
    engine = made.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, height / (height + strip)))
        for _ in range(2):  # the second pass knows how long the labels are
            engine.execute(made)
    title = made.text(
        0.01,
        1 - 0.05 / (height + strip),
        "\n".join(lines),
        va="top",
        fontsize=10,
        fontweight="bold",
    )
    made.set_layout_engine("none")
    return title, strip


def _save(made: Figure, kind: str, salt: str) -> bytes:
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": salt}):
        names = ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
        metadata = dict.fromkeys(names)
        # Not savefig, which draws everything twice to find out how large it is.
        if kind == "svg":
            FigureCanvasSVG(made).print_svg(out, metadata=metadata)
        else:
            FigureCanvasAgg(made).print_png(out, metadata=metadata)
    return out.getvalue()


def _cut(svg: bytes, inches: float) -> bytes:
    """The SVG without its topmost inches."""
    text, points = svg.decode(), 72 * inches
    width, height = map(float, re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    text = text.replace(f'height="{height:g}pt"', f'height="{height - points:.4f}pt"', 1)
    text = re.sub(
        r'viewBox="[^"]*"',
        f'viewBox="0 {points:.4f} {width:g} {height - points:.4f}"',
        text,
        count=1,
    )
    return text.encode()


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend where no data can be."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=columns,
        borderaxespad=0.2,
        columnspacing=1.2,
    )


def error_unit(regression: bool) -> str:
    return "mean squared error" if regression else "error (share wrong)"


def value_text(value: Any) -> str:
    if value is None:
        return "off"
    return f"{value:.4g}" if isinstance(value, float) else shorten(str(value), LONGEST_VALUE)


def is_log(values: Sequence[Any]) -> bool:
    """Whether an axis of these values wants a logarithm."""
    numbers = [v for v in values if is_number(v)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 15


def half_width(measure: dict[str, float | None] | None) -> float:
    """Half the interval of a recorded measure, 0 where it is unknown: nothing is drawn then."""
    if not measure or measure["low"] is None or measure["high"] is None:
        return 0.0
    return (measure["high"] - measure["low"]) / 2


def bars(records: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """Error bars of a measure [2, N], below and above the means, no farther than it can be; 0 where unknown."""
    found = np.zeros((2, len(records)))
    for k, record in enumerate(records):
        measure = record["measures"].get(name)
        if measure and None not in (measure["low"], measure["high"]):
            low, high = columns.ends(record, name, measure)
            found[:, k] = max(0.0, measure["mean"] - low), max(0.0, high - measure["mean"])
    return found


def mean_of(record: dict[str, Any], name: str) -> float:
    measure = record["measures"].get(name)
    return math.nan if not measure else float(measure["mean"])


def shorten(text: str, characters: int) -> str:
    """In so many characters: classes without their modules, then cut."""
    if len(text) > characters:
        text = re.sub(r"[\w.]+:(?=\w)", "", text)
    return text if len(text) <= characters else text[: characters - 1] + "…"
