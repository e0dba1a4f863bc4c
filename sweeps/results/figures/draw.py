"""All pictures that make sense for an execution. One that cannot be drawn is logged and left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from matplotlib import rc_context

from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures import curves, examples, ranking, size, sweep
from engram.sweeps.results.figures.style import RC, Drawing, Picture, render

log = logging.getLogger(__name__)

# In the order a reader wants them.
PICTURES: tuple[Callable[[Evidence], Drawing | list[Drawing] | None], ...] = (
    ranking.leaderboard,
    curves.learning_curves,
    sweep.stacked,
    size.size_curve,
    sweep.heat_map,
    sweep.parameter_importance,
    ranking.pareto,
    examples.memorization_histogram,
    examples.most_memorized,
    examples.membership_roc,
    ranking.stopping,
)


def draw(evidence: Evidence) -> list[Picture]:
    """Every picture the evidence supports, finished."""
    with rc_context(RC):
        return [picture for make in PICTURES for picture in _tried(make, evidence)]


def _tried(
    make: Callable[[Evidence], Drawing | list[Drawing] | None], evidence: Evidence
) -> Iterator[Picture]:
    try:
        made = make(evidence)
        drawings = made if isinstance(made, list) else [made] if made else []
        for drawing in drawings:
            yield render(drawing)
    except Exception:
        log.exception("picture %s of %s", make.__name__, evidence.name)


def save(pictures: list[Picture], folder: Path) -> list[Path]:
    """Each picture as NAME.png and NAME.svg; returns the PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        (folder / f"{picture.name}.svg").write_bytes(picture.svg)
        (folder / f"{picture.name}.png").write_bytes(picture.png)
    return [folder / f"{picture.name}.png" for picture in pictures]
