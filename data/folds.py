"""Folds: one of several parts of the rows is the test set, and a sweep over data.fold has each of them be it once."""

from __future__ import annotations

import numpy as np

from engram.data import splits
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw
from engram.data.targets import Targets

_SEED = (20210, 4)


def column(config: DataConfig) -> str | None:
    """The column that names the folds, where one does."""
    return config.folds if isinstance(config.folds, str) else None


def split(
    raw: Raw, config: DataConfig, targets: Targets
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Row numbers of the pool and of the test set, one fold, in their fixed order; what was decided."""
    if config.folds is None:
        fix = "write data.folds, a number or a column"
        raise DataError("data.fold", config.fold, "names one fold, and there are none", fix)
    others = {"split": raw.parts, "order": raw.times, "test": raw.test_inputs}
    for key, found in others.items():
        if found is not None:
            rule = "each row is tested once, and " + (
                "time has one direction" if key == "order" else "the data have a split of their own"
            )
            raise DataError("data.folds", config.folds, rule, "keep one of them")
    inside, note = _test_rows(raw, config, targets.labels)
    mixed = splits.order(len(raw.targets))
    pool, test = mixed[~inside[mixed]], mixed[inside[mixed]]
    targets.refuse_unlearned(raw, config, pool)
    return pool, test, [note]


def _test_rows(raw: Raw, config: DataConfig, labels: np.ndarray | None) -> tuple[np.ndarray, str]:
    """(bool [n], which rows are the fold that data.fold names; what was decided). Raises DataError.

    A number of folds: whole groups, or classes in proportion, or rows in the fixed order are dealt out. A column: its
    own values are the folds."""
    if isinstance(config.folds, str):
        assert raw.folds is not None
        names, coded = np.unique(raw.folds, return_inverse=True)
        if len(names) < 2:
            raise DataError("data.folds", config.folds, "has one value", "name a column of folds")
        asked = _asked(config, names.tolist())
        inside = coded == asked
        if raw.groups is not None:
            sides = raw.groups[~inside], raw.groups[inside]
            splits.refuse_shared("data.groups", str(config.groups), *sides, "this fold and others")
        return inside, _note(inside, f"{names[asked]} of {config.folds}")
    count, rows = int(config.folds or 0), len(raw.targets)
    units = rows if raw.groups is None else len(np.unique(raw.groups))
    if units < count:
        what = "rows" if raw.groups is None else f"groups of {config.groups}"
        raise DataError("data.folds", count, f"there are {units} {what}", f"write at most {units}")
    asked = _asked(config, [str(fold) for fold in range(1, count + 1)])
    said = f"{asked + 1} of {count}"
    if raw.groups is not None:
        return (inside := _dealt(raw.groups, count) == asked), _note(
            inside, f"{said}, whole groups"
        )
    mixed = splits.order(rows)
    if labels is not None:  # dealt out class by class
        mixed = mixed[np.argsort(labels[mixed], kind="stable")]
        said += ", each class in proportion"
    inside = np.zeros(rows, bool)
    inside[mixed[asked::count]] = True
    return inside, _note(inside, said)


def _asked(config: DataConfig, names: list[str]) -> int:
    """The place of the fold that is asked for; the first where none is."""
    if config.fold is None:
        return 0
    if str(config.fold) not in names:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise DataError("data.fold", config.fold, "is none of the folds", f"write one of {shown}")
    return names.index(str(config.fold))


def _dealt(groups: np.ndarray, count: int) -> np.ndarray:
    """The fold of each row, folds of about one size: the largest group first, each to the smallest fold so far."""
    coded, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    drawn = np.random.default_rng(_SEED).permutation(len(sizes))
    of, total = np.empty(len(sizes), np.int64), np.zeros(count, np.int64)
    for group in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        of[group] = total.argmin()
        total[of[group]] += sizes[group]
    return of[coded]


def _note(inside: np.ndarray, said: str) -> str:
    return f"test: fold {said}; {int(inside.sum()):,} of {len(inside):,} rows"
