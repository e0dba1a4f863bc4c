"""From arrays as found to a Dataset: checks, classes, test split, order, standardization.

Every array that a person brings passes here; what cannot be learned from is refused with its place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engram.data import categories, folds, indices, numbered, scaling, several, splits
from engram.data.config import DataConfig
from engram.data.dataset import KINDS, DataError, Dataset, Division, assemble, digest
from engram.data.inputs import has_text, numbers, read, rows_of, shaped
from engram.data.raw import Raw, bad, one_input
from engram.data.targets import (
    NONE,
    Targets,
    labelled,
    positions,
    refuse_hidden_classes,
    values_of,
)

LOOKED_FOR_REPEATS = 200_000  # examples up to which the test set is compared with the pool


def tidy(raw: Raw, config: DataConfig, pool_size: int | None) -> Dataset:
    """Check, split, order and cut. Without a test set, a sixth of the rows (or test_size) is one.

    Rows are put in one fixed random order, so that the first k are a random sample of them.
    """
    raw = replace(raw, inputs=shaped(raw.inputs, "x", config))
    _same_length(raw.inputs, raw.targets, "x", "y", config)
    own_test = raw.test_inputs is not None
    if own_test:
        raw = replace(raw, test_inputs=shaped(raw.test_inputs, "x_test", config))
        several.refuse_others(raw, config)
        _same_length(raw.test_inputs, raw.test_targets, "x_test", "y_test", config)
    if config.indices is not None:
        raw = replace(raw, parts=indices.parts(raw, config))
    targets = labelled(raw, config)
    pool, test, notes = _split(raw, config, targets)
    check_size("data.pool_size", pool_size, len(pool), config.name)
    check_size("data.test_size", config.test_size, len(test), config.name)
    test = test[: config.test_size]
    # A table in memory is scaled over its whole pool, of which a vocabulary is too, and cut then.
    in_memory = raw.standardize and isinstance(raw.inputs, np.ndarray)
    if not in_memory and not has_text(raw.inputs):
        pool = pool[:pool_size]
    found = read(raw, pool, test, config)
    inputs, test_inputs, kind, tokens = found.pool, found.test, found.kind, found.tokens
    notes += found.notes
    values, test_values = targets.values[pool], targets.tested(test)
    if raw.fill:
        inputs, test_inputs, filled = scaling.filled(raw, inputs, test_inputs)
        notes += filled
    if raw.words:
        inputs, test_inputs, said = categories.spread(raw, inputs, test_inputs)
        notes += said
    table = raw.standardize and inputs.ndim == 2
    if table:
        inputs, test_inputs = scaling.standardize(inputs, test_inputs)
    unit, many = None, values.ndim == 2 and values.shape[1] > 1
    if targets.classes is None and values.dtype != np.bool_ and (table or many):
        unit = scaling.moments(values)
        values, test_values = scaling.standardize(values, test_values)
        if many:  # else the one with the largest numbers would be all that is learned
            notes.append(
                f"{values.shape[1]} values to predict, each brought to mean 0 and sd 1 over the pool"
            )
    if found.members is None:
        check_kind(kind, inputs.ndim, config)
    if kind == "tokens" and tokens is None:
        inputs, test_inputs, tokens, said = numbered.read(inputs, test_inputs, config)
        notes += said
    if tokens is not None and targets.every_step:
        tokens = replace(tokens, every_step=True)
    notes += _repeated(inputs, test_inputs)
    ids = _ids(raw.ids, len(raw.targets))
    test_ids = _ids(raw.test_ids, len(raw.test_targets)) if own_test else ids
    whole = assemble(
        config.name,
        (inputs, values),
        (test_inputs, test_values),
        classes=targets.classes,
        kind=kind,
    )
    whole = replace(
        whole,
        unit=unit,
        ids=ids[pool],
        test_ids=test_ids[test],
        class_names=targets.names if targets.classes else None,
        value_names=None if targets.classes else targets.names,
        notes=(*raw.notes, *targets.notes, *notes),
        division=_division(raw, config, pool, None if targets.labels is None else values),
        tokens=tokens,
        test_groups=_test_groups(raw, test),
        ordinal=targets.ordinal,
        members=found.members,
    )
    _two_classes(whole, len(pool))
    return _with_rare_note(cut(whole, pool_size, config.test_size))


def cut(whole: Dataset, pool_size: int | None, test_size: int | None) -> Dataset:
    """The first pool_size examples of the pool and the first test_size of the test set."""
    pool, test = len(whole.inputs), len(whole.test_inputs)
    check_size("data.pool_size", pool_size, pool, whole.name)
    check_size("data.test_size", test_size, test, whole.name)
    if pool_size in (None, pool) and test_size in (None, test):
        return whole
    inputs, targets = whole.inputs[:pool_size], whole.targets[:pool_size]
    test_inputs, test_targets = whole.test_inputs[:test_size], whole.test_targets[:test_size]
    made = replace(
        whole,
        inputs=inputs,
        targets=targets,
        test_inputs=test_inputs,
        test_targets=test_targets,
        digest=digest((inputs, targets, test_inputs, test_targets)),
        ids=whole.ids[:pool_size],
        test_ids=whole.test_ids[:test_size],
        division=whole.division and whole.division.first(pool_size or pool),
        test_groups=None if whole.test_groups is None else whole.test_groups[:test_size],
    )
    _two_classes(made, pool)
    return made


def _two_classes(made: Dataset, available: int) -> None:
    if made.classes is not None and len(np.unique(made.targets)) < 2:
        raise DataError(
            "data.pool_size",
            len(made.targets),
            "leaves examples of one class only",
            f"write more, up to {available}",
        )


def _with_rare_note(made: Dataset) -> Dataset:
    """Strata of what is left after the cut, and a sentence about them."""
    if made.division is None or made.division.strata is None:
        return made
    counts = np.bincount(made.targets, minlength=made.classes or 0)
    rarest = int(counts.argmin())
    name = made.class_names[rarest] if made.class_names else str(rarest)
    note = (
        f"class {name} is rare ({counts[rarest]:,} of {len(made.targets):,}): validation and "
        "subsets keep the share of each class (stratified)"
    )
    return replace(made, notes=(*made.notes, note))


def _split(
    raw: Raw, config: DataConfig, targets: Targets
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Row numbers of the pool and of the test set, in their fixed order; what was decided."""
    rows = len(raw.targets)
    if raw.groups is not None and raw.times is not None:
        rule, fix = "and data.groups both divide the data", "keep one of them"
        raise DataError("data.order", config.order, rule, fix)
    if config.folds is not None or config.fold is not None:
        return folds.split(raw, config, targets)
    if raw.test_inputs is not None:
        _refuse_overlap(raw, config)
        pool = splits.order(rows)
        if raw.parts is not None:
            pool = pool[raw.parts[pool] != indices.UNUSED]
        return pool, splits.order(len(raw.test_targets), test=True), []
    if raw.parts is not None and (raw.parts == "test").any():
        mixed = splits.order(rows)
        of = raw.parts[mixed]
        test, pool = mixed[of == "test"], mixed[(of != "test") & (of != indices.UNUSED)]
        if raw.groups is not None:
            splits.refuse_shared(
                "data.groups", str(config.groups), raw.groups[pool], raw.groups[test]
            )
        if len(pool) < 2:
            raise DataError("data.split", config.split, "leaves no pool", "mark rows as train")
        targets.refuse_unlearned(raw, config, pool, own=True)
        by = "folders" if config.split is None else config.split
        by = by if config.indices is None else Path(config.indices).name
        left = rows - len(pool) - len(test)
        out = f"; {left:,} rows are in no part" if left else ""
        return pool, test, [f"split by {by}: {len(pool):,} and {len(test):,} for test{out}"]
    pool, test, notes = splits.choose_test(
        rows, config, labels=targets.labels, groups=raw.groups, times=raw.times
    )
    targets.refuse_unlearned(raw, config, pool)
    return pool, test, notes


