"""In which order each replica sees its examples, epoch by epoch.

An order is a function of the replica's key and the epoch, drawn on the host so that it is the same for every device.
Where a device does the training, the next epoch's is drawn by a thread meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from engram.models import streams

_AHEAD = ThreadPoolExecutor(1, thread_name_prefix="orders")  # starts its thread when it is needed


class Orders:
    """The orders of a cohort. members: int64 [R, m], each replica's pool indices, on the device; epochs: in all."""

    def __init__(self, keys: Sequence[int], members: Tensor, epochs: int):
        self.keys, self.members, self.epochs = list(keys), members, epochs
        self._now: tuple[int, Tensor] | None = None
        self._next: tuple[int, Future[Tensor]] | None = None

    def of(self, epoch: int) -> Tensor:
        """Each replica's examples in this epoch's order: pool indices [R, m]."""
        if self._now is None or self._now[0] != epoch:
            drawn = self._drawn(epoch).to(self.members.device, non_blocking=True)
            self._now = epoch, self.members.gather(1, drawn)
        return self._now[1]

    def _drawn(self, epoch: int) -> Tensor:
        size, device = self.members.shape[1], self.members.device.type
        if device == "cpu":
            return drawn(self.keys, size, epoch)
        ahead, self._next = self._next, None
        found = ahead[1].result() if ahead is not None and ahead[0] == epoch else None
        if epoch + 1 < self.epochs:
            words = self.keys, size, epoch + 1, device == "cuda"
            self._next = epoch + 1, _AHEAD.submit(drawn, *words)
        return drawn(self.keys, size, epoch, device == "cuda") if found is None else found


def drawn(keys: Sequence[int], size: int, epoch: int, pinned: bool = False) -> Tensor:
    """A permutation of each replica's examples, int64 [R, size]; pinned: in memory that a GPU copies from by itself."""
    each = [torch.randperm(size, generator=streams.generator(key, "order", epoch)) for key in keys]
    together = torch.stack(each)
    return together.pin_memory() if pinned else together
