"""Tables with a target column: csv:FILE, and what the columns of any table mean.

`delimited` and `columns` decide how text is read, `columnar` reads Parquet and Arrow; here columns become target and features (`categories`), and what
divides the rows (`roles`).
"""

from __future__ import annotations

import decimal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data import categories, delimited, folds, roles, second
from engram.data.columns import MISSING, NUMBER
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Kind
from engram.data.items import TARGETS
from engram.data.numbered import Texts, refuse_without_text
from engram.data.raw import Raw, bad, file
from engram.data.sources import Asked

if TYPE_CHECKING:
    import pandas as pd


def csv(config: DataConfig, asked: Asked) -> Raw:
    """csv:FILE, separated by commas, semicolons, tabs, bars or blanks; features are numbers."""
    return second.joined(_csv, config)


def _csv(config: DataConfig) -> Raw:
    asked = () if isinstance(config.categories, str) else config.categories
    named = (config.groups, config.split, folds.column(config), config.text)
    text = (*(name for name in named if name), *asked)
    found = delimited.read(file(config), config, text)
    raw = table(found.frame, config, config.target, ids=found.ids, lines=found.lines)
    return replace(raw, notes=(*found.notes, *raw.notes))


def table(
    frame: pd.DataFrame,
    config: DataConfig,
    target: str | tuple[str, ...] | None,
    *,
    ids: np.ndarray | None = None,
    lines: np.ndarray | None = None,
    first_row: int = 0,
    inputs: Any = None,
) -> Raw:
    """A data frame with its target column (None: the last), or several, taken off, to be standardized.

    lines, first_row: how a message names a row. inputs: features that are elsewhere, one a row of
    the frame; then no other column is one.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    said: list[str] = []
    if config.text is not None:
        inputs = Texts(config.text, _texts(frame, config.text, config))
        frame = frame.drop(columns=config.text)
        frame, target = beside(config.text, frame, config, said)
    else:
        refuse_without_text(config)
    names = list(frame.columns)
    if not len(frame) or len(names) < (2 if inputs is None else 1):
        raise bad(
            config,
            f"has {len(frame)} rows and {len(names)} columns",
            "give rows of one feature or more and a target",
        )
    taken = {
        key: roles.named(frame, config, key)
        for key in ("groups", "order", "split", "folds")
        if isinstance(getattr(config, key), str)
    }
    rest = [name for name in names if name not in taken.values()]
    if target is None and inputs is None:
        _refuse_one_of_several(frame[rest], config)
        _refuse_another(rest, config)
    target = (rest[-1] if rest else names[-1]) if target is None else target
    chosen = (target,) if isinstance(target, str) else target
    target = chosen[0] if len(chosen) == 1 else chosen
    _check_targets(chosen, names, taken, config)
    kind: Kind | None = None if config.text is None else "tokens"
    raw = Raw(inputs, None, kind=kind, lines=lines, first_row=first_row, target=target)
    if isinstance(target, str):
        targets, notes = _target(frame[target], raw, config)
    else:
        targets, notes = _several(frame, target, raw, config), []
    raw = replace(
        raw,
        targets=targets,
        ids=None if ids is None else roles.own_ids(ids),
        groups=roles.texts(frame, taken.get("groups"), raw, config),
        times=roles.times(frame, taken.get("order"), raw, config),
        parts=roles.parts(frame, taken.get("split"), raw, config),
        folds=roles.texts(frame, taken.get("folds"), raw, config),
        notes=(*said, *notes),
    )
    features = frame.drop(columns=[*chosen, *taken.values()])
    if inputs is None and isinstance(target, str) and not _holds_lists(frame[target]):
        raw = replace(raw, notes=(*raw.notes, *_told_by_one(features, frame[target])))
    if inputs is None:
        raw = _featured(raw, features, config)
    return _without_missing(raw, config) if config.missing == "drop" else raw


def beside(
    column: str, frame: pd.DataFrame, config: DataConfig, notes: list[str]
) -> tuple[pd.DataFrame, str | tuple[str, ...]]:
    """Of what stands beside a column of images or texts: what is used, and the target. The rest is left out, and said."""
    taken = (config.groups, config.order, config.split, folds.column(config), config.index)
    rest = [name for name in map(str, frame.columns) if name not in taken]
    target = config.target or (rest[0] if len(rest) == 1 else None)
    if target is None:
        raise DataError(
            "data.target",
            "null",
            f"{config.name} has beside {column} the columns {', '.join(rest) or 'none'}",
            f"write one of them: {', '.join(rest)}" if rest else "add a column of labels",
        )
    targets = config.targets or (target,)
    unused = [name for name in rest if name not in targets] if {*targets} <= {*rest} else []
    if unused:
        notes.append(f"columns not used beside {column!r}: {', '.join(unused)}")
    return frame.drop(columns=unused), target


def _texts(frame: pd.DataFrame, column: str, config: DataConfig) -> list[str]:
    """The texts of a column; nothing where one is missing."""
    import pandas as pd

    if column in config.targets:
        raise DataError("data.text", column, "is the target too", "name another column")
    _check_targets((column,), list(frame.columns), {}, config, "text")
    values = frame[column]
    if _holds_lists(values) or not (
        pd.api.types.is_string_dtype(values)
        or pd.api.types.is_object_dtype(values)
        or isinstance(values.dtype, pd.CategoricalDtype)
    ):
        what = "lists" if _holds_lists(values) else f"{values.dtype} values"
        raise DataError("data.text", column, f"holds {what}, not texts", "name a column of texts")
    return [str(value) for value in values.astype(object).where(values.notna(), "")]


def _featured(raw: Raw, features: pd.DataFrame, config: DataConfig) -> Raw:
    """The features as an array: numbers, or the lists of one column."""
    listed = [name for name in features.columns if _holds_lists(features[name])]
    if listed and len(features.columns) == 1:
        return replace(raw, inputs=_stacked(features[listed[0]], raw, config))
    features, raw = categories.coded(features, raw, config)
    for name in features.columns:
        _refuse_text(features[name], raw, config)
    if not len(features.columns):
        raise bad(config, "has no feature column", "give one besides the target")
    return replace(
        raw,
        inputs=features.to_numpy(dtype=np.float64, na_value=np.nan),
        columns=tuple(features.columns),
        standardize=True,
        fill=config.missing == "median",
    )


def _without_missing(raw: Raw, config: DataConfig) -> Raw:
    """Without the rows that have a missing feature."""
    if not isinstance(raw.inputs, np.ndarray):
        return raw
    keep = np.asarray(~np.isnan(raw.inputs.reshape(len(raw.inputs), -1)).any(axis=1))
    if keep.all():
        return raw
    if not keep.any():
        raise bad(config, "has a missing value in every row", "write data.missing: median")
    lost = int((~keep).sum())
    own: dict[str, Any] = {
        key: None if getattr(raw, key) is None else getattr(raw, key)[keep]
        for key in ("lines", "groups", "times", "parts", "folds")
    }
    ids = np.arange(len(keep)) if raw.ids is None else raw.ids
    return replace(
        raw,
        inputs=raw.inputs[keep],
        targets=raw.targets[keep],
        ids=ids[keep],
        notes=(*raw.notes, f"{lost:,} of {len(keep):,} rows with missing values are left out"),
        **own,
    )


def _check_targets(
    targets: tuple[str, ...],
    names: list[str],
    taken: dict[str, str],
    config: DataConfig,
    key: str = "target",
) -> None:
    """Refuse targets that are no columns, named twice, or named as something else too."""
    if not targets:
        raise DataError("data.target", "[]", "names no column", "name one, or leave the key out")
    for target in targets:
        if target not in names:
            raise DataError(
                f"data.{key}",
                target,
                f"{config.name} has no such column",
                f"write one of: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
            )
        if target in taken.values():
            key = next(key for key, name in taken.items() if name == target)
            raise DataError(f"data.{key}", target, "is the target too", "name another column")
        if targets.count(target) > 1:
            raise DataError("data.target", target, "is named twice", "name each column once")


def _refuse_another(names: list[str], config: DataConfig) -> None:
    """Refuse to take the last column as the target where another one is called so."""
    called = [name for name in names if name.strip().lower() in TARGETS]
    if called and names[-1] not in called:
        rule = f"takes the last column, {names[-1]!r}, and there is one called {called[0]!r}"
        fix = f"write data.target: {called[0]}, or data.target: {names[-1]}"
        raise DataError("data.target", "null", rule, fix)


def _told_by_one(features: pd.DataFrame, target: pd.Series) -> list[str]:
    """A sentence about each feature that alone tells what the target of every row is."""
    import pandas as pd

    codes, values = pd.factorize(target)
    # Of values that seldom come again any number of a row tells which row it is: the same numbers alone are a copy.
    seldom = len(values) > len(codes) / 2
    found = []
    for name in features.columns:
        if _holds_lists(features[name]) or not np.array_equal(
            pd.factorize(features[name])[0], codes
        ):
            continue
        if seldom:
            one, other = (pd.to_numeric(c, errors="coerce") for c in (features[name], target))
            if not np.array_equal(one.to_numpy(float), other.to_numpy(float)):
                continue
        found.append(
            f"column {name!r} alone tells the target of every row: leave it out if it was made from it"
        )
    return found


def _refuse_one_of_several(frame: pd.DataFrame, config: DataConfig) -> None:
    """Refuse to take the last column as the target where it is the last of one-hot columns: the others tell it."""
    import pandas as pd

    total, taken = np.zeros(len(frame)), 0
    for name in reversed(list(frame.columns)):
        if _holds_lists(frame[name]):
            return
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        if not np.isin(values, (0, 1)).all():
            return
        total, taken = total + values, taken + 1
        if (total > 1).any():
            return
        if taken > 1 and (total == 1).all():
            break
    else:
        return
    names = ", ".join(frame.columns[-taken:])
    rule = f"the last {taken} columns, {names}, are 0 and 1 with one 1 in each row, as one-hot classes are"
    fix = f"write [{names}] to predict which of them it is, or name the target column"
    raise DataError("data.target", "null", rule, fix)


def _several(
    frame: pd.DataFrame, names: tuple[str, ...], raw: Raw, config: DataConfig
) -> np.ndarray:
    """Several columns of values as one array [n, K]. Refuses words among them."""
    columns = []
    for name in names:
        values, _ = _target(frame[name], raw, config)
        if values.dtype.kind not in "biuf":
            words = ~frame[name].astype(str).str.fullmatch(NUMBER.pattern).to_numpy()
            row = int(words.argmax())
            raise DataError(
                "data.target",
                f"[{', '.join(names)}]",
                f"column {name!r} has {str(values[row])!r} in {raw.place(row)}, and several targets are numbers",
                "name columns of numbers, or one column of classes",
            )
        columns.append(values)
    return np.column_stack(columns)


def _target(column: pd.Series, raw: Raw, config: DataConfig) -> tuple[np.ndarray, list[str]]:
    """The targets as numbers where all of them are, else as text: NA is the name of a class then."""
    import pandas as pd

    if _holds_lists(column):
        value = next(v for v in column if v is not None)
        raise bad(
            config,
            f"target column {column.name!r} holds lists, as {np.asarray(value).tolist()[:3]} in {raw.place(0)}",
            "save one class or value per row in it",
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        raise bad(config, f"target column {column.name!r} holds dates", "save numbers or classes")
    lost = column.isna().to_numpy()
    notes: list[str] = []
    values = column
    if not pd.api.types.is_numeric_dtype(column):
        text = column.where(~column.isna(), "").astype(str).str.strip()
        words = ~text.str.fullmatch(NUMBER.pattern).to_numpy()
        named = words & text.isin(MISSING).to_numpy()
        if (words == named).all() and not words.all():  # numbers, and here and there none
            lost = named
            values = pd.to_numeric(text.where(~named), errors="coerce")
            whole = values.dropna()
            if not lost.any() and (whole % 1 == 0).all() and (whole.abs() < 2**53).all():
                values = values.astype("int64")
        else:
            lost = (text == "").to_numpy()
            called = sorted({name for name in text[named] if name})
            if called:
                count = int((text.isin(called)).sum())
                notes.append(f"{', '.join(map(repr, called))} names a class ({count:,} rows)")
            values = column.where(~column.isna(), "").astype(str)
    if lost.any():
        row = int(lost.argmax())
        raise bad(
            config,
            f"{raw.place(row)} has no target in column {column.name!r}; {lost.sum()} such rows",
            "drop these rows",
        )
    return values.to_numpy(), notes


def _holds_lists(column: pd.Series) -> bool:
    first = next((v for v in column.head(50) if v is not None), None)
    return isinstance(first, list | tuple | np.ndarray)


def _stacked(column: pd.Series, raw: Raw, config: DataConfig) -> np.ndarray:
    """A column of lists as one array; all of them alike."""
    rows = [np.array(np.stack(v) if np.asarray(v).dtype.kind == "O" else v) for v in column]
    for i, row in enumerate(rows):
        if row.shape != rows[0].shape:
            rule = (
                f"column {column.name!r} has lists of shape {row.shape} in {raw.place(i)} and "
                f"{rows[0].shape} in {raw.place(0)}"
            )
            raise bad(config, rule, "make all of one length")
    return np.stack(rows)


def _refuse_text(column: pd.Series, raw: Raw, config: DataConfig) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return
    if _holds_lists(column):
        rule = f"column {column.name!r} holds lists, beside other features"
        raise bad(config, rule, "drop the column, or spread it over columns of numbers")
    if pd.api.types.is_datetime64_any_dtype(column):
        rule = f"column {column.name!r} holds dates"
        fix = "drop the column, name it as data.order, or write data.categories: auto"
        raise bad(config, rule, fix)
    wrong = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    row = int(wrong.to_numpy().argmax()) if wrong.any() else 0
    value = column.iloc[row]
    shown = float(value) if isinstance(value, decimal.Decimal) else value
    raise bad(
        config,
        f"column {column.name!r} is not numeric: {shown!r} in {raw.place(row)}",
        "drop the column, code it as numbers, name it as data.target, or list it under data.categories",
    )
