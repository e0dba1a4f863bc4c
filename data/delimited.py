"""One place that reads a text table: encoding, separator, header, widths, index, decimal mark.

Each decision is made from the file, is a key of `data:` that a person can set, and is said in a note
where it is not the plain one. What has no single right reading is refused with its line.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engram.data.columns import (
    COMMA_DECIMAL,
    MISSING,
    NUMBER,
    decimals,
    distinct,
    take_index,
    without_unnamed,
)
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import bad

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
SAMPLE = 200  # records that the separator is decided on


@dataclass
class Delimited:
    """A text table, columns named, index taken off: `lines` says where in the file each row is."""

    frame: pd.DataFrame
    lines: np.ndarray
    ids: np.ndarray | None
    notes: list[str] = field(default_factory=list)


@dataclass
class _Records:
    """The records of a text and where they stand; `header` is the width of the first."""

    first: list[str]
    widths: np.ndarray
    lines: np.ndarray  # line on which each record ends
    starts: list[str]  # first field of each
    ends_empty: np.ndarray  # whether all fields beyond the first record's width are empty
    empty: np.ndarray  # whether all fields are


def read(path: Path, config: DataConfig, text_columns: tuple[str, ...]) -> Delimited:
    """The table in a file. text_columns: names of columns kept as text just as they are written."""
    import pandas as pd

    notes: list[str] = []
    text, skipped = _prepared(_decoded(path, config, notes), config, notes)
    separator = _separator(text, config, notes)
    if separator == " ":
        text = "\n".join("\t".join(line.split()) for line in text.splitlines())
        separator = "\t"
    records = _records(text, separator, path, config)
    header = _has_header(records, config)
    width, drop_first = _width(records, header, skipped, notes, config)
    names = _names(records.first, header, width, drop_first)
    keep = ~records.empty
    if header:
        keep[0] = False
    lines = records.lines[keep] + skipped
    if records.empty.any():
        notes.append(f"{int(records.empty.sum()):,} empty rows were left out")
    columns = range(int(records.widths.max()))
    targets = config.targets or next(((name,) for name in reversed(names) if name), ())
    as_text = [i for i, name in enumerate(names) if name in (*text_columns, *targets)]
    frame = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        header=None,
        names=list(columns),
        index_col=False,
        skipinitialspace=True,
        keep_default_na=False,
        na_values={i: list(MISSING) for i in columns if i not in as_text},
        dtype=dict.fromkeys(as_text, "str") | ({0: "str"} if drop_first else {}),
        skiprows=int(records.lines[0]) if header else 0,
        low_memory=False,
    )
    if len(frame) != len(records.widths) - header:
        rule = f"its quoting is unclear: {len(frame)} or {len(records.widths) - header} rows"
        raise bad(config, rule, "quote every field that holds a separator or a quote")
    frame = frame[keep[1:] if header else keep].iloc[:, : len(names)]
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    _tell_of_codes(frame, text, separator, len(columns), notes)
    frame = without_unnamed(frame, config, notes)
    frame, ids = take_index(frame, drop_first, config, notes)
    frame = distinct(frame, config, notes)
    frame = decimals(frame, lines, config, notes)
    return Delimited(frame, lines, ids, notes)


def _tell_of_codes(
    frame: pd.DataFrame, text: str, separator: str, width: int, notes: list[str]
) -> None:
    """Whole numbers with zeros before them, as postal codes have, are read as numbers: say so. width: of the longest record."""
    import pandas as pd

    whole = [i for i, kind in enumerate(frame.dtypes) if pd.api.types.is_integer_dtype(kind)]
    if not whole or not re.search(rf'(^|["{re.escape(separator)}])\s*0\d', text, re.M):
        return
    written = pd.read_csv(
        io.StringIO(text),
        sep=separator,
        header=None,
        names=list(range(width)),
        index_col=False,
        dtype="str",
        usecols=whole,
    )
    for index in whole:
        zeros = written[index].dropna().str.strip().str.fullmatch(r"0\d+")
        if zeros.any():
            name, shown = frame.columns[index], written[index].dropna()[zeros].iloc[0].strip()
            fix = f"if they are codes, list it as data.categories: [{name}]"
            notes.append(f"column {name!r} has numbers such as {shown}, read as numbers; {fix}")


# Bytes and text


def _decoded(path: Path, config: DataConfig, notes: list[str]) -> str:
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        elif content[:3] == b"BZh":
            content = bz2.decompress(content)
        elif content[:6] == b"\xfd7zXZ\x00":
            content = lzma.decompress(content)
        elif content[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                inside = [name for name in archive.namelist() if not name.endswith("/")]
                if len(inside) != 1:
                    rule = f"{path} holds {len(inside)} files: {', '.join(inside[:3])}"
                    raise bad(config, rule, "name one table")
                content = archive.read(inside[0])
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise bad(config, f"{path} cannot be read: {error}", "save it again") from error
    encoding = config.encoding
    if encoding == "auto":
        marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
        encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
        if encoding == "utf-16":
            notes.append("text in UTF-16, as its first bytes say")
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise DataError(
            "data.encoding", encoding, "is no encoding", "write utf-8, latin-1 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        wrong = content[error.start : error.start + 1].hex()
        raise bad(
            config,
            f"{path} cannot be read: line {line} has the byte 0x{wrong}, which is no {encoding}",
            "save it as UTF-8, or name its encoding as data.encoding (latin-1, cp1252)",
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise bad(config, f"{path} has a zero byte in line {line}", "give a table of text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _prepared(text: str, config: DataConfig, notes: list[str]) -> tuple[str, int]:
    """Without leading lines that are no rows (`sep=;`, the # of a commented header); lines dropped."""
    skipped = 0
    while text and not text.partition("\n")[0].strip():
        text, skipped = text.partition("\n")[2], skipped + 1
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r'"?sep=(.)"?\s*', first)
    if said:
        notes.append("the first line says the separator")
        return rest, skipped + 1
    if first.startswith("#"):
        text, dropped = _without_comments(text, config, notes)
        return text, skipped + dropped
    return text, skipped


