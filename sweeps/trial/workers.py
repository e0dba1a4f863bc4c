"""How many workers share the replicas of a trial, where a study leaves that open."""

from __future__ import annotations

from engram.models.learners import kinds
from engram.sweeps.study.configuration import Study

LEAST = 8  # replicas of each worker: with fewer, starting it costs more than it saves


def workers(study: Study, trials: int | None, slots: int) -> int:
    """As the study says; auto: those that would stand idle. trials: left to train, None: nobody knows; slots: workers
    that have room at the same time."""
    asked = study.resources.workers
    if asked != "auto":
        return asked
    if not trials or study.retained_at_once:
        return 1
    families = map(str, study.taken("model.family"))
    least = 1 if all(kinds.of(family) is not None for family in families) else LEAST
    return max(1, min(slots // trials, study.replicas.count // least))
