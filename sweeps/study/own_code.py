"""A person's own code: which of it a study names, and where it is looked for.

The study file's folder comes first, then the current one, before anything that is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import Values
from engram.sweeps.study.values import IMPORT_PATH

PREFIXES = ("openml", "idx", "npz", "csv", "parquet")  # of data.name, where no module is meant
KEYS = ("data.name", "model.family")  # that take an import path


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
