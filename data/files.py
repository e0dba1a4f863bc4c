"""Arrays out of a person's files and functions: IDX, NPZ, CSV, Parquet, package.module:function."""

from __future__ import annotations

import gzip
import importlib
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.data.raw import Raw, bad
from engram.data.sources import Asked
from engram.data.tidy import checked

if TYPE_CHECKING:
    import pandas as pd

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx(config: DataConfig, asked: Asked) -> Raw:
    """idx:DIR, the four MNIST files or one pair of them, gzipped or not."""
    folder = Path(config.name.partition(":")[2]).expanduser()
    if not folder.is_dir():
        raise bad(config, f"there is no folder {folder}", "name the folder of the IDX files")
    pairs = []
    for part in (("train",), ("t10k", "test")):
        images = _idx_file(folder, part, "images", config)
        labels = _idx_file(folder, part, "labels", config)
        if (images is None) != (labels is None):
            found, lost = (images, "labels") if images else (labels, "images")
            assert found is not None
            raise bad(
                config,
                f"{folder} has {found.name} without its {lost}",
                f"put {found.name.replace('labels' if images is None else 'images', lost)} there",
            )
        if images is not None and labels is not None:
            pairs.append((_read_idx(images, config), _read_idx(labels, config)))
    if not pairs:
        raise bad(
            config,
            f"{folder} has no IDX files",
            "put train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not) there",
        )
    (inputs, targets), rest = pairs[0], pairs[1:]
    test_inputs, test_targets = rest[0] if rest else (None, None)
    return Raw(inputs, targets, test_inputs, test_targets)


def _idx_file(folder: Path, parts: tuple[str, ...], what: str, config: DataConfig) -> Path | None:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.removesuffix(".gz").endswith(("ubyte", "idx")) or "idx" in path.name
        if what in path.name and any(part in path.name for part in parts)
    )
    plain = {path.name.removesuffix(".gz"): path for path in reversed(found)}
    if len(plain) > 1:
        raise bad(
            config,
            f"{folder} has several files of {parts[0]} {what}: {', '.join(sorted(plain))}",
            "keep one dataset in a folder",
        )
    return next(iter(plain.values()), None)


def _read_idx(path: Path, config: DataConfig) -> np.ndarray:
    """Two zero bytes, a type, the number of axes, each axis as four bytes, then the values."""
    fix = "fetch the file again"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise bad(config, f"{path.name} cannot be read: {error}", fix) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise bad(config, f"{path.name} is no IDX file (it starts with {content[:4]!r})", fix)
    axes, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    shape = (
        tuple(np.frombuffer(content, ">u4", axes, 4).tolist()) if len(content) > 4 * axes else ()
    )
    body = content[4 + 4 * axes :]
    if not shape or len(body) != np.prod(shape, dtype=np.int64) * dtype.itemsize:
        raise bad(
            config, f"{path.name} announces shape {shape} and has {len(body)} bytes of values", fix
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def npz(config: DataConfig, asked: Asked) -> Raw:
    """npz:FILE with arrays x, y and perhaps x_test, y_test; `kind` may say what x is."""
    path = _file(config)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise bad(
            config,
            f"{path} cannot be read: {error}" if str(error) else f"{path} is empty",
            "write it with numpy.savez(file, x=..., y=...), arrays of numbers (no objects)",
        ) from error
    return _from_mapping(arrays, config)


def csv(config: DataConfig, asked: Asked) -> Raw:
    """csv:FILE with a first line of names; every column but the target holds numbers."""
    import pandas as pd

    path = _file(config)
    try:
        frame = pd.read_csv(path, low_memory=False)
    except (ValueError, OSError, EOFError, zlib.error) as error:  # ParserError is a ValueError
        raise bad(config, f"{path} cannot be read: {error}", "save it as UTF-8 CSV") from error
    if len(frame.columns) and all(_is_number(str(name)) for name in frame.columns):
        names = ", ".join(map(str, frame.columns[:3]))
        raise bad(config, f"its first line is numbers ({names})", "put the column names first")
    return table(frame, config, config.target, first_row=2)


def parquet(config: DataConfig, asked: Asked) -> Raw:
    """parquet:FILE; every column but the target holds numbers."""
    import pandas as pd

    path = _file(config)
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError, EOFError) as error:  # ArrowInvalid is a ValueError
        raise bad(config, f"{path} cannot be read: {error}", "save it as Parquet") from error
    return table(frame, config, config.target, first_row=0)


