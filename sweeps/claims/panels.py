"""What the picture of a claim shows, as values: which measures, in which panels, along which setting.

`pictures` draws them. Light: imports nothing that draws.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """What the axis says, the measures it shows, and what the legend calls them where not as usual."""

    title: str
    measures: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Along:
    """Measures along a swept axis; split: one line for each value of another."""

    axis: str
    panels: tuple[Panel, ...]
    split: str | None = None


@dataclass(frozen=True)
class Each:
    """Measures of each trial, one below the other under its own name."""

    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Drawn:
    """A picture of its own: a function of `pictures`, by name."""

    function: str


Picture = Along | Each | Drawn

ERRORS = Panel("error", ("test_error", "train_error"))
TEST = Panel("test error", ("test_error",))
GAP = Panel("gap", ("generalization_gap",))
PARTS = Panel("Brier score", ("bias2", "variance"))
MEMORIZATION = Panel("memorization", ("memorization",))
