"""The checkpoints of a study's trials as files that are whole or set aside."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from engram import files
from engram.sweeps.trial import checkpoint
from engram.sweeps.trial.messages import Saved

FINAL = "final"
NAME = re.compile(r"(\d{12})\.(\d+)-(\d+)(\.over)?\.ckpt")
log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """A file of replicas [first, stop). over: they are trained to their end. The newest sorts last."""

    over: bool
    step: int
    first: int
    stop: int
    path: Path


class Store:
    """The checkpoints of a study's running trials: `folder/trial-N/STEP.FIRST-STOP.ckpt`, a file for some replicas.

    Of each replica the newest `keep` stay. Files are written whole or not at all. One that cannot be read is set
    aside (`.damaged`, one of each trial), and the one before it is used.
    """

    def __init__(self, folder: Path, keep: int, largest_bytes: float):
        self.folder, self.keep, self.largest_bytes = folder, keep, largest_bytes

    def save(self, trial: int, piece: Saved) -> bool:
        """Keep a piece of a checkpoint; False where it is too large."""
        if len(piece.data) > self.largest_bytes:
            return False
        over = ".over" if piece.final else ""
        name = f"{piece.step:012d}.{piece.first}-{piece.stop}{over}.ckpt"
        files.write(self._of(trial) / name, piece.data, durable=True)
        newer: Counter[int] = Counter()
        for kept in self._kept(trial):
            own = range(kept.first, kept.stop)
            if all(newer[replica] >= self.keep for replica in own):
                kept.path.unlink(missing_ok=True)
            newer.update(own)
        return True

    def newest(self, trial: int, **wanted: Any) -> list[Saved]:
        """The newest readable pieces that say these things about themselves, of as many replicas as there are."""
        found: list[Saved] = []
        covered: set[int] = set()
        for kept in self._kept(trial):
            own = range(kept.first, kept.stop)
            if covered.issuperset(own):
                continue
            with _set_aside(kept.path):
                data = kept.path.read_bytes()
                if _says(checkpoint.about(data), wanted):
                    found.append(Saved(kept.step, data, kept.first, kept.stop, kept.over))
                    covered.update(own)
        return found

    def finish(self, trial: int, final: list[Saved] | None) -> None:
        """The trial is over: only its final weights are kept, where they are wanted and not too large.

        final: empty where all of them were saved on the way."""
        if final is not None:
            kept = [(k.first, k.stop, k.path) for k in self._kept(trial) if k.over and not final]
            new = [p for p in final if len(p.data) <= self.largest_bytes]
            if kept or new:
                for path in self._finals(trial):
                    path.unlink(missing_ok=True)
            for first, stop, path in kept:
                os.replace(path, self._of(trial) / f"{FINAL}.{first}-{stop}.ckpt")
            for piece in new:
                name = FINAL if len(final) == 1 else f"{FINAL}.{piece.first}-{piece.stop}"
                files.write(self._of(trial) / f"{name}.ckpt", piece.data, durable=True)
        for old in self._kept(trial):
            old.path.unlink(missing_ok=True)
        for path in self._of(trial).glob("*.damaged"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._of(trial).rmdir()

    def final(self, trial: int, **wanted: Any) -> bytes | None:
        """The final weights of a finished trial, where they were kept and say these things."""
        pieces = self.finals(trial, **wanted)
        if len(pieces) < 2:
            return pieces[0].data if pieces else None
        from engram.sweeps.trial import states  # torch

        each, about = zip(*(checkpoint.decode(piece.data) for piece in pieces), strict=True)
        return checkpoint.encode(states.joined(list(each), shortest=True), about[0])

    def finals(self, trial: int, **wanted: Any) -> list[Saved]:
        """The same in the pieces that were kept, in the order of their replicas; none where any is missing."""
        found: list[Saved] = []
        for path in self._finals(trial):
            with _set_aside(path):
                data = path.read_bytes()
                if _says(about := checkpoint.about(data), wanted):
                    first, stop = about.get("replicas") or (0, _count(data))
                    found.append(Saved(0, data, first, stop, True))
        found.sort(key=lambda piece: piece.first)
        begins = [0, *(piece.stop for piece in found)]
        whole = all(p.first == begin for p, begin in zip(found, begins, strict=False))
        return found if whole else []

    def _of(self, trial: int) -> Path:
        return self.folder / f"trial-{trial}"

    def _finals(self, trial: int) -> list[Path]:
        return sorted(self._of(trial).glob(f"{FINAL}*.ckpt"))

    def _kept(self, trial: int) -> list[_Kept]:
        """The files of each checkpoint on the way, the newest first."""
        found = []
        for path in self._of(trial).glob("*.ckpt"):
            if named := NAME.fullmatch(path.name):
                step, first, stop, over = named.groups()
                found.append(_Kept(over is not None, int(step), int(first), int(stop), path))
        return sorted(found, reverse=True)


def _count(data: bytes) -> int:
    """Replicas in final weights that do not say so: those of an earlier version."""
    return len(checkpoint.decode(data)[0]["trainer"]["diverged"])


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
