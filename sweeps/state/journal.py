"""Files of checksummed lines that a crash can tear and nothing can quietly change: the ledger's and the outbox's.

Each line is one JSON object whose last key, `crc`, is the CRC-32 of what stands before it. A line is
there as a whole or not at all; one that is not what was written is never taken for what was.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MARK = b',"crc":"'
TAIL = len(MARK) + 8 + len(b'"}\n')
UNWRITTEN = 8192  # zeros that a power cut may leave at the end of a file

Line = dict[str, Any]


class Damaged(ValueError):
    """A line in the middle of a file that is not what was written."""

    def __init__(self, path: Path, line: int, lines: int):
        super().__init__(f"line {line} of {lines} is damaged")
        self.path, self.line, self.lines = path, line, lines


def encode(content: Line) -> bytes:
    """A line of the file; content has at least one key, and none named crc."""
    body = json.dumps(content, separators=(",", ":")).encode()[:-1]
    return body + MARK + b'%08x"}\n' % zlib.crc32(body)


def decode(line: bytes) -> Line | None:
    """What a line says, or None where it is torn or damaged."""
    body, tail = line[:-TAIL], line[-TAIL:]
    if not tail.startswith(MARK) or not line.endswith(b'"}\n'):
        return None
    if tail != MARK + b'%08x"}\n' % zlib.crc32(body):
        return None
    try:
        content = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


class Journal:
    """One process appends; anybody reads. A last line torn by a crash is cut off when it is opened.

    whole: refuse (Damaged) a file that is damaged before its last line; otherwise such lines are
    skipped when reading.
    """

    def __init__(self, path: Path, whole: bool = False):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.torn = mend(path, whole) if path.exists() else 0
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open for the object's life
        self.size = path.stat().st_size

    def append(self, contents: Sequence[Line], durable: bool = False) -> int:
        """Write lines, all or none; returns the size of the file. `durable` survives a power cut too."""
        data = b"".join(map(encode, contents))
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            # A full disk takes half a line: the half is taken back, or the next line would end it.
            self._file.truncate(self.size)
            raise
        self.size += len(data)
        return self.size

    def clear(self) -> None:
        """Start over with an empty file."""
        self._file.truncate(0)
        self.size = 0

    def close(self) -> None:
        self._file.close()


def read(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[Line | None, int]]:
    """Lines from one offset to another: (content, or None where it is damaged; the offset after it)."""
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return  # still being written, or torn
            start += len(line)
            if end is not None and start > end:
                return
            yield decode(line), start


def mend(path: Path, whole: bool) -> int:
    """Cut off a torn last line: it was never promised to anybody. Returns the bytes cut."""
    good: list[bool] = []
    end = before = 0
    for content, after in read(path):
        good.append(content is not None)
        before, end = end, after
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(end)
        tail = file.read()
        if whole:
            if good and not good[-1] and not tail:  # its end reached the disk before its beginning
                good.pop()
                end, tail = before, b"x"
            if not all(good) or (tail and not _torn(tail, bool(good))):
                raise Damaged(
                    path, (good.index(False) if not all(good) else len(good)) + 1, len(good)
                )
        if tail:
            file.truncate(end)
            os.fsync(file.fileno())
    return size - end


def _torn(tail: bytes, follows: bool) -> bool:
    """Whether bytes without a line's end look like the beginning of a line, or an unwritten block after lines."""
    if not tail.strip(b"\0x"):
        return follows and len(tail) <= UNWRITTEN
    return tail[:1] == b"{" and b"\0" not in tail