def _without_comments(text: str, config: DataConfig, notes: list[str]) -> tuple[str, int]:
    """Without leading lines that begin with #, but for the last where it is the names; lines dropped."""
    lines = text.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    last = lines[count - 1].lstrip("# ")
    if config.header != "none" and _are_names(last, lines[count : count + 2]):
        notes.append("the # before the names is left out")
        count -= 1
        lines[count] = last
    if count:
        plural = "s that begin" if count > 1 else " that begins"
        notes.append(f"{count:,} line{plural} with # left out")
    return "\n".join(lines[count:]), count


def _are_names(line: str, after: list[str]) -> bool:
    """Whether a commented line names the columns: it has as many fields as what follows, which is no names itself."""

    def numbers(cells: list[str]) -> bool:
        return any(NUMBER.fullmatch(c) or COMMA_DECIMAL.fullmatch(c) for c in cells)

    for mark in SEPARATORS.values():
        rows = [_split(row, mark) for row in (line, *after)]
        if len(rows) < 2 or not all(rows):
            continue
        named, first, *second = (row[0] for row in rows)
        own_names = not numbers(first) and any(map(numbers, second))
        if len(named) == len(first) > 1 and not own_names:
            return True
    return False


def _separator(text: str, config: DataConfig, notes: list[str]) -> str:
    """The one that gives most of the first records the same number of fields, two or more."""
    if config.separator != "auto":
        return SEPARATORS[config.separator]
    sample = "\n".join(text.split("\n", SAMPLE)[:SAMPLE])
    found: dict[str, tuple[float, int]] = {}
    for name, mark in SEPARATORS.items():
        widths = [len(record) for record in _split(sample, mark) if any(f.strip() for f in record)]
        body = widths[1:] or widths
        if not body or min(body) < 2 or widths[0] < 2:
            continue
        common = max(set(body), key=body.count)
        found[name] = (body.count(common) / len(body), common)
    plain = {name: kind for name, kind in found.items() if name != "space"} or found
    if not plain:
        return ","
    best = max(share for share, _ in plain.values())
    chosen = [name for name, (share, _) in plain.items() if share == best]
    if len(chosen) > 1:
        numeric = {name: _numeric_share(sample, SEPARATORS[name]) for name in chosen}
        most = max(numeric.values())
        chosen = [name for name in chosen if numeric[name] == most]
    if len(chosen) > 1:
        raise DataError(
            "data.separator",
            "auto",
            f"{config.name} can be parted by {' and by '.join(chosen)}",
            f"write data.separator: {' or '.join(chosen)}",
        )
    if chosen[0] != "comma":
        notes.append(f"fields are separated by {chosen[0]}")
    return SEPARATORS[chosen[0]]


