"""openml:NAME, downloaded once, verified against the checksum OpenML publishes, and kept.

Three requests: the name's number, its description, its file (ARFF). The description and the file
stay in the cache folder; the file's MD5 is checked at every load.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import urllib.error
import urllib.request
from array import array
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from engram import files
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad
from engram.data.sources import Asked
from engram.data.tables import table

if TYPE_CHECKING:
    import pandas as pd

SERVER = "https://www.openml.org"
TIMEOUT_S = 30.0

_DATA = re.compile(rb"^\s*@data[^\n]*(\n|$)", re.IGNORECASE | re.MULTILINE)
_SPECIAL = re.compile(rb"['\"\\%{}\t]")
_NUMBERS = ("NUMERIC", "REAL", "INTEGER")


def source(config: DataConfig, asked: Asked) -> Raw:
    """openml:NAME (its oldest active version), openml:NAME@VERSION, or openml:NUMBER.

    Columns pixel1..pixelN with N a square become images in [0, 1]. Otherwise nominal columns
    become one column per category, and all are standardized.
    """
    about, content = _fetch(config, asked.cache and asked.cache / "openml")
    frame = parse(content, config)
    for key in ("ignore_attribute", "row_id_attribute"):
        frame = frame.drop(columns=about.get(key) or [], errors="ignore")
    default = about.get("default_target_attribute") or str(frame.columns[-1])
    targets = config.targets or (default,)
    for target in (name for name in targets if name not in frame.columns):
        raise DataError(
            "data.target",
            target,
            f"{config.name} has no such column",
            f"write one of: {', '.join(map(str, frame.columns[:20]))}",
        )
    frame = _one_hot(frame, targets, config)
    raw = table(frame, config, config.target or default, first_row=1)
    side = _side(raw.columns or ())
    if side:
        images = raw.inputs.reshape(-1, side, side) / 255
        return replace(
            raw, inputs=images, kind="image", columns=None, standardize=False, fill=False
        )
    return raw


def parse(content: bytes, config: DataConfig) -> pd.DataFrame:
    """Dense ARFF -> data frame: numbers as float64, nominal columns as categories, ? as missing.

    liac-arff reads the file. Rows without quotes, escapes or comments mean the same to a CSV reader,
    which takes over there: ten times faster on rows of 784 numbers.
    """
    import arff
    import pandas as pd

    start = _DATA.search(content)
    if start is None:
        raise bad(config, "its file is no ARFF (it has no @data line)", "choose another dataset")
    rows = content[start.end() :].strip()
    if rows.startswith(b"{"):
        raise bad(config, "its file is sparse ARFF", "save it as npz:FILE with dense arrays")
    if not rows:
        raise bad(config, "its ARFF has no rows", "choose another dataset")
    plain = _SPECIAL.search(rows) is None
    text = (content[: start.end()] if plain else content).decode("utf-8", "replace")
    try:
        found = arff.ArffDecoder().decode(io.StringIO(text), return_type=arff.DENSE_GEN)
        kinds = dict(found["attributes"])
        read = _plain_rows if plain else _rows
        columns = read(rows, found["data"], list(kinds.values()))
    except (arff.ArffException, ValueError) as error:
        reason = str(error).replace(", at line -1", "")  # known of the header alone
        raise bad(config, f"its ARFF cannot be read: {reason}", "choose another dataset") from error
    frame = pd.DataFrame(dict(zip(kinds, columns, strict=True)), columns=list(kinds))
    for name, kind in kinds.items():
        if isinstance(kind, list):
            undeclared = frame[name].notna() & ~frame[name].isin(kind)
            if undeclared.any():
                row = int(undeclared.to_numpy().argmax())
                rule = f"row {row + 1}, column {name!r}: {frame[name][row]!r} is not declared"
                raise bad(config, rule, "choose another dataset")
            frame[name] = pd.Categorical(frame[name], categories=kind)
    return frame


def _rows(rows: bytes, decoded: Iterable[list[Any]], kinds: list[Any]) -> list[Any]:
    """The library's own rows, taken one by one: as Python objects all at once they need GBs."""
    columns: list[Any] = [array("d") if kind in _NUMBERS else [] for kind in kinds]
    for row in decoded:
        for column, value in zip(columns, row, strict=True):
            missing = value is None and isinstance(column, array)
            column.append(math.nan if missing else value)
    return [np.asarray(c) if isinstance(c, array) else c for c in columns]


def _plain_rows(rows: bytes, decoded: Iterable[list[Any]], kinds: list[Any]) -> list[Any]:
    import pandas as pd

    frame = pd.read_csv(
        io.BytesIO(rows),
        header=None,
        names=list(range(len(kinds))),
        index_col=False,
        na_values=["?"],
        keep_default_na=False,
        skipinitialspace=True,
        dtype={i: "float64" if kind in _NUMBERS else "str" for i, kind in enumerate(kinds)},
    )
    widths = {line.count(b",") + 1 for line in rows.split(b"\n") if line.strip()}
    if widths != {len(kinds)}:
        raise ValueError(f"rows of {sorted(widths)} values, and {len(kinds)} attributes")
    return [
        frame[i] if kind in _NUMBERS else frame[i].str.strip().to_numpy(dtype=object)
        for i, kind in enumerate(kinds)
    ]


