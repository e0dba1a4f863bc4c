"""Columns of a table that are no features: what names, groups, orders and splits its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad, split_words

if TYPE_CHECKING:
    import pandas as pd


def named(frame: pd.DataFrame, config: DataConfig, key: str) -> str:
    """The column that a key of `data:` names. Raises DataError where there is none."""
    name = str(getattr(config, key))
    if name not in frame.columns:
        raise DataError(
            f"data.{key}",
            name,
            f"{config.name} has no such column",
            f"write one of: {', '.join(frame.columns[:20])}",
        )
    return name


def texts(frame: pd.DataFrame, name: str | None, raw: Raw, config: DataConfig) -> np.ndarray | None:
    """A column's texts, none of them empty; None where no column is named."""
    if name is None:
        return None
    column = frame[name]
    text = column.where(~column.isna(), "").astype(str).str.strip()
    lost = (text == "").to_numpy()
    if lost.any():
        rule = f"{raw.place(int(lost.argmax()))} has no value in column {name!r}"
        raise bad(config, f"{rule}; {lost.sum()} such rows", "fill the column in")
    return text.to_numpy(dtype=str)


def times(frame: pd.DataFrame, name: str | None, raw: Raw, config: DataConfig) -> np.ndarray | None:
    """Numbers as they are, texts as dates."""
    import pandas as pd

    if name is None:
        return None
    column = frame[name]
    if pd.api.types.is_numeric_dtype(column):
        times = column.to_numpy(dtype=float, na_value=np.nan)
        lost = np.isnan(times)
    else:
        try:
            dates = pd.to_datetime(column, format="ISO8601", utc=True)
        except (ValueError, TypeError) as error:
            raise DataError(
                "data.order",
                name,
                f"its values are no times: {column.iloc[0]!r}",
                "give numbers, or dates as 2026-01-31",
            ) from error
        lost = dates.isna().to_numpy()
        times = dates.to_numpy()
    if lost.any():
        rule = f"{raw.place(int(lost.argmax()))} has no time in column {name!r}"
        raise bad(config, f"{rule}; {lost.sum()} such rows", "fill the column in")
    return np.asarray(times)


def parts(frame: pd.DataFrame, name: str | None, raw: Raw, config: DataConfig) -> np.ndarray | None:
    """Train, validation or test for each row."""
    values = texts(frame, name, raw, config)
    return None if values is None else split_words(values, raw, config)


def own_ids(ids: np.ndarray) -> np.ndarray:
    """Index values as whole numbers where they are such, else as text."""
    ids = np.asarray(ids)
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64)
    if ids.dtype.kind == "f" and np.isfinite(ids).all() and (ids % 1 == 0).all():
        return ids.astype(np.int64)
    if ids.dtype.kind == "O" and all(str(i).isdigit() and str(int(i)) == str(i) for i in ids):
        return ids.astype(np.int64)
    return ids.astype(str)
