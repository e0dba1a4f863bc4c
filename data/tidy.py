"""From arrays as found to a Dataset: checks, classes, test split, order, standardization.

Every array that a person brings passes here; what cannot be learned from is refused with its place.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import KINDS, DataError, Dataset, Kind, assemble

# The order of the rows is one permutation for everybody, whatever the seed of the study.
_ORDER_SEED, _POOL_ORDER, _TEST_ORDER = 20210, 0, 1


@dataclass(frozen=True)
class Raw:
    """Arrays as a source found them, with what is needed to name a place in them.

    columns: names of the features of a table. first_row: the number, in the file, of row 0.
    standardize: features (and regression targets) to mean 0, sd 1 over the pool.
    """

    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray | None = None
    test_targets: np.ndarray | None = None
    kind: Kind | None = None
    columns: tuple[str, ...] | None = None
    first_row: int = 0
    standardize: bool = False


def tidy(raw: Raw, config: DataConfig, pool_size: int | None) -> Dataset:
    """Check, split, order and cut. Without a test set, a sixth of the rows (or test_size) is one.

    Rows are put in one fixed random order, so that the first k are a random sample of them.
    """
    inputs = _inputs(raw, raw.inputs, "x", config)
    _same_length(inputs, raw.targets, "x", "y", config)
    targets, test_targets, classes = _targets(raw, config)
    if raw.test_inputs is None or test_targets is None:
        order = _order(len(inputs), _POOL_ORDER)
        tests = _test_count(len(inputs), config)
        test, pool = order[:tests], order[tests:]
        test_inputs, test_targets = inputs[test], targets[test]
    else:
        test_inputs = _inputs(raw, raw.test_inputs, "x_test", config)
        _same_length(test_inputs, test_targets, "x_test", "y_test", config)
        if test_inputs.shape[1:] != inputs.shape[1:]:
            raise bad(
                config,
                f"x_test has examples of shape {test_inputs.shape[1:]}, x of {inputs.shape[1:]}",
                "give both the same shape",
            )
        pool = _order(len(inputs), _POOL_ORDER)
        test = _order(len(test_inputs), _TEST_ORDER)
        test_inputs, test_targets = test_inputs[test], test_targets[test]
    inputs, targets = inputs[pool], targets[pool]
    unit = None
    if raw.standardize and inputs.ndim == 2:
        inputs, test_inputs = _standardize(inputs, test_inputs)
        if classes is None:
            unit = _moments(targets)
            targets, test_targets = _standardize(targets, test_targets)
    kind = raw.kind or ("vector" if inputs.ndim == 2 else "image")
    check_kind(kind, inputs.ndim, config)
    whole = assemble(
        config.name, (inputs, targets), (test_inputs, test_targets), classes=classes, kind=kind
    )
    return cut(replace(whole, unit=unit), pool_size, config.test_size)


def cut(whole: Dataset, pool_size: int | None, test_size: int | None) -> Dataset:
    """The first pool_size examples of the pool and the first test_size of the test set."""
    pool, test = len(whole.inputs), len(whole.test_inputs)
    check_size("data.pool_size", pool_size, pool, whole.name)
    check_size("data.test_size", test_size, test, whole.name)
    if pool_size in (None, pool) and test_size in (None, test):
        return whole
    inputs, targets = whole.inputs[:pool_size], whole.targets[:pool_size]
    test_inputs, test_targets = whole.test_inputs[:test_size], whole.test_targets[:test_size]
    if whole.classes is not None and len(np.unique(targets)) < 2:
        raise DataError(
            "data.pool_size",
            len(targets),
            "leaves examples of one class only",
            f"write more, up to {pool}",
        )
    parts = (inputs, targets), (test_inputs, test_targets)
    made = assemble(whole.name, *parts, classes=whole.classes, kind=whole.kind)
    return replace(made, unit=whole.unit)


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


def bad(config: DataConfig, rule: str, fix: str) -> DataError:
    """The error of data that cannot be used, at the key that names the data."""
    return DataError("data.name", config.name, rule, fix)


def checked(found: Dataset, config: DataConfig) -> Dataset:
    """A Dataset that a person's function made: same checks, its own order, kind and split."""
    raw = Raw(found.inputs, found.targets, found.test_inputs, found.test_targets)
    pool = (_inputs(raw, raw.inputs, "x", config), raw.targets)
    test = (_inputs(raw, found.test_inputs, "x_test", config), raw.test_targets)
    _same_length(pool[0], pool[1], "x", "y", config)
    _same_length(test[0], found.test_targets, "x_test", "y_test", config)
    check_kind(found.kind, pool[0].ndim, config)
    for name, targets in (("y", found.targets), ("y_test", found.test_targets)):
        if found.classes is None:
            _values(raw, np.asarray(targets), name, config)
        else:
            _labels(np.asarray(targets), found.classes, name, config)
    return assemble(
        config.name,
        (pool[0], found.targets),
        (test[0], found.test_targets),
        classes=found.classes,
        kind=found.kind,
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


def _inputs(raw: Raw, inputs: Any, name: str, config: DataConfig) -> np.ndarray:
    """float32 and finite, [n, ...] with at least one row and one value."""
    array = np.asarray(inputs)
    if array.dtype.kind not in "biuf":
        raise bad(config, f"{name} is of type {array.dtype}, not numbers", "give real numbers")
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise bad(
            config,
            f"{name} has shape {array.shape}",
            "give [n, features], [n, T], [n, H, W] or [n, C, H, W] with n of at least 1",
        )
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        _finite(raw, single, name, config)
    # Bytes are brightness: 0..255 -> [0, 1].
    return single / np.float32(255) if array.dtype == np.uint8 and array.ndim > 2 else single


def _finite(raw: Raw, values: np.ndarray, name: str, config: DataConfig) -> None:
    """Refuse NaN and infinity, saying where the first one stands."""
    places = np.argwhere(~np.isfinite(values))
    if len(places):
        first = tuple(int(i) for i in places[0])
        what = "no number (NaN)" if np.isnan(values[first]) else "infinite, or beyond float32"
        if raw.columns and name == "x":
            where = f"row {first[0] + raw.first_row}, column {raw.columns[first[1]]!r}"
        else:
            where = f"{name}[{', '.join(map(str, first))}]"
        more = f"; {len(places)} such values" if len(places) > 1 else ""
        raise bad(config, f"{where} is {what}{more}", "drop or fill these rows first")


def _same_length(x: np.ndarray, y: Any, x_name: str, y_name: str, config: DataConfig) -> None:
    if np.ndim(y) == 0 or len(x) != len(y):
        length = "no rows" if np.ndim(y) == 0 else len(y)
        raise bad(
            config, f"{x_name} has {len(x)} rows and {y_name} {length}", "give one target per row"
        )


def _targets(raw: Raw, config: DataConfig) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """Labels 0..classes-1 or float values, of the pool and of the test set if there is one."""
    targets = _column(raw.targets, config)
    test = None if raw.test_targets is None else _column(raw.test_targets, config)
    if not _is_classes(targets, config):
        values = _values(raw, targets, "y", config)
        if len(values) and (values == values[:1]).all():
            raise bad(config, "all targets are the same value", "give targets that differ")
        tested = None if test is None else _values(raw, test, "y_test", config)
        if tested is not None and tested.shape[1:] != values.shape[1:]:
            raise bad(config, "y_test and y differ in shape", "give both the same columns")
        return values, tested, None
    if targets.ndim != 1:
        raise bad(
            config,
            f"y has shape {targets.shape}; labels are one per row",
            "give class numbers rather than one-hot rows, or set data.task: regression",
        )
    if targets.dtype.kind == "f":
        _finite(raw, targets, "y", config)
    names, labels = np.unique(targets, return_inverse=True)
    if len(names) < 2:
        raise bad(config, f"all rows are of one class, {names[0]!s}", "give two classes or more")
    if config.task == "auto" and targets.dtype.kind in "iuf" and len(names) > len(labels) / 2:
        raise DataError(
            "data.task",
            "auto",
            f"{len(names)} different whole numbers in {len(labels)} targets look like values",
            "write task: regression, or task: classification if they are classes",
        )
    if test is None:
        return labels, None, len(names)
    place = np.searchsorted(names, test).clip(max=len(names) - 1)
    unknown = names[place] != test
    if unknown.any():
        raise bad(
            config,
            f"y_test has the class {test[unknown][0]!s}, which y never has",
            "use the same class names in both",
        )
    return labels, place, len(names)


def _column(targets: Any, config: DataConfig) -> np.ndarray:
    """Numbers, truth values or text as an array of one such type; [n, 1] as [n]."""
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "O" and all(isinstance(v, numbers.Number) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind in "OST":
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise bad(config, f"targets are of type {array.dtype}", "give numbers or class names")
    return array


def _is_classes(targets: np.ndarray, config: DataConfig) -> bool:
    if config.task != "auto":
        return config.task == "classification"
    if targets.dtype.kind in "Ubiu":
        return targets.ndim == 1
    with np.errstate(invalid="ignore"):
        return targets.ndim == 1 and bool((targets == np.floor(targets)).all())


def _values(raw: Raw, targets: np.ndarray, name: str, config: DataConfig) -> np.ndarray:
    if targets.dtype.kind not in "biuf":
        raise DataError(
            "data.task",
            config.task,
            f"the targets of {config.name} are text such as {targets.flat[0]!s}, not values",
            "write task: classification, or name a column of numbers as data.target",
        )
    if targets.ndim > 2 or 0 in targets.shape:
        raise bad(config, f"{name} has shape {targets.shape}", "give values [n] or [n, K]")
    with np.errstate(over="ignore"):
        values = targets.astype(np.float32)
    _finite(raw, values, name, config)
    return values


def _test_count(rows: int, config: DataConfig) -> int:
    count = config.test_size or max(1, math.floor(rows / 6 + 0.5))
    if rows - count < 2:
        raise DataError(
            "data.test_size",
            count,
            f"{config.name} has {rows} rows and no test set of its own; this leaves no pool",
            f"write at most {rows - 2}" if rows > 2 else "give a file with more rows",
        )
    return count


def _order(rows: int, number: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64([_ORDER_SEED, number])).permutation(rows)


def _standardize(pool: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and sd 1 over the whole pool; a constant column becomes 0."""
    mean, scale = _moments(pool)
    return (pool - mean) / scale, (test - mean) / scale


def _moments(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; 1 for that of a constant one."""
    mean = pool.mean(axis=0, dtype=np.float64)
    deviation = pool.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
