"""Metrics, params and tags of one run, sent in batches as large as MLflow takes.

A batch that is refused is halved until the entry that it was refused for stands alone: one bad entry takes no
other with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

METRICS_PER_BATCH, ENTRIES_PER_BATCH = 1000, 100  # MLflow's limits
LONGEST_PARAM, LONGEST_TAG = 6000, 8000
DIGITS = 6  # of a number among the params: what reads it exactly is the study file
Point = tuple[str, float, int, int]  # (name, value, time_ms, step)


def word(value: Any) -> str:
    """A param as it is shown: numbers in six digits, cut where it is longer than MLflow takes."""
    if isinstance(value, float):
        return str(float(f"{value:.{DIGITS}g}"))
    return str(value)[:LONGEST_PARAM]


def same(known: str, new: str) -> bool:
    """Whether two params say the same; an older version wrote all the digits of a number."""
    if known == new:
        return True
    try:
        return word(float(known)) == word(float(new))
    except ValueError:
        return False


def log(
    client: Any,
    run_id: str,
    metrics: Sequence[Point],
    params: dict[str, str],
    tags: dict[str, Any],
    hopeless: Callable[[Exception], bool],
    refuse: Callable[[str, str, Any, Exception], None],
) -> None:
    """Send them. hopeless(error): whether this batch will never be taken, as others would; refuse(kind, name,
    value, error): sets the one entry aside, or raises."""
    from mlflow.entities import Metric, Param, RunTag

    points = [Metric(name, value, time_ms, step) for name, value, time_ms, step in metrics]
    words = [Param(key, value) for key, value in params.items()]
    labels = [RunTag(key, str(value)[:LONGEST_TAG]) for key, value in tags.items()]

    def part(kind: str, entries: Sequence[Any]) -> None:
        try:
            client.log_batch(run_id, **{kind: entries})
        except Exception as error:
            if not hopeless(error):
                raise
            if len(entries) == 1:
                refuse(kind, entries[0].key, entries[0].value, error)
                return
            middle = len(entries) // 2
            part(kind, entries[:middle])
            part(kind, entries[middle:])

    if len(words) <= ENTRIES_PER_BATCH >= len(labels) and (
        len(points) + len(words) + len(labels) <= METRICS_PER_BATCH
    ):
        if not (points or words or labels):
            return
        try:
            client.log_batch(run_id, points, words, labels)
            return
        except Exception as error:
            if not hopeless(error):
                raise
    for kind, entries, most in (
        ("params", words, ENTRIES_PER_BATCH),
        ("metrics", points, METRICS_PER_BATCH),
        ("tags", labels, ENTRIES_PER_BATCH),
    ):
        for start in range(0, len(entries), most):
            part(kind, entries[start : start + most])
