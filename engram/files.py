"""Files that are there whole or not at all: written beside, then renamed."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write(
    path: Path, content: str | bytes | Callable[[IO[bytes]], object], durable: bool = False
) -> Path:
    """Create or replace a file, its folders included; a reader sees the old one or the new one.

    content: the text or bytes, or a function that puts them into the open file handed to it.
    durable: once this returns, the content also survives a power cut (fsync).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may write the same file at the same time.
    beside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.new")
    try:
        with open(beside, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return path


def read_json(path: Path) -> Any:
    """What a JSON file says; None where there is none, or none that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
