"""What is wrong with a drawn figure, from the boxes and styles of what is on it: texts over each other, series alike."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.5  # pixels that boxes may share
ALIKE = 0.12  # distance of colours, of 1.7


def faults(figure: Figure) -> list[str]:
    """Every fault, in words; empty where there is none."""
    FigureCanvasAgg(figure).draw()
    return [*_texts(figure), *_panels(figure), *_legends(figure), *_alike(figure)]


def _boxes(figure: Figure) -> list[tuple[str, Bbox, Text]]:
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    found = []
    unseen = _unseen(figure)
    for text in figure.findobj(Text):
        said = text.get_text().strip()
        if not said or not text.get_visible() or id(text) in unseen:
            continue
        found.append((said, text.get_window_extent(renderer), text))
    return found


def _unseen(figure: Figure) -> set[int]:
    """Labels of ticks beyond the ends of an axis: objects that are not drawn."""
    unseen: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = axis._update_ticks() if axes.axison and axes.get_visible() else []
            seen = {id(label) for tick in drawn for label in (tick.label1, tick.label2)}
            every = [*axis.majorTicks, *axis.minorTicks]
            unseen |= {id(t) for tick in every for t in (tick.label1, tick.label2)} - seen
    return unseen


def _overlap(a: Bbox, b: Bbox) -> bool:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > SLACK and height > SLACK


def _texts(figure: Figure) -> list[str]:
    boxes = _boxes(figure)
    found = [
        f"{a!r} lies over {b!r}"
        for (a, first, one), (b, second, other) in itertools.combinations(boxes, 2)
        if one is not other and _overlap(first, second)
    ]
    width, height = figure.canvas.get_width_height()
    for said, box, _ in boxes:
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK:
            found.append(f"{said!r} is cut off by the edge")
    return found


def _panels(figure: Figure) -> list[str]:
    """Texts that belong to one panel and lie in another."""
    found = []
    for said, box, text in _boxes(figure):
        for axes in figure.axes:
            if text.axes in (None, axes) or not axes.get_visible():
                continue
            if _overlap(box, axes.get_window_extent()):
                found.append(f"{said!r} lies in another panel")
    return found


def _legends(figure: Figure) -> list[str]:
    """Legends over points of the data."""
    found = []
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None:
            continue
        box = legend.get_window_extent()
        for line in axes.get_lines():
            if line.get_label().startswith("_child") and line.get_marker() in ("None", None, ""):
                continue
            points = axes.transData.transform(np.column_stack(line.get_data()).astype(float))
            inside = [box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in points]
            if any(inside) and line.get_transform() is not None:
                found.append(f"a legend lies over {sum(inside)} points of {line.get_label()!r}")
    return found


def _alike(figure: Figure) -> list[str]:
    """Series of one legend that look the same: colours near each other, and the same dashes, marker and hatch."""
    found = []
    legends = [legend for axes in figure.axes if (legend := axes.get_legend())]
    for legend in [*legends, *figure.legends]:
        # Of bars with errors the legend keeps the errors alone: the line itself says more.
        lines = {
            bars.get_label(): bars.lines[0]
            for axes in figure.axes
            for bars in axes.containers
            if isinstance(bars, ErrorbarContainer) and bars.lines[0] is not None
        }
        series = [
            (text, lines.get(text.get_text(), handle))
            for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=False)
        ]
        for (a, first), (b, second) in itertools.combinations(series, 2):
            one, other = _style(first), _style(second)
            near = np.linalg.norm(np.subtract(one[0], other[0])) < ALIKE
            if near and one[1:] == other[1:]:
                found.append(f"{a.get_text()!r} and {b.get_text()!r} look alike")
    return found


def _style(handle: Any) -> tuple[tuple[float, float, float], str, str, str]:
    """(colour, dashes, marker, hatch or fill) of what a legend shows."""
    parts = _parts(handle)
    line = next(
        (p for kind in ("get_marker", "get_linestyle") for p in parts if hasattr(p, kind)), handle
    )
    colour = getattr(line, "get_color", getattr(line, "get_facecolor", lambda: "black"))()
    if hasattr(line, "get_segments"):  # the bars of an errorbar
        colour = line.get_color()
    plain = np.asarray(
        to_rgb(
            np.asarray(colour).reshape(-1, 4)[0] if not isinstance(colour, str | tuple) else colour
        )
    )
    dashes = str(line.get_linestyle())
    marker = str(getattr(line, "get_marker", lambda: "")())
    fill = str(getattr(line, "get_markerfacecolor", lambda: "")()) in ("white", "none")
    hatch = f"{getattr(line, 'get_hatch', lambda: '')()}{fill}"
    return (float(plain[0]), float(plain[1]), float(plain[2])), dashes, marker, hatch


def _parts(handle: Any) -> list[Any]:
    inner = handle.get_children() if hasattr(handle, "get_children") else []
    return [*inner, handle] if not hasattr(handle, "get_linestyle") else [handle]
