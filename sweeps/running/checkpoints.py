"""The checkpoints of a study's trials as files that are whole or set aside."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.trial import checkpoint

FINAL = "final"
log = logging.getLogger(__name__)


class Store:
    """The checkpoints of a study's running trials: `folder/trial-N/STEP.ckpt`, the newest `keep` of each.

    Files are written whole or not at all. One that cannot be read is set aside (`.damaged`, one of
    each trial), and the one before it is used.
    """

    def __init__(self, folder: Path, keep: int, largest_bytes: float):
        self.folder, self.keep, self.largest_bytes = folder, keep, largest_bytes

    def save(self, trial: int, step: int, data: bytes) -> bool:
        """Keep a checkpoint; False where it is too large."""
        if len(data) > self.largest_bytes:
            return False
        files.write(self._of(trial) / f"{step:012d}.ckpt", data, durable=True)
        for _, path in self._kept(trial)[self.keep :]:
            path.unlink(missing_ok=True)
        return True

    def newest(self, trial: int, **wanted: Any) -> bytes | None:
        """The newest readable checkpoint that says these things about itself; None where there is none."""
        for _, path in self._kept(trial):
            with _set_aside(path):
                data = path.read_bytes()
                if _says(checkpoint.about(data), wanted):
                    return data
        return None

    def finish(self, trial: int, final: bytes | None) -> None:
        """The trial is over: only its final weights are kept, where they are wanted and not too large."""
        if final is not None and len(final) <= self.largest_bytes:
            files.write(self._of(trial) / f"{FINAL}.ckpt", final, durable=True)
        for _, path in self._kept(trial):
            path.unlink(missing_ok=True)
        for path in self._of(trial).glob("*.damaged"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._of(trial).rmdir()

    def final(self, trial: int, **wanted: Any) -> bytes | None:
        """The final weights of a finished trial, where they were kept and say these things."""
        path = self._of(trial) / f"{FINAL}.ckpt"
        if path.exists():
            with _set_aside(path):
                data = path.read_bytes()
                if _says(checkpoint.about(data), wanted):
                    return data
        return None

    def _of(self, trial: int) -> Path:
        return self.folder / f"trial-{trial}"

    def _kept(self, trial: int) -> list[tuple[int, Path]]:
        """(step, file) of each checkpoint on the way, the newest first."""
        files = self._of(trial).glob("*.ckpt")
        found = [(int(path.stem), path) for path in files if re.fullmatch(r"\d{12}", path.stem)]
        return sorted(found, reverse=True)


def _says(said: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(said.get(key) == value for key, value in wanted.items())


@contextlib.contextmanager
def _set_aside(path: Path) -> Iterator[None]:
    """Rename a file that turns out to be damaged, and go on without it."""
    try:
        yield
    except (checkpoint.Unreadable, OSError) as error:
        log.warning("checkpoint %s is set aside: %s", path, error)
        with contextlib.suppress(OSError):
            os.replace(path, path.with_name(f"{path.parent.name}.damaged"))
