"""Tables kept by columns: parquet:FILE and arrow:FILE, of numbers and words, or of encoded images or lists.

Of a column of images, and of the features of a large table, only the parts of the file that hold wanted rows are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data import folds, pictures, second
from engram.data.columns import take_index
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad, file
from engram.data.sources import Asked
from engram.data.tables import beside, table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BY_NEED = 256 * 2**20  # bytes of features as numbers, from which on they stay in the file


@dataclass(frozen=True)
class Content:
    """A file of columns, opened: rows come in parts of `sizes`, which can be read one by one.

    read(names): these columns whole. part(number, name): one column of one part.
    """

    schema: pa.Schema
    sizes: list[int]
    read: Callable[[list[str]], pa.Table]
    part: Callable[[int, str], Any]


def parquet(config: DataConfig, asked: Asked) -> Raw:
    """parquet:FILE: features are numbers, or one column of encoded images or of lists of numbers."""
    return second.joined(partial(_columns, _open_parquet, "Parquet"), config)


def arrow(config: DataConfig, asked: Asked) -> Raw:
    """arrow:FILE, the same in an Arrow or Feather file, mapped."""
    return second.joined(partial(_columns, _open_arrow, "Arrow"), config)


def _open_parquet(path: Path) -> Content:
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(path)
    sizes = [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]

    def part(number: int, name: str) -> Any:
        return opened.read_row_group(number, columns=[name]).column(0)

    return Content(opened.schema_arrow, sizes, lambda names: opened.read(columns=names), part)


def _open_arrow(path: Path) -> Content:
    """A file of Arrow's, which Feather is, or a stream, as Hugging Face keeps data sets."""
    import pyarrow as pa
    from pyarrow import ipc

    try:
        whole = ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid:
        whole = ipc.open_stream(pa.memory_map(str(path))).read_all()
    parts = whole.to_batches()
    sizes = [part.num_rows for part in parts]
    return Content(whole.schema, sizes, whole.select, lambda n, name: parts[n].column(name))


def _columns(opened: Callable[[Path], Content], form: str, config: DataConfig) -> Raw:
    import pyarrow as pa

    path = file(config)
    try:
        content = opened(path)
        encoded = [f.name for f in content.schema if pictures.is_encoded(f.type)]
        others = [name for name in content.schema.names if name not in encoded]
        left = [] if encoded else _to_leave(content, config)
        frame = _frame(content.read([name for name in others if name not in left[1:]]), config)
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        raise bad(config, f"{path} cannot be read: {error}", f"save it as {form}") from error
    ids = None if type(frame.index).__name__ == "RangeIndex" else np.asarray(frame.index)
    frame = frame.reset_index(drop=True)
    said: list[str] = []
    if ids is None and (config.index != "auto" or not encoded):
        frame, ids = take_index(frame, False, config, said)
    if left:
        return _left_in_file(content, left, frame, ids, said, config)
    if not encoded:
        raw = table(frame, config, config.target, ids=ids)
        return replace(raw, notes=(*said, *raw.notes))
    if len(encoded) > 1:
        rule = f"has {len(encoded)} columns of encoded files: {', '.join(encoded)}"
        raise bad(config, rule, "keep one, beside the target")
    if config.text is not None:
        rule = f"and column {encoded[0]!r}, of encoded files, are both inputs"
        raise DataError("data.text", config.text, rule, "leave data.text out, or drop the other")
    name = encoded[0]
    frame, target = beside(name, frame, config, said)
    images = pictures.from_parts(
        content.sizes, lambda number: content.part(number, name), name, config
    )
    raw = table(frame, config, target, ids=ids, inputs=images)
    return replace(raw, notes=(*said, *raw.notes))


def _to_leave(content: Content, config: DataConfig) -> list[str]:
    """The features of a large table, where all are numbers and nothing asks for all of their rows; else none."""
    import pyarrow as pa

    schema, names = content.schema, content.schema.names
    whole = config.missing == "drop" or not isinstance(config.categories, str) or config.text
    if whole or config.target is None or config.test is not None or len({*names}) < len(names):
        return []
    kept = {*config.targets, config.groups, config.order, config.split, folds.column(config)}
    of_pandas = (schema.pandas_metadata or {}).get("index_columns", ())
    kept |= {config.index, *(name for name in of_pandas if isinstance(name, str))}
    features = [name for name in names if name not in kept]
    if sum(content.sizes) * len(features) * 8 < BY_NEED:
        return []
    kinds = [schema.field(name).type for name in features]
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
    return features if numbers else []


def _left_in_file(
    content: Content,
    names: list[str],
    frame: pd.DataFrame,
    ids: np.ndarray | None,
    said: list[str],
    config: DataConfig,
) -> Raw:
    """A table whose features are read by need. frame: the other columns, and the first feature unless it names the rows."""
    names = names if names[0] in frame.columns else names[1:]
    frame = frame.drop(columns=names[:1], errors="ignore")
    raw = table(frame, config, config.target, ids=ids, inputs=Numbers(content, names))
    said.append(
        f"{len(frame):,} rows of {len(names)} features stay in the file, and those that are used are read, and scaled "
        "over the pool of these; columns that count the rows or tell the target are not looked for"
    )
    fill = config.missing == "median"
    notes = (*said, *raw.notes)
    return replace(raw, columns=tuple(names), standardize=True, fill=fill, notes=notes)


class Numbers:
    """Features that stay in their file. Row numbers [k] give float64 [k, features], a missing one as NaN."""

    dtype = np.dtype(np.float64)

    def __init__(self, content: Content, names: list[str]):
        self.content, self.names = content, names
        self.shape = sum(content.sizes), len(names)
        self._ends = np.cumsum(content.sizes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        import pyarrow as pa

        found = np.empty((len(rows), len(self.names)))
        parts = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(parts):
            places = np.flatnonzero(parts == number)
            start = int(self._ends[number]) - self.content.sizes[number]
            wanted = pa.array(np.asarray(rows)[places] - start)
            for i, name in enumerate(self.names):
                values = self.content.part(int(number), name).take(wanted)
                found[places, i] = values.to_pandas().to_numpy(float, na_value=np.nan)
        return found


def _frame(found: pa.Table, config: DataConfig) -> pd.DataFrame:
    """Columns as pandas has them; decimals as floats, dictionaries as their values."""
    import pyarrow as pa

    for i, name in enumerate(found.column_names):
        kind = found.schema.field(i).type
        if pa.types.is_dictionary(kind):
            found = found.set_column(i, name, found.column(i).cast(kind.value_type))
            kind = kind.value_type
        if pa.types.is_decimal(kind):
            found = found.set_column(i, name, found.column(i).cast(pa.float64()))
        if pa.types.is_struct(kind) or pa.types.is_map(kind):
            fix = "drop the column, or save one number per row in it"
            raise bad(config, f"column {name!r} holds {kind} values", fix)
    twice = {name for name in found.column_names if found.column_names.count(name) > 1}
    if twice:
        raise bad(config, f"has two columns named {sorted(twice)[0]!r}", "give each its own name")
    return found.to_pandas(ignore_metadata=False)
