"""What an actor's errors look like on their way to the driver: words, a kind, and the place they came from."""

from __future__ import annotations

import traceback
from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """An error in words alone: the error itself holds its frames, and they hold the cohort that was trained."""

    kind: str  # "trial", "memory", "process" or "device": see models.trouble
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Trouble:
        """What became of an error; text: its traceback, or what it says where it explains itself."""
        from engram.models import trouble  # torch, where there is training
        from engram.models.families import ModelError

        explained = isinstance(error, ModelError)
        text = str(error) if explained else "".join(traceback.format_exception(error))
        return cls(trouble.kind(error), text)


@dataclass(frozen=True)
class Spot:
    """Where a trial runs: a node, and its GPUs as Ray numbers them (none on a CPU)."""

    node: str
    host: str
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        gpus = f", GPU {' and '.join(self.gpus)}" if self.gpus else ""
        return f"{self.host}{gpus} (Ray's node {self.node[:8]})"


class Ended(RuntimeError):
    """Raised by an actor that must not train again: Tune ends its process. trouble, spot: what happened, and where."""

    def __init__(self, trouble: Trouble, spot: Spot):
        super().__init__(trouble, spot)
        self.trouble, self.spot = trouble, spot

    def __str__(self) -> str:
        return f"{self.trouble.text.strip()}\nthe process ends: on {self.spot}"
