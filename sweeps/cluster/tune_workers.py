"""Tune's actors in the workers that are there: the one place that changes a private table of Tune's.

Tune gives its actors an environment of their own, for Lightning. The workers that Ray has started by then have
none: they would be ended, and others started, which takes as long as torch takes to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune.execution import class_cache


@contextmanager
def as_they_are() -> Iterator[None]:
    """Let Tune ask for actors without an environment of their own."""
    defaults, propagated = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    before = dict(defaults), set(propagated)
    defaults.clear()
    propagated.clear()
    try:
        yield
    finally:
        defaults.update(before[0])
        propagated.update(before[1])
