"""Numbers in sentences: as many digits as their interval tells.

Boards and pages have columns, and so places that are fixed; a sentence has one number.
"""

from __future__ import annotations

import math

from engram.measures.intervals import Interval


def amount(change: Interval) -> str:
    """The size of a change with its half-width: 0.243 ± 0.021."""
    if not change.known:
        return short(abs(change.mean))
    half = change.half_width
    return f"{decimals(abs(change.mean), half)} ± {decimals(half, half)}"


def interval(found: Interval) -> str:
    """A mean with its half-width."""
    half = found.half_width
    return (
        f"{decimals(found.mean, half)} ± {decimals(half, half)}"
        if found.known
        else short(found.mean)
    )


def decimals(value: float, half: float) -> str:
    """A number to two digits of its half-width; three decimals tell what boards tell, more only below that."""
    places = 3
    if math.isfinite(half) and half > 0:
        places = max(0, min(3, 1 - math.floor(math.log10(half))))
        if 1e-9 < half < 5e-4:
            places = min(6, 1 - math.floor(math.log10(half)))
    return f"{value:,.{places}f}"


def signed(change: Interval) -> str:
    """A change with its sign: +0.012 ± 0.004; nothing but zeros has none."""
    text = amount(change)
    if float(text.partition(" ")[0].replace(",", "")) == 0:
        return text
    return f"{'−' if change.mean < 0 else '+'}{text}"


def short(value: float) -> str:
    """A number of which no interval is known: two digits."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"
