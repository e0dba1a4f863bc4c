"""The columns of a table as read: which one names the rows, names that occur twice, decimal commas.

Each decision is a key of `data:` and is said in a note where it is not the plain one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import bad

if TYPE_CHECKING:
    import pandas as pd

# What stands for a missing number. As the name of a class each is a word like any other.
MISSING = frozenset(
    ["", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None"]
)
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
COMMA_DECIMAL = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_COUNTERS = re.compile(
    r"unnamed: 0.*|index|idx|id|row|row_?id|row_?n(umber|o|r)?|nr|no|number", re.IGNORECASE
)
_IDS = re.compile(r"unnamed: 0.*|index|idx|(row_?)?id|uuid|guid", re.IGNORECASE)
ENOUGH = 8  # rows from which on 0, 1, 2, ... is no coincidence


def without_unnamed(frame: pd.DataFrame, config: DataConfig, notes: list[str]) -> pd.DataFrame:
    """Without columns that have neither a name nor a value: what trailing separators leave."""
    bare = [
        not name and i > 0 and bool((frame.iloc[:, i].isna() | (frame.iloc[:, i] == "")).all())
        for i, name in enumerate(frame.columns)
    ]
    if any(bare):
        notes.append(f"{sum(bare)} columns without name and values are left out")
        frame = frame.loc[:, ~np.array(bare)]
    for i, name in enumerate(frame.columns):
        if not name and i > 0:
            raise bad(config, f"column {i + 1} has no name", "name it in the first line")
    return frame


def take_index(
    frame: pd.DataFrame, drop_first: bool, config: DataConfig, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The column that names the rows taken off, and its values; None where there is none."""
    if not len(frame.columns):
        return frame, None
    first, rows = str(frame.columns[0]), len(frame)
    if config.index == "none":
        if drop_first or not first:
            frame = frame.set_axis(["column1", *frame.columns[1:]], axis=1)
        return frame, None
    if config.index not in ("auto", "first"):
        if list(frame.columns).count(config.index) != 1:
            raise DataError(
                "data.index",
                config.index,
                f"{config.name} has {list(frame.columns).count(config.index)} such columns",
                f"write auto, none, first or one of: {', '.join(map(str, frame.columns[:20]))}",
            )
        return frame.drop(columns=config.index), np.asarray(frame[config.index])
    values = frame.iloc[:, 0]
    counting = rows > 0 and _counts(values)
    if (
        config.index == "first"
        or drop_first
        or (counting and (not first or _is_counter(first, rows)))
        or _is_id(first, values)
    ):
        which = f"the first column, {first!r}," if first else "the first column, without a name,"
        does = "counts the rows" if counting else "names the rows"
        notes.append(f"{which} {does}: it is no feature")
        return frame.iloc[:, 1:], np.asarray(values)
    if not first:
        if values.is_unique and values.notna().all() and not _fractional(values):
            notes.append("the first column, without a name, names the rows: it is no feature")
            return frame.iloc[:, 1:], np.asarray(values)
        raise bad(
            config,
            "the first column has no name and its values are no index",
            "name it, or write data.index: first (left out) or none (a feature)",
        )
    for i, name in enumerate(frame.columns[:-1]):
        if rows >= ENOUGH and _counts(frame.iloc[:, i]):
            notes.append(
                f"column {name!r} counts the rows and is a feature: write data.index: {name} if it only names them"
            )
    return frame, None


def _is_counter(name: str, rows: int) -> bool:
    return rows >= ENOUGH and _COUNTERS.fullmatch(name) is not None


def _is_id(name: str, values: pd.Series) -> bool:
    """Whether a column is called an id, and has another whole number or text in each row."""
    named = len(values) >= ENOUGH and _IDS.fullmatch(name) is not None
    return named and values.is_unique and bool(values.notna().all()) and not _fractional(values)


def _counts(values: pd.Series) -> bool:
    """0, 1, 2, ... or 1, 2, 3, ..."""
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return False
    array = values.to_numpy(dtype=float, na_value=np.nan)
    return bool(array[0] in (0, 1) and (array == np.arange(len(array)) + array[0]).all())


def _fractional(values: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_float_dtype(values) and bool((values % 1 != 0).any())


def distinct(frame: pd.DataFrame, config: DataConfig, notes: list[str]) -> pd.DataFrame:
    """Names made different: the second `a` is a.1. Not that of the target, which must be one."""
    names, seen = [], dict[str, int]()
    for name in map(str, frame.columns):
        seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
    twice = [name for name, count in seen.items() if count]
    targets = config.targets or (str(frame.columns[-1]),)
    for target in (name for name in targets if name in twice):
        rule = f"{config.name} has {seen[target] + 1} columns of this name"
        raise DataError("data.target", target, rule, "give each column a name of its own")
    if twice:
        second = ", ".join(f"{name!r} (the second is {name}.1)" for name in twice[:3])
        notes.append(f"columns of the same name are kept apart: {second}")
    return frame.set_axis(names, axis=1)


def decimals(
    frame: pd.DataFrame, lines: np.ndarray, config: DataConfig, notes: list[str]
) -> pd.DataFrame:
    """Columns of 0,5 as numbers. Refused where the comma may as well part thousands."""
    import pandas as pd

    if config.decimal == "point":
        return frame
    texts = {
        name: frame[name].dropna().astype(str)
        for name in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[name])
    }
    commas = {name: v[~v.isin(MISSING)] for name, v in texts.items()}
    commas = {
        name: v
        for name, v in commas.items()
        if v.str.contains(",", regex=False).any()
        and (v.str.fullmatch(COMMA_DECIMAL.pattern) | v.str.fullmatch(_WHOLE.pattern)).all()
    }
    if not commas:
        return frame
    if config.decimal == "auto":
        name = next(iter(commas))
        first = int(np.flatnonzero(frame[name].astype(str).str.contains(","))[0])
        shown = f"line {lines[first]}, column {name!r}: {frame[name].iloc[first]}"
        either = (_THOUSANDS.pattern, _WHOLE.pattern)
        rule = ""
        if all(
            (v.str.fullmatch(either[0]) | v.str.fullmatch(either[1])).all() for v in commas.values()
        ):
            rule = f"{shown} may be a fraction, or thousands"
        elif _has_points(frame, [c for c in frame.columns if c not in commas]):
            rule = f"{shown} has a decimal comma, and other columns have points"
        if rule:
            fix = "write data.decimal: comma, or mend the numbers"
            raise DataError("data.decimal", "auto", f"{config.name}, {rule}", fix)
        notes.append(f"decimal commas in {', '.join(map(repr, list(commas)[:3]))}")
    for name in commas:
        frame[name] = pd.to_numeric(frame[name].str.replace(",", ".", regex=False), errors="coerce")
    return frame


def _has_points(frame: pd.DataFrame, names: list[str]) -> bool:
    import pandas as pd

    for name in names:
        column = frame[name]
        if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 != 0).any():
            return True
    return False