def _refuse_overlap(raw: Raw, config: DataConfig) -> None:
    """A test set of the person's own has no group of the pool and no row before its end."""
    if raw.groups is not None and raw.test_groups is not None:
        splits.refuse_shared("data.groups", str(config.groups), raw.groups, raw.test_groups)
    if raw.times is not None and raw.test_times is not None:
        last, first = raw.times.max(), raw.test_times.min()
        if first <= last:
            rule = f"the test set begins at {first}, and the pool ends at {last}"
            raise DataError("data.order", config.order, rule, "give later rows as the test set")


def _division(
    raw: Raw, config: DataConfig, pool: np.ndarray, labels: np.ndarray | None
) -> Division | None:
    validation = None
    if raw.parts is not None and (raw.parts == "validation").any():
        validation = raw.parts[pool] == "validation"
    groups = None if raw.groups is None else raw.groups[pool]
    if groups is not None and validation is not None:
        sides = "train and validation"
        splits.refuse_shared(
            "data.groups", str(config.groups), groups[~validation], groups[validation], sides
        )
    times = None if raw.times is None else raw.times[pool]
    return splits.division(labels, groups, times, validation)


def _test_groups(raw: Raw, test: np.ndarray) -> np.ndarray | None:
    groups = raw.groups if raw.test_inputs is None else raw.test_groups
    return None if groups is None else np.unique(groups[test], return_inverse=True)[1]


