"""Rows as a source found them, before any check, and the words for a place in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError, Kind

# What data.split, and folders of pictures, may call the parts of a dataset.
PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Raw:
    """Rows as a source found them, with what is needed to name a place in them.

    inputs: an array, or anything with `shape` that gives an array for an array of row numbers (a
    memory map, pictures still encoded): of such only the rows that are used are read.
    ids: the person's own name of each row; None: its position. columns: names of the features of a
    table. lines: the line of each row in its file; first_row: the number of row 0 where there are
    no lines. standardize: features (and regression targets) to mean 0, sd 1 over the pool.
    fill: missing features become the median of the pool. words: columns that hold the places of words in these. groups, times, parts, folds [n]: the
    columns named by data.groups, data.order, data.split (train, validation, test) and data.folds. target: the name of
    the target column; of several values to predict the names of all.
    """

    inputs: Any
    targets: Any
    test_inputs: Any = None
    test_targets: Any = None
    kind: Kind | None = None
    columns: tuple[str, ...] | None = None
    first_row: int = 0
    standardize: bool = False
    ids: np.ndarray | None = None
    test_ids: np.ndarray | None = None
    lines: np.ndarray | None = None
    test_lines: np.ndarray | None = None
    fill: bool = False
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    parts: np.ndarray | None = None
    folds: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    test_times: np.ndarray | None = None
    target: str | tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def place(self, row: int, test: bool = False) -> str:
        """A row as the person finds it: `line 7` of a text file, else `row 5`."""
        lines = self.test_lines if test else self.lines
        return f"row {row + self.first_row}" if lines is None else f"line {lines[row]}"


def bad(config: DataConfig, rule: str, fix: str) -> DataError:
    """The error of data that cannot be used, at the key that names the data."""
    return DataError("data.name", config.name, rule, fix)


SEVERAL = "give several inputs of an example as a mapping of their names: x = {name: array, ...}"


def one_input(inputs: Any, name: str, config: DataConfig) -> None:
    """Refuse several inputs where an example is one array."""
    if isinstance(inputs, Mapping):
        rule = f"{name} is a mapping of {len(inputs)} inputs ({', '.join(map(str, inputs))})"
        raise bad(config, rule, "return x and y and no Dataset, x being that mapping")


def finite(
    raw: Raw, values: np.ndarray, name: str, config: DataConfig, rows: np.ndarray | None = None
) -> None:
    """Refuse NaN and infinity, saying where the first one stands. values [k, ...] are of `rows`."""
    places = np.argwhere(~np.isfinite(values))
    if not len(places):
        return
    found = places if rows is None else np.column_stack([rows[places[:, 0]], places[:, 1:]])
    earliest = int(np.lexsort(found.T[::-1])[0])
    first = tuple(int(i) for i in found[earliest])
    wrong = np.isnan(values[tuple(places[earliest])])
    what = "no number (NaN)" if wrong else "infinite, or beyond float32"
    fix = "drop or fill these rows first"
    if raw.columns and name != "y":
        where = f"{raw.place(first[0], name == 'x_test')}, column {raw.columns[first[1]]!r}"
        what = "missing" if raw.columns[first[1]] in raw.words else what
        fix = "write data.missing: drop or median, or mend these rows" if wrong else fix
    else:
        where = f"{name}[{', '.join(map(str, first))}]"
    more = f"; {len(places)} such values" if len(places) > 1 else ""
    raise bad(config, f"{where} is {what}{more}", fix)


def split_words(values: np.ndarray, raw: Raw, config: DataConfig) -> np.ndarray:
    """Words of a split as train, validation and test. Raises DataError for any other word."""
    lowered = np.char.lower(values.astype(str))
    known = np.isin(lowered, list(PARTS))
    if not known.all():
        row = int((~known).argmax())
        raise DataError(
            "data.split",
            config.split,
            f"{raw.place(row)} says {str(values[row])!r}",
            "write train, validation or test in each row",
        )
    return np.array([PARTS[word] for word in lowered])


def file(config: DataConfig, path: str | None = None) -> Path:
    """The file that data.name (or another path) names. Raises DataError where there is none."""
    found = Path(config.name.partition(":")[2] if path is None else path).expanduser()
    if not found.is_file():
        what = "is a folder" if found.is_dir() else "does not exist"
        raise bad(config, f"the file {found} {what}", f"looked from {Path.cwd()}; give its path")
    if not found.stat().st_size:
        raise bad(config, f"{found} is empty", "give a file with rows")
    return found
