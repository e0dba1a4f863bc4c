"""Which of the trials before it a question of a long search looks at, where the sampler would look at all (TPE)."""

from __future__ import annotations

LATEST = 500  # trials that are seen at least, where there are as many
STEP = 100  # the window moves by so many at a time
BEST = 25  # of those before it, which is how many TPE calls good at most
SAID = f"each question looks at the latest {LATEST} to {LATEST + STEP} trials and the {BEST} best before them"


def first(number: int) -> int:
    """The first of the latest trials that the question for this one looks at."""
    return max(0, (number - LATEST) // STEP * STEP)