def _one_hot(frame: pd.DataFrame, targets: tuple[str, ...], config: DataConfig) -> pd.DataFrame:
    """Nominal features as 0/1 columns; a nominal target as whole numbers where it is such."""
    import pandas as pd

    nominal = [n for n in frame.columns if isinstance(frame[n].dtype, pd.CategoricalDtype)]
    for name in nominal:
        lost = frame[name].isna().to_numpy()
        if lost.any():
            raise bad(
                config,
                f"row {int(lost.argmax()) + 1}, column {name!r} is missing; {lost.sum()} such rows",
                "save it as csv:FILE without these rows",
            )
    for target in (name for name in targets if name in nominal):
        nominal.remove(target)
        text = frame[target].astype(str)
        whole = text.str.fullmatch(r"-?\d{1,18}").all()
        frame = frame.assign(**{target: text.astype("int64") if whole else text})
    return pd.get_dummies(frame, columns=nominal, dtype=float)


def _side(columns: tuple[str, ...]) -> int:
    """The side of the square that pixel1..pixelN fill; 0 where the columns are something else."""
    side = math.isqrt(len(columns))
    square = side > 1 and side * side == len(columns)
    return side if square and list(columns) == [f"pixel{i + 1}" for i in range(side**2)] else 0


def _fetch(config: DataConfig, folder: Path | None) -> tuple[dict[str, Any], bytes]:
    """Description and file, out of the folder where it has them undamaged."""
    name = config.name.partition(":")[2]
    about_path = folder and folder / f"{quote(name, safe='@')}.json"
    about = _kept_description(about_path)
    if about is None:
        about = _describe(name, config)
        if about_path is not None:
            files.write(about_path, json.dumps(about))
    path = folder and folder / f"{int(about['id'])}.arff"
    if path is not None and path.is_file():
        content = path.read_bytes()
        if _matches(content, about):
            return about, content
    content = _get(str(about["url"]), config)
    if not _matches(content, about):
        raise bad(
            config,
            f"the download has MD5 {hashlib.md5(content).hexdigest()}, and OpenML announces "
            f"{about.get('md5_checksum')}",
            "run it again; nothing was kept. If it stays so, the dataset is damaged at its source",
        )
    if path is not None:
        files.write(path, content)
    return about, content


def _kept_description(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    try:
        about = json.loads(path.read_bytes())
        return about if {"id", "url", "md5_checksum"} <= set(about) else None
    except ValueError:
        return None


def _describe(name: str, config: DataConfig) -> dict[str, Any]:
    number = name
    if not name.isdigit():
        plain, _, version = name.partition("@")
        url = f"{SERVER}/api/v1/json/data/list/data_name/{quote(plain, safe='')}/limit/2"
        url += f"/data_version/{quote(version, safe='')}" if version else "/status/active/"
        found = _json(url, config)
        try:
            number = str(found["data"]["dataset"][0]["did"])
        except (KeyError, IndexError, TypeError) as error:
            raise bad(config, "OpenML's answer names no dataset", "check the name") from error
    about = _json(f"{SERVER}/api/v1/json/data/{quote(number, safe='')}", config)
    try:
        described = dict(about["data_set_description"])
    except (KeyError, TypeError) as error:
        raise bad(config, "OpenML's answer describes no dataset", "check the name") from error
    lacking = [key for key in ("id", "url", "md5_checksum") if key not in described]
    if lacking or str(described.get("format", "")).lower() not in ("arff", ""):
        what = f"lacks {lacking[0]}" if lacking else f"is of format {described['format']}"
        raise bad(config, f"its description on OpenML {what}", "choose a dense ARFF dataset")
    return described


def _json(url: str, config: DataConfig) -> Any:
    try:
        return json.loads(_get(url, config))
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise bad(config, f"{url} answers no JSON", "try again later") from error


def _get(url: str, config: DataConfig) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise bad(config, f"OpenML names the address {url}", "choose another dataset")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 412):  # 412 is OpenML's own "no results"
            raise bad(
                config, "OpenML has no such dataset", "check the name, or write openml:NUMBER"
            ) from error
        raise bad(config, f"OpenML answers {error.code} at {url}", "try again later") from error
    except (OSError, ValueError, EOFError) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", error)
        raise bad(
            config,
            f"the cache has no sound copy, and {url.split('/api/')[0]} cannot be reached ({reason})",
            "run once with a connection (it is kept then), or use csv:FILE or npz:FILE",
        ) from error
    except Exception as error:  # http.client's own, as a connection cut half-way
        raise bad(config, f"the download of {url} broke off: {error!r}", "run it again") from error


def _matches(content: bytes, about: dict[str, Any]) -> bool:
    return hashlib.md5(content).hexdigest() == about.get("md5_checksum")
