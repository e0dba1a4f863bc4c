"""From targets as found to labels 0..classes-1 or values: numbers, text, one-hot rows.

What could be either is refused rather than guessed: a column of a hundred different texts is no
classification, and rows of class probabilities are no regression.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad, finite

NONE = -1  # the target of a position that has none


@dataclass(frozen=True)
class Targets:
    """values: int64 [n] labels, or float32 [n] or [n, K] (classes None), or bool [n, L] of several labels (classes
    None); test_values likewise.

    names: the person's own name of each class, or of each of several values. notes: what was decided. ordinal: whether
    labels are ranks. every_step: labels are int64 [n, T], one a position, NONE where a position has none.
    """

    values: np.ndarray
    test_values: np.ndarray | None
    classes: int | None = None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    ordinal: bool = False
    every_step: bool = False

    @property
    def labels(self) -> np.ndarray | None:
        """The label of each row; None where it has none, or several."""
        return None if self.classes is None or self.every_step else self.values

    def tested(self, rows: np.ndarray) -> np.ndarray:
        """The targets of these rows of the test set: of its own, or of the only set there is."""
        return (self.values if self.test_values is None else self.test_values)[rows]

    def refuse_unlearned(
        self, raw: Raw, config: DataConfig, pool: np.ndarray, own: bool = False
    ) -> None:
        """Refuse classes that the pool lacks, and those with one row, which no split can share; own: it is the person's."""
        if self.labels is None or self.names is None or self.classes is None:
            return
        counts = np.bincount(self.values, minlength=self.classes)
        lost = np.bincount(self.values[pool], minlength=self.classes) == 0
        single = (counts == 1) & (not own)
        if not (lost | single).any():
            return
        first = int((single if single.any() else lost).argmax())
        where = raw.place(int((self.values == first).argmax()))
        count = int(single.sum()) if single.any() else int(lost.sum())
        subject = f"class {self.names[first]!r} ({where})"
        if count > 1:
            subject = f"{count} classes, the first {self.names[first]!r} ({where}),"
        verb = "have" if count > 1 else "has"
        rule = (
            f"{subject} {verb} one row, which cannot be both learned and tested"
            if single.any()
            else f"{subject} {verb} all rows in the test set"
        )
        fix = "drop these rows, merge the classes, or name a test set of your own as data.test"
        raise bad(config, rule, "train on some of them too, or drop them" if own else fix)


def labelled(raw: Raw, config: DataConfig) -> Targets:
    """Labels or values of the pool and of its test set, if it has one. Raises DataError."""
    if config.levels is not None and config.task not in ("auto", "ordinal"):
        rule = f"names ordered classes, and data.task is {config.task}"
        raise DataError("data.levels", _listed(config), rule, "write task: ordinal")
    if raw.kind == "tokens" and np.shape(raw.targets) == raw.inputs.shape:
        return _at_each_position(raw, config)
    targets, notes = _column(raw.targets, "y", config)
    test = None
    if raw.test_targets is not None:
        test, _ = _column(raw.test_targets, "y_test", config)
    if is_one_hot(targets, config.task):
        if test is not None:
            _refuse_not_one_hot(test, targets, config)
        notes.append(f"one-hot targets: read as {targets.shape[1]} classes")
        test = None if test is None else test.argmax(axis=1)
        targets = targets.argmax(axis=1)
        if isinstance(raw.target, tuple):  # the columns are the classes
            names = np.array(raw.target)
            targets, test = names[targets], None if test is None else names[test]
    several = _is_multilabel(targets, config)
    if config.positive is not None and (several or not _is_classes(targets, config)):
        rule = f"is one of two classes, and the targets are {'several labels' if several else 'values'}"
        raise DataError("data.positive", config.positive, rule, "leave it out")
    if several:
        return _multilabel(raw, targets, test, config, notes)
    if not _is_classes(targets, config):
        return _regression(raw, targets, test, config, notes)
    if targets.ndim != 1:
        raise bad(
            config,
            f"y has shape {targets.shape}; labels are one per row",
            "give class numbers or one-hot rows, or set data.task: regression",
        )
    if targets.dtype.kind == "f":
        finite(raw, targets, "y", config)
    return _classification(raw, targets, test, config, notes)


