"""A durable queue of what is to be recorded: appended to by the runner, drained in order by one writer.

Checksummed lines and a cursor, so that a crash, or a tracking server that is away for a night, loses
nothing: what was not acknowledged is sent again. Knows nothing of MLflow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.state import journal

Message = dict[str, Any]


class Outbox:
    """Messages on disk, in order. `put` from any thread, `pending` and `acknowledge` from the writer's.

    folder: holds `outbox.jsonl` and `outbox.cursor` (bytes acknowledged). A line torn by a crash was
    never promised to anybody and is dropped; a damaged one is left out, and `damaged` counts it.
    """

    def __init__(self, folder: Path):
        self._cursor_path = folder / "outbox.cursor"
        self._lock = threading.Lock()
        self.arrived = threading.Event()
        self._journal = journal.Journal(folder / "outbox.jsonl")
        self._cursor = self._read_cursor()
        self.damaged = sum(content is None for content, _ in journal.read(self.path, self._cursor))
        if self._cursor < self._journal.size:
            self.arrived.set()

    @property
    def path(self) -> Path:
        return self._journal.path

    def put(self, message: Message, durable: bool = False) -> None:
        """Append a message; `durable` also survives a power cut (fsync)."""
        with self._lock:
            self._journal.append([message], durable)
        self.arrived.set()

    @property
    def empty(self) -> bool:
        with self._lock:
            return self._cursor >= self._journal.size

    @property
    def acknowledged(self) -> int:
        """Bytes that have arrived."""
        return self._cursor

    def count(self) -> int:
        """Messages not acknowledged yet."""
        return sum(1 for _ in self.pending())

    def pending(self, limit: int | None = None) -> Iterator[tuple[Message, int]]:
        """Unacknowledged messages, oldest first, each with the cursor that acknowledges it."""
        with self._lock:
            cursor, end = self._cursor, self._journal.size
        taken = 0
        for content, after in journal.read(self.path, cursor, end):
            if limit is not None and taken >= limit:
                return
            if content is not None:  # the rest of a damaged file is still worth sending
                taken += 1
                yield content, after

    def acknowledge(self, cursor: int) -> None:
        """Everything before this cursor has arrived and is never sent again."""
        files.write(self._cursor_path, journal.encode({"cursor": cursor}))
        with self._lock:
            self._cursor = cursor
            drained = cursor >= self._journal.size
        if drained:
            self.arrived.clear()
            if not self.empty:  # a message came between the two lines above
                self.arrived.set()

    def skip(self) -> None:
        """Pass over damaged lines where nothing else is left to send."""
        with self._lock:
            end = self._journal.size
        if not any(True for _ in self.pending()):
            self.acknowledge(end)

    def clear(self) -> None:
        """Start over with an empty file; only when it is empty."""
        with self._lock:
            if self._cursor >= self._journal.size:
                # The cursor goes first: without it, what is left would only be sent again.
                self._cursor_path.unlink(missing_ok=True)
                self._journal.clear()
                self._cursor = 0

    def close(self) -> None:
        self._journal.close()

    def _read_cursor(self) -> int:
        """The acknowledged bytes; an unreadable cursor means sending again, which does no harm."""
        try:
            said = journal.decode(self._cursor_path.read_bytes())
        except OSError:
            return 0
        cursor = said.get("cursor", 0) if said else 0
        return cursor if isinstance(cursor, int) and 0 <= cursor <= self._journal.size else 0
