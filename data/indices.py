"""A person's own split in a file of its own, data.indices: which rows are train, validation and test, by their ids.

NPZ: arrays `train`, `validation`, `test`. JSON: an object of such lists. CSV: two columns, the row's id and its part.
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import PARTS, Raw

UNUSED = "unused"  # rows of no part
_FORMS = "FILE.npz, FILE.json or FILE.csv"


@dataclass(frozen=True)
class _Named:
    """One row that the file names: its id, its part, and where the file says so."""

    row: Any
    part: str
    place: str


def parts(raw: Raw, config: DataConfig) -> np.ndarray:
    """train, validation, test or UNUSED for each row of the data: [n]. Raises DataError.

    A row is called by the person's own id where the data have ids, else by its position from 0. Without `train`, rows
    that are not named are trained on; with it they are left out."""
    if config.split is not None or config.test is not None:
        other = "split" if config.split is not None else "test"
        rule = f"and data.{other} both say which rows are which"
        raise DataError("data.indices", config.indices, rule, "keep one of them")
    if raw.parts is not None:
        rule = "the data have validation or test rows of their own"
        raise DataError("data.indices", config.indices, rule, "leave the key out")
    named = _read(Path(str(config.indices)).expanduser(), config)
    has = {one.part for one in named}
    if "test" in has and raw.test_inputs is not None:
        raise _wrong(
            config, "names test rows, and the data have a test set of their own", "keep one"
        )
    if "test" not in has and raw.test_inputs is None:
        raise _wrong(config, "names no test rows", "name them as test")
    known = _places(raw)
    found = np.full(len(raw.targets), UNUSED if "train" in has else "train", dtype="U10")
    first: dict[int, _Named] = {}
    for one in named:
        place = known.get(_key(one.row))
        if place is None:
            raise _wrong(config, f"{one.place} is {one.row!r}, {_no_such(raw)}", "mend it")
        if place in first:
            before = first[place]
            rule = f"{one.place} is {one.row!r}, which {before.place} has already"
            rule += "" if before.part == one.part else f": it is {before.part} and {one.part}"
            raise _wrong(config, rule, "name each row once")
        first[place] = one
        found[place] = one.part
    if (found == "train").sum() < 2:
        raise _wrong(config, f"leaves {(found == 'train').sum()} rows to train on", "name more")
    return found


def _places(raw: Raw) -> dict[Any, int]:
    """The place of each row by what it is called."""
    if raw.ids is None:
        return {row: row for row in range(len(raw.targets))}
    return {_key(row): place for place, row in enumerate(np.asarray(raw.ids).tolist())}


def _key(row: Any) -> Any:
    """An id as it is looked up: a whole number, or else text."""
    if isinstance(row, float) and row.is_integer():
        return int(row)
    if isinstance(row, str):
        text = row.strip()
        return int(text) if text.lstrip("-").isdigit() and str(int(text)) == text else text
    return row


def _no_such(raw: Raw) -> str:
    if raw.ids is None:
        return f"and rows are numbered from 0 to {len(raw.targets) - 1}"
    shown = ", ".join(map(repr, np.asarray(raw.ids)[:3].tolist()))
    return f"and no row has that id (they are as {shown})"


def _read(path: Path, config: DataConfig) -> list[_Named]:
    readers = {".npz": _npz, ".json": _json, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise _wrong(config, "is of no known form", f"write {_FORMS}")
    if not path.is_file():
        raise _wrong(config, f"there is no such file, looked from {Path.cwd()}", "give its path")
    named = readers[path.suffix.lower()](path, config)
    if not named:
        raise _wrong(config, "names no rows", "name train, validation and test rows")
    return named


def _npz(path: Path, config: DataConfig) -> list[_Named]:
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _wrong(config, f"cannot be read: {error}", "write it with numpy.savez") from error
    for name, rows in found.items():
        if rows.dtype == np.bool_ and rows.ndim == 1:
            found[name] = np.flatnonzero(rows)  # a mask over the rows
        elif rows.ndim != 1 or rows.dtype.kind not in "iuU":
            rule = f"{name} is {rows.dtype} of shape {rows.shape}"
            raise _wrong(config, rule, "give whole numbers or ids, one a row")
    return _of_lists({name: rows.tolist() for name, rows in found.items()}, config)


def _json(path: Path, config: DataConfig) -> list[_Named]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise _wrong(config, f"line {error.lineno}: {error.msg}", "mend the JSON") from error
    except (OSError, ValueError) as error:
        raise _wrong(config, f"cannot be read: {error}", "write it as JSON") from error
    if not isinstance(found, dict) or not all(isinstance(rows, list) for rows in found.values()):
        raise _wrong(config, "is no object of lists", 'write {"train": [...], "test": [...]}')
    for name, rows in found.items():
        for i, row in enumerate(rows):
            if isinstance(row, bool) or not isinstance(row, int | str):
                raise _wrong(config, f"{name}[{i}] is {row!r}", "give a whole number or an id")
    return _of_lists(found, config)


def _of_lists(found: dict[str, list[Any]], config: DataConfig) -> list[_Named]:
    return [
        _Named(row, _part(name, f"{name!r}", config), f"{name}[{i}]")
        for name, rows in found.items()
        for i, row in enumerate(rows)
    ]


def _csv(path: Path, config: DataConfig) -> list[_Named]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as opened:
            lines = [(number, row) for number, row in enumerate(csv.reader(opened), 1) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise _wrong(config, f"cannot be read: {error}", "write it as UTF-8 text") from error
    named = []
    for number, row in lines:
        if len(row) != 2:
            rule = f"line {number} has {len(row)} fields"
            raise _wrong(config, rule, "give two: the row's id and train, validation or test")
        row_id, part = row[0].strip(), row[1].strip()
        if number == lines[0][0] and part.lower() not in PARTS:
            continue  # the names of the two columns
        named.append(
            _Named(row_id, _part(part, f"line {number}: {part!r}", config), f"line {number}")
        )
    return named


def _part(name: str, place: str, config: DataConfig) -> str:
    part = PARTS.get(name.strip().lower())
    if part is None:
        raise _wrong(config, f"{place} is no part of a split", "write train, validation or test")
    return part


def _wrong(config: DataConfig, rule: str, fix: str) -> DataError:
    return DataError("data.indices", config.indices, rule, fix)