def _at_each_position(raw: Raw, config: DataConfig) -> Targets:
    """A target for each token: the next one, a tag; NONE counts nowhere."""
    if config.task not in ("auto", "classification"):
        rule = "is of one target an example, and here each position has one"
        raise DataError("data.task", config.task, rule, "leave it at auto")
    found = np.asarray(raw.targets)
    test = None if raw.test_targets is None else np.asarray(raw.test_targets)
    positions(found, "y", config)
    classes = int(found.max()) + 1
    if test is not None:
        if test.shape != raw.test_inputs.shape:
            rule = f"y_test has shape {test.shape}, and x_test {raw.test_inputs.shape}"
            raise bad(config, rule, "give a target for each token")
        positions(test, "y_test", config)
        if test.max() >= classes:
            rule = f"y_test has the target {test.max()}, and y none above {classes - 1}"
            raise bad(config, rule, "number them alike in both")
    without = int((found == NONE).sum())
    note = f"a target at each position, {classes} classes"
    note += f"; {without:,} positions have none ({NONE}), and count nowhere" if without else ""
    whole = None if test is None else test.astype(np.int64)
    names = tuple(map(str, range(classes)))
    return Targets(found.astype(np.int64), whole, classes, names, (note,), every_step=True)


def positions(targets: np.ndarray, name: str, config: DataConfig) -> None:
    """Refuse targets at each position that are no whole numbers from 0 on or NONE, and examples without any."""
    if targets.dtype.kind not in "iu" or (targets < NONE).any():
        rule = f"{name} has a target at each position, and some are no whole numbers from 0 on"
        raise bad(
            config, rule, f"number the classes from 0, and write {NONE} where there is no target"
        )
    empty = (targets == NONE).all(axis=1)
    if empty.any():
        rule = f"{name}[{int(empty.argmax())}] has no target at any position"
        raise bad(config, rule, "leave such examples out")


def _classification(
    raw: Raw, targets: np.ndarray, test: np.ndarray | None, config: DataConfig, notes: list[str]
) -> Targets:
    names, labels = np.unique(targets, return_inverse=True)
    if len(names) < 2:
        raise bad(config, f"all rows are of one class, {names[0]!s}", "give two classes or more")
    if (
        config.task == "auto"
        and config.levels is None
        and len(names) > len(labels) / 2
        and targets.dtype.kind != "b"
    ):
        text = targets.dtype.kind == "U"
        what = "texts" if text else "whole numbers"
        raise DataError(
            "data.task",
            "auto",
            f"{len(names)} different {what} in {len(labels)} targets "
            + ("are hardly classes" if text else "look like values"),
            ("name another column as data.target" if text else "write task: regression")
            + ", or write task: classification if they are classes",
        )
    if targets.dtype.kind == "U":
        lowered: dict[str, str] = {}
        for name in names:
            other = lowered.setdefault(str(name).lower(), str(name))
            if other != name:
                notes.append(f"classes {other!r} and {str(name)!r} differ only in their case")
    place = None
    if test is not None:
        if test.ndim != 1 or (test.dtype.kind == "U") != (targets.dtype.kind == "U"):
            rule = f"y_test is {test.dtype} of shape {test.shape}, and y {targets.dtype}"
            raise bad(config, rule, "use the same class names in both")
        place = np.searchsorted(names, test).clip(max=len(names) - 1)
        unknown = names[place] != test
        if unknown.any():
            raise bad(
                config,
                f"y_test has the class {test[unknown][0]!s}, which y never has",
                "use the same class names in both",
            )
    texts = tuple(str(name) for name in names)
    if config.positive is not None:
        one = _positive(texts, config)
        order = np.array([1 - one, one])  # the positive class is the second, as scikit-learn has it
        texts, labels = tuple(texts[k] for k in order), order[labels]
        place = None if place is None else order[place]
        notes.append(f"positive class: {texts[1]} ({(labels == 1).mean():.1%} of the rows)")
    if not _is_ordinal(config):
        return Targets(labels, place, len(names), texts, tuple(notes))
    texts, ranks = _ranks(texts, targets.dtype.kind == "U", config)
    if place is not None:
        place = ranks[place]
    notes.append(f"ordered classes: {' < '.join(texts)}")
    return Targets(ranks[labels], place, len(texts), texts, tuple(notes), ordinal=True)


