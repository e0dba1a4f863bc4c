"""Tune's actors in the workers that are there: the one place that changes a private table of Tune's.

Tune gives its actors an environment of their own, for Lightning. The workers that Ray has started by then have
none: they would be ended, and others started, which takes as long as torch takes to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune.execution import class_cache

PATH = "PYTHONPATH"


@contextmanager
def importing(path: str) -> Iterator[None]:
    """Let actors look for modules there: those of a Ray that was started without knowing of us."""
    class_cache.DEFAULT_ENV_VARS[PATH] = path
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS.pop(PATH, None)


@contextmanager
def as_they_are() -> Iterator[None]:
    """Let Tune ask for actors without an environment of their own, but for the path that `importing` gives them."""
    defaults, propagated = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    before = dict(defaults), set(propagated)
    for name in before[0].keys() - {PATH}:
        del defaults[name]
    propagated.clear()
    try:
        yield
    finally:
        defaults.update(before[0])
        propagated.update(before[1])
