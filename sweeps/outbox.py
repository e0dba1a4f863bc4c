"""A durable queue of what is to be recorded: appended to by the runner, drained in order by one writer.

Plain JSON lines and a cursor, so that a crash, or a tracking server that is away for a night, loses
nothing: what was not acknowledged is sent again. Knows nothing of MLflow.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]


class Outbox:
    """Messages on disk, in order. `put` from any thread, `pending` and `acknowledge` from the writer's.

    folder: holds `outbox.jsonl` and `outbox.cursor` (bytes acknowledged). A line torn by a crash was
    never promised to anybody and is dropped.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "outbox.jsonl"
        self._cursor_path = folder / "outbox.cursor"
        self._lock = threading.Lock()
        self.arrived = threading.Event()
        self._mend_tail()
        self._file = open(self.path, "ab")  # noqa: SIM115 - open for the object's life
        self._size = self.path.stat().st_size
        self._cursor = self._read_cursor()
        if self._cursor < self._size:
            self.arrived.set()

    def put(self, message: Message, durable: bool = False) -> None:
        """Append a message; `durable` also survives a power cut (fsync)."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            if durable:
                os.fsync(self._file.fileno())
            self._size += len(line)
        self.arrived.set()

    @property
    def empty(self) -> bool:
        with self._lock:
            return self._cursor >= self._size

    def count(self) -> int:
        """Messages not acknowledged yet."""
        return sum(1 for _ in self.pending(limit=None))

    def pending(self, limit: int | None = 2000) -> Iterator[tuple[Message, int]]:
        """Unacknowledged messages, oldest first, each with the cursor that acknowledges it."""
        with self._lock:
            cursor, end = self._cursor, self._size
        with open(self.path, "rb") as file:
            file.seek(cursor)
            taken = 0
            while cursor < end and (limit is None or taken < limit):
                line = file.readline()
                cursor += len(line)
                taken += 1
                try:
                    yield json.loads(line), cursor
                except ValueError:
                    continue  # damaged on disk: the rest is still worth sending

    def acknowledge(self, cursor: int) -> None:
        """Everything before this cursor has arrived and is never sent again."""
        temporary = self._cursor_path.with_suffix(".new")
        temporary.write_text(str(cursor))
        os.replace(temporary, self._cursor_path)
        with self._lock:
            self._cursor = cursor
            drained = cursor >= self._size
        if drained:
            self.arrived.clear()
            if not self.empty:  # a message came between the two lines above
                self.arrived.set()

    def clear(self) -> None:
        """Start over with an empty file; only when it is empty."""
        with self._lock:
            if self._cursor >= self._size:
                self._file.truncate(0)
                self._cursor_path.unlink(missing_ok=True)
                self._cursor = self._size = 0

    def close(self) -> None:
        self._file.close()

    def _mend_tail(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)

    def _read_cursor(self) -> int:
        """The acknowledged bytes; an unreadable cursor means sending again, which does no harm."""
        try:
            cursor = int(self._cursor_path.read_text())
        except (OSError, ValueError):
            return 0
        return cursor if 0 <= cursor <= self._size else 0