def _split(text: str, separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in text.splitlines()]
    try:
        return list(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return []


def _numeric_share(text: str, separator: str) -> float:
    fields = [f for record in _split(text, separator)[1:] for f in record]
    return sum(bool(NUMBER.fullmatch(f)) for f in fields) / len(fields)


def _records(text: str, separator: str, path: Path, config: DataConfig) -> _Records:
    widths: list[int] = []
    lines, starts, ends_empty, empty = [], [], [], []
    first: list[str] = []
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for record in reader:
            if len(record) < 2 and not "".join(record).strip():
                continue  # a blank line
            first = first or record
            widths.append(len(record))
            lines.append(reader.line_num)
            starts.append(record[0].strip())
            ends_empty.append(not "".join(record[len(first) :]).strip())
            empty.append(not "".join(record).strip())
    except csv.Error as error:
        raise bad(config, f"{path} cannot be read: line {reader.line_num}: {error}", "") from error
    if not widths:
        raise bad(config, f"{path} has no rows", "give a file with rows")
    return _Records(
        first,
        np.array(widths),
        np.array(lines),
        starts,
        np.array(ends_empty),
        np.array(empty),
    )


# Header, widths, names


def _has_header(records: _Records, config: DataConfig) -> bool:
    if config.header != "auto":
        return config.header == "first"
    cells = [cell.strip() for cell in records.first]
    numbers = [c for c in cells if NUMBER.fullmatch(c) or COMMA_DECIMAL.fullmatch(c)]
    if not numbers or _are_positions(numbers, len(cells)):
        return True
    shown = ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else "")
    if len(numbers) == len(cells):
        rule = f"its first line is numbers ({shown})"
    else:
        rule = f"its first line looks like a row, not like names: {shown} are numbers"
        rule = rule if len(numbers) > 1 else rule.replace(" are numbers", " is a number")
    raise bad(
        config,
        rule,
        "put the column names first, or write data.header: none (first, if these are names)",
    )


def _are_positions(numbers: list[str], cells: int) -> bool:
    """Whether they are 0, 1, 2, ... or 1, 2, 3, ...: the names that an array gets as a table."""
    if len(numbers) < 3 or len(numbers) == cells:
        return False
    start = numbers[0]
    return start in ("0", "1") and numbers == [str(i + int(start)) for i in range(len(numbers))]


def _width(
    records: _Records, header: bool, skipped: int, notes: list[str], config: DataConfig
) -> tuple[int, bool]:
    """(columns, whether the first is nameless as R writes row names). Refuses rows of other widths."""
    named = len(records.first)
    body = np.arange(len(records.widths)) >= header
    body &= ~records.empty
    widths = records.widths[body]
    if not len(widths):
        return named, False
    wider, shorter = body & (records.widths > named), body & (records.widths < named)
    if wider.any() and (records.ends_empty | ~wider).all() and not shorter.any():
        notes.append(f"{int(wider.sum()):,} rows end in a separator, which is left out")
        return named, False
    if header and (widths == named + 1).all() and _are_row_names(records, body, config):
        return named + 1, True
    odd = wider | shorter
    if odd.any():
        row = int(odd.argmax())
        count = int(odd.sum())
        what = "the names are" if header else "the first row has"
        rule = (
            f"line {int(records.lines[row]) + skipped} has {int(records.widths[row])} fields, and "
            f"{what} {named}; {count:,} such {'row' if count == 1 else 'rows'}"
        )
        fix = "name every column, and give each row as many fields; quote fields with separators"
        if header and (widths == named + 1).all():
            fix += "; write data.index: first if the first field is the name of the row"
        raise bad(config, rule, fix)
    return named, False


def _are_row_names(records: _Records, body: np.ndarray, config: DataConfig) -> bool:
    """Whether each row begins with a name of its own that the header does not have, as R writes."""
    if config.index == "first":
        return True
    if config.index == "none":
        return False
    starts = [start for start, inside in zip(records.starts, body, strict=True) if inside]
    if len(set(starts)) < len(starts):
        return False
    counting = starts == [str(i + 1) for i in range(len(starts))]
    return counting or not any(NUMBER.fullmatch(start) for start in starts)


def _names(first: list[str], header: bool, width: int, drop_first: bool) -> list[str]:
    if not header:
        return [f"column{i + 1}" for i in range(width)]
    names = [name.strip() for name in first]
    return ["", *names] if drop_first else names