def table(frame: pd.DataFrame, config: DataConfig, target: str | None, first_row: int) -> Raw:
    """A data frame with its target column (None: the last) taken off, to be standardized.

    first_row: the number that a message gives to the first row (of a CSV file, its line).
    """
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis=1)
    if len(names) < 2 or not len(frame):
        raise bad(
            config,
            f"has {len(frame)} rows and {len(names)} columns",
            "give rows of one feature or more and a target",
        )
    target = names[-1] if target is None else target
    if target not in names:
        raise DataError(
            "data.target",
            target,
            f"{config.name} has no such column",
            f"write one of: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
        )
    lost = frame[target].isna().to_numpy()
    if lost.any():
        row = int(lost.argmax()) + first_row
        raise bad(
            config,
            f"row {row} has no target in column {target!r}; {lost.sum()} such rows",
            "drop these rows",
        )
    features = frame.drop(columns=target)
    for name in features.columns:
        _refuse_text(features[name], config, first_row)
    return Raw(
        features.to_numpy(dtype=np.float64, na_value=np.nan),
        frame[target].to_numpy(),
        columns=tuple(features.columns),
        first_row=first_row,
        standardize=True,
    )


def _refuse_text(column: pd.Series, config: DataConfig, first_row: int) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return
    wrong = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    row = int(wrong.to_numpy().argmax()) if wrong.any() else 0
    raise bad(
        config,
        f"column {column.name!r} is not numeric: {column.iloc[row]!r} in row {row + first_row}",
        "drop the column, code it as numbers, or name it as data.target",
    )


def function(config: DataConfig, asked: Asked) -> Raw | Dataset:
    """package.module:function, called without arguments.

    It returns a Dataset, a tuple (x, y) or (x, y, x_test, y_test), or a mapping of these names.
    """
    module, _, name = config.name.partition(":")
    try:
        maker = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise bad(
            config, f"there is no module {error.name}", "write package.module:function"
        ) from error
    except AttributeError as error:
        raise bad(config, str(error), "write package.module:function") from error
    except Exception as error:
        raise bad(config, f"importing {module} raised {error!r}", "mend the module") from error
    if not callable(maker):
        raise bad(config, f"{name} is {type(maker).__name__}, no function", "name a function")
    try:
        found = maker()
    except Exception as error:
        raise bad(config, f"{name}() raised {error!r}", "mend the function") from error
    if isinstance(found, Dataset):
        return checked(found, config)
    if isinstance(found, tuple) and len(found) in (2, 4):
        found = dict(zip(("x", "y", "x_test", "y_test"), found, strict=False))
    if not isinstance(found, dict):
        raise bad(
            config,
            f"{name}() returned {type(found).__name__}",
            "return (x, y), (x, y, x_test, y_test), a dict of these names, or a Dataset",
        )
    return _from_mapping(found, config)


def _from_mapping(arrays: dict[str, Any], config: DataConfig) -> Raw:
    known = ("x", "y", "x_test", "y_test", "kind")
    unknown = [name for name in arrays if name not in known]
    lacking = [name for name in ("x", "y") if name not in arrays]
    if ("x_test" in arrays) != ("y_test" in arrays):
        lacking.append("y_test" if "x_test" in arrays else "x_test")
    if lacking or unknown:
        rule = f"lacks {', '.join(lacking)}" if lacking else f"has also {', '.join(unknown)}"
        raise bad(config, rule, "give x and y, perhaps x_test and y_test, and no others")
    kind: Any = str(arrays["kind"]) if "kind" in arrays else None
    return Raw(arrays["x"], arrays["y"], arrays.get("x_test"), arrays.get("y_test"), kind)


def _file(config: DataConfig) -> Path:
    path = Path(config.name.partition(":")[2]).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise bad(config, f"the file {path} {what}", f"looked from {Path.cwd()}; give its path")
    if not path.stat().st_size:
        raise bad(config, f"{path} is empty", "give a file with rows")
    return path


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
