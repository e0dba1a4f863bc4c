"""Which of several candidates are not beaten in everything at once."""

from __future__ import annotations

from typing import Any

from engram.measures import arrays


def front(points: Any) -> list[int]:
    """Indices of the points that no other point dominates, in order of their first coordinate.

    points: [N, K], every coordinate the smaller the better (negate what is to be maximized); a point is
    dominated when another is at least as good in all coordinates and better in one. Equal points
    stay together. Refuses NaN. Source: Pareto order; Deb et al. 2002, NSGA-II, definition 1."""
    values = arrays.floats(points, "points", ndim=2)
    kept = [
        i
        for i, point in enumerate(values)
        if not ((values <= point).all(axis=1) & (values < point).any(axis=1)).any()
    ]
    return [int(i) for i in sorted(kept, key=lambda i: tuple(values[i]))] if len(values) else []
