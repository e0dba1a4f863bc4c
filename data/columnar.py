"""Tables kept by columns: parquet:FILE and arrow:FILE, of numbers and words, or of encoded images or lists.

Of a column of images only the parts of the file that hold wanted rows are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data import pictures, second
from engram.data.columns import take_index
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad, file
from engram.data.sources import Asked
from engram.data.tables import beside, table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


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
        frame = _frame(content.read(others), config)
    except (ValueError, OSError, EOFError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        raise bad(config, f"{path} cannot be read: {error}", f"save it as {form}") from error
    ids = None if type(frame.index).__name__ == "RangeIndex" else np.asarray(frame.index)
    frame = frame.reset_index(drop=True)
    said: list[str] = []
    if ids is None and (config.index != "auto" or not encoded):
        frame, ids = take_index(frame, False, config, said)
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
