"""A person's own code: which of it a study names, and where it is looked for.

The study file's folder comes first, then the current one, before anything that is installed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from engram.data.sources import SOURCES
from engram.problems import nearest
from engram.sweeps.state.names import Wrong
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import Values
from engram.sweeps.study.values import IMPORT_PATH

PREFIXES = frozenset(source.prefix for source in SOURCES)  # of data.name, where no module is meant
KEYS = (  # that take an import path
    "data.name",
    "data.augmentation",
    "model.family",
    "training.optimizer",
    "training.loss",
    "training.schedule",
)


def named(study: Study) -> Iterator[str]:
    """The import paths (`package.module:thing`) in the study."""
    for key in KEYS:
        section, _, name = key.partition(".")
        axis = study.sweep.get(key)
        values = (
            axis.values if isinstance(axis, Values) else (getattr(getattr(study, section), name),)
        )
        for value in map(str, values):
            if IMPORT_PATH.fullmatch(value) and value.partition(":")[0] not in PREFIXES:
                yield value
    yield from functions(study)


def functions(study: Study) -> list[str]:
    """Those of `measures.own` that are functions of the person's."""
    return [name for name in study.measures.own if IMPORT_PATH.fullmatch(name)]


def find(path: str) -> tuple[Any, Wrong]:
    """(what an import path names, None), or (None, why it cannot be had and what to do)."""
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        return None, (
            f"cannot be imported: no module '{error.name}'",
            f"run from the folder that holds {module_name.partition('.')[0]}, or install it",
        )
    except Exception as error:  # whatever the user's module raises
        return None, (
            f"cannot be imported: {type(error).__name__}: {error}",
            f"mend {module_name} until `import {module_name}` works",
        )
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = nearest(part, [name for name in vars(found) if not name.startswith("_")])
            fix = f"did you mean '{close}'?" if close else ""
            return None, (f"names no '{part}' in {module_name}", fix)
        found = getattr(found, part)
    return found, None


def folders(study: Study) -> list[str]:
    """Where the study's own code is looked for, the first place first; [] where it names none."""
    if next(named(study), None) is None:
        return []
    found = [] if study.path is None else [str(study.path.resolve().parent)]
    return list(dict.fromkeys([*found, os.getcwd()]))


def make_importable(study: Study) -> None:
    """Put those folders first on this process's path."""
    wanted = folders(study)
    sys.path[:] = [*wanted, *(entry for entry in sys.path if entry not in wanted)]