def _positive(names: tuple[str, ...], config: DataConfig) -> int:
    """The place of the positive class among two."""
    asked = str(config.positive)
    if len(names) != 2 or _is_ordinal(config):
        rule = "is one of two classes, and these " + (
            "have an order" if _is_ordinal(config) else f"are {len(names)}"
        )
        raise DataError("data.positive", asked, rule, "leave it out")
    same = [asked == name or _number(asked) == _number(name) is not None for name in names]
    if not any(same):
        raise DataError(
            "data.positive", asked, "is none of the classes", f"write {' or '.join(names)}"
        )
    return same.index(True)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_ordinal(config: DataConfig) -> bool:
    return config.task == "ordinal" or config.levels is not None


def _listed(config: DataConfig) -> str:
    return f"[{', '.join(config.levels or ())}]"


def _ranks(
    names: tuple[str, ...], text: bool, config: DataConfig
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of classes from the lowest to the highest, and the rank of each as they are sorted: [C]."""
    levels = config.levels
    if levels is None:
        if text:
            rule = f"the classes are words ({', '.join(names[:5])}), whose order is not known"
            fix = "write data.levels: [lowest, ..., highest]"
            raise DataError("data.task", config.task, rule, fix)
        return names, np.arange(len(names))
    lost = [name for name in levels if name not in names]
    more = [name for name in names if name not in levels]
    twice = [name for name in levels if levels.count(name) > 1]
    if lost or more or twice:
        rule = (
            f"names {twice[0]!r} twice" if twice else f"lacks the class {more[0]!r}" if more else ""
        )
        rule = rule or f"names {lost[0]!r}, and no row is of that class"
        raise DataError("data.levels", _listed(config), rule, f"order these: {', '.join(names)}")
    return levels, np.array([levels.index(name) for name in names])


def _regression(
    raw: Raw, targets: np.ndarray, test: np.ndarray | None, config: DataConfig, notes: list[str]
) -> Targets:
    values = values_of(raw, targets, "y", config)
    if config.task == "auto" and values.ndim == 2 and values.shape[1] > 1:
        _refuse_class_rows(values, config)
    if len(values) and (values == values[:1]).all():
        raise bad(config, "all targets are the same value", "give targets that differ")
    tested = None if test is None else values_of(raw, test, "y_test", config)
    if tested is not None and tested.shape[1:] != values.shape[1:]:
        raise bad(config, "y_test and y differ in shape", "give both the same columns")
    names = raw.target if isinstance(raw.target, tuple) else None
    return Targets(values, tested, names=names, notes=tuple(notes))


def _multilabel(
    raw: Raw, targets: np.ndarray, test: np.ndarray | None, config: DataConfig, notes: list[str]
) -> Targets:
    """Which of several labels each example has: columns of 0 and 1."""
    for name, found in (("y", targets), ("y_test", test)):
        if found is None:
            continue
        if found.ndim != 2 or found.shape[1:] != targets.shape[1:] or found.shape[1] < 2:
            rule = f"{name} has shape {found.shape}; several labels are two columns or more"
            raise bad(config, rule, "give one column of 0 and 1 for each label")
        wrong = (
            ~np.isin(found, (0, 1)) if found.dtype.kind in "biuf" else np.ones(found.shape, bool)
        )
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            rule = f"{name}[{row}, {column}] is {found[row, column]!s}; a label is 0 or 1"
            raise DataError(
                "data.task", config.task, rule, "write 1 where a row has the label, else 0"
            )
    labels = targets.astype(bool)
    names = raw.target if isinstance(raw.target, tuple) else None
    same = (labels == labels[:1]).all(axis=0)
    if same.any():
        column = int(same.argmax())
        called = f"{names[column]!r}" if names else f"{column} (counted from 0)"
        rule = f"label {called} is {int(labels[0, column])} in every row"
        raise bad(config, rule, "leave its column out")
    said = f"{labels.shape[1]} labels of which a row has any number (multilabel), {labels.sum(1).mean():.2g} on average"
    tested = None if test is None else test.astype(bool)
    return Targets(labels, tested, names=names, notes=(*notes, said))


def _is_multilabel(targets: np.ndarray, config: DataConfig) -> bool:
    """Asked for, or several columns of 0 and 1 that are not one-hot."""
    if config.levels is not None:
        return False
    if config.task == "multilabel":
        return True
    several = targets.ndim == 2 and targets.shape[1] > 1 and targets.dtype.kind in "biuf"
    return config.task == "auto" and several and bool(np.isin(targets, (0, 1)).all())


def _refuse_class_rows(values: np.ndarray, config: DataConfig) -> None:
    """Rows that look like classes in another dress are not fitted as values unasked."""
    if values.min() < 0 or not np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return
    rule = f"y has {values.shape[1]} columns whose rows sum to 1, as class probabilities do"
    raise DataError(
        "data.task",
        "auto",
        rule,
        "give one class per row, or write task: regression to fit them as values",
    )


def is_one_hot(targets: np.ndarray, task: str) -> bool:
    """0 (or -1) and one larger value, which stands exactly once in each row: [n, K], K of 2 or more."""
    if task in ("regression", "multilabel") or targets.ndim != 2 or targets.shape[1] < 2:
        return False
    if targets.dtype.kind not in "biuf" or not len(targets):
        return False
    low, high = targets.min(), targets.max()
    two = bool(((targets == low) | (targets == high)).all())
    return (
        two and low in (0, -1) and low != high and bool(((targets == high).sum(axis=1) == 1).all())
    )


def _refuse_not_one_hot(test: np.ndarray, targets: np.ndarray, config: DataConfig) -> None:
    """Refuse test targets that are not one-hot as the others are."""
    fits = test.shape[1:] == targets.shape[1:] and is_one_hot(test, config.task)
    if not fits or test.max() != targets.max() or test.min() != targets.min():
        rule = f"y is one-hot rows of {targets.shape[1]} classes, and y_test of shape {test.shape} is not"
        raise bad(config, rule, "give both in the same way")


def refuse_hidden_classes(targets: np.ndarray, name: str, config: DataConfig) -> None:
    """Refuse targets of a person's own Dataset that say to be values (classes None) and look like classes."""
    if config.task != "auto" or targets.dtype == np.bool_:
        return
    whole = targets.dtype.kind in "iu" and targets.ndim == 1
    if whole or is_one_hot(targets, "auto"):
        what = "whole numbers" if whole else f"one-hot rows of {targets.shape[1]} classes"
        rule = f"{name} is {what}, and the Dataset says classes=None"
        fix = "give labels from 0 on and classes, or write task: regression to fit them as values"
        raise DataError("data.task", "auto", rule, fix)
    if targets.ndim == 2 and targets.shape[1] > 1 and len(targets):
        _refuse_class_rows(targets, config)


def _column(targets: Any, name: str, config: DataConfig) -> tuple[np.ndarray, list[str]]:
    """Numbers, truth values or text as an array of one such type; [n, 1] as [n]."""
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "O" and all(isinstance(v, numbers.Number) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind == "O" and not all(
        isinstance(v, str | bytes | np.bool_) for v in array.flat
    ):
        kinds = sorted({type(v).__name__ for v in array.flat})
        raise bad(config, f"{name} mixes {', '.join(kinds)}", "give numbers or class names")
    if array.dtype.kind in "OST":
        array = array.astype(str)
    if array.dtype.kind not in "biufU":
        raise bad(config, f"targets are of type {array.dtype}", "give numbers or class names")
    if array.dtype.kind != "U":
        return array, []
    stripped = np.char.strip(array)
    changed = int((stripped != array).sum())
    return stripped, [f"blanks around {changed:,} class names were removed"] if changed else []


def _is_classes(targets: np.ndarray, config: DataConfig) -> bool:
    if config.task != "auto" or config.levels is not None:
        return config.task == "classification" or _is_ordinal(config)
    if targets.dtype.kind in "Ubiu":
        return targets.ndim == 1
    with np.errstate(invalid="ignore"):
        return targets.ndim == 1 and bool((targets == np.floor(targets)).all())


def values_of(raw: Raw, targets: np.ndarray, name: str, config: DataConfig) -> np.ndarray:
    """Targets of a regression as float32 [n] or [n, K], finite."""
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
    finite(raw, values, name, config)
    return values