def _ids(own: np.ndarray | None, count: int) -> np.ndarray:
    return np.arange(count) if own is None else np.asarray(own)


def check_size(key: str, size: int | None, available: int, name: str) -> None:
    """Refuse a pool_size or test_size larger than what there is."""
    if size is not None and size > available:
        part = "test examples" if key == "data.test_size" else "examples in its pool"
        rule = f"{name} has {available} {part}"
        raise DataError(key, size, rule, f"write at most {available}, or null for all")


def check_kind(kind: str, axes: int, config: DataConfig) -> None:
    """Vectors and sequences have two axes, images three or four (with channels)."""
    if kind not in KINDS:
        raise bad(config, f"its kind is {kind!r}", f"use one of {', '.join(KINDS)}")
    if (axes > 2) != (kind == "image"):
        shape = "[n, H, W] or [n, C, H, W]" if kind == "image" else "[n, T]"
        raise bad(config, f"{kind} data with inputs of {axes} axes", f"give x as {shape}")


def checked(found: Dataset, config: DataConfig) -> Dataset:
    """A Dataset that a person's function made: same checks, its own order, kind and split."""
    for key in ("levels", "positive", "indices", "folds"):
        if getattr(config, key) is not None:
            rule, fix = (
                "is for rows, and the function returns a Dataset",
                "say it there, or return x and y",
            )
            raise DataError(f"data.{key}", getattr(config, key), rule, fix)
    raw = Raw(found.inputs, found.targets, found.test_inputs, found.test_targets)
    one_input(found.inputs, "x", config)
    pool = (numbers(raw, shaped(raw.inputs, "x", config), "x", config), raw.targets)
    tested = shaped(found.test_inputs, "x_test", config)
    test = (numbers(raw, tested, "x_test", config), raw.test_targets)
    _same_length(pool[0], pool[1], "x", "y", config)
    _same_length(test[0], found.test_targets, "x_test", "y_test", config)
    check_kind(found.kind, pool[0].ndim, config)
    for name, targets in (("y", found.targets), ("y_test", found.test_targets)):
        if found.classes is None:
            values_of(raw, np.asarray(targets), name, config)
            refuse_hidden_classes(np.asarray(targets), name, config)
        else:
            each = np.asarray(targets)
            if found.every_step:
                positions(each, name, config)
                each = each[each != NONE]
            _labels(each, found.classes, name, config)
    tokens, inputs, test_inputs = found.tokens, pool[0], test[0]
    if found.kind == "tokens" and tokens is None:
        inputs, test_inputs, tokens, _ = numbered.read(inputs, test_inputs, config)
    if tokens is not None and tokens.every_step:
        tokens = replace(tokens, padded=bool((inputs < 0).any() or (test_inputs < 0).any()))
    made = assemble(
        config.name,
        (inputs, found.targets),
        (test_inputs, found.test_targets),
        classes=found.classes,
        kind=found.kind,
    )
    return replace(
        made,
        unit=found.unit,
        ids=found.ids,
        test_ids=found.test_ids,
        class_names=found.class_names,
        value_names=found.value_names,
        notes=found.notes,
        division=found.division,
        tokens=tokens,
        test_groups=found.test_groups,
        ordinal=found.ordinal or (found.classes is not None and config.task == "ordinal"),
    )


def _labels(labels: np.ndarray, classes: int, name: str, config: DataConfig) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        rule = f"{name} is {labels.dtype} of shape {labels.shape}"
        raise bad(config, rule, "give one whole number per row")
    if labels.min() < 0 or labels.max() >= classes:
        rule = f"{name} has labels from {labels.min()} to {labels.max()}; classes = {classes}"
        raise bad(config, rule, f"number the classes from 0 to {classes - 1}")
    if name == "y" and len(np.unique(labels)) < 2:
        raise bad(config, f"all rows are of class {labels[0]}", "give two classes or more")


def _same_length(x: Any, y: Any, x_name: str, y_name: str, config: DataConfig) -> None:
    rows = rows_of(x)
    if np.ndim(y) == 0 or rows != len(y):
        length = "no rows" if np.ndim(y) == 0 else len(y)
        raise bad(
            config, f"{x_name} has {rows} rows and {y_name} {length}", "give one target per row"
        )


def _repeated(pool: np.ndarray, test: np.ndarray) -> list[str]:
    """Test examples whose inputs are those of an example of the pool, to the last bit."""
    if len(pool) + len(test) > LOOKED_FOR_REPEATS:
        return []
    known = {hash(row.tobytes()) for row in pool}
    count = sum(hash(row.tobytes()) in known for row in test)
    if not count:
        return []
    return [
        f"{count:,} of {len(test):,} test inputs stand in the pool too; data.groups keeps copies together"
    ]
