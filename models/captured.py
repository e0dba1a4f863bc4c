"""Steps of training as a CUDA graph: recorded once, and replayed with other batches.

A step of a small network is launches of kernels, and a graph is launched as one. Its kernels read the same memory
each time, so whatever changes from step to step lies in tensors that are filled before a replay. Used where it was
measured to pay and the numbers agree (sweeps/trial/stacking.py). Knows nothing of networks and losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engram.models import memory

MOST_STEPS = 50  # in one graph: more make it large, and no faster
WARM_UP_STEPS = 3  # before recording: libraries set themselves up in their first calls, optimizers make their state

# One step: (batch [R, B], streams [purposes, R], learning rate, share of the newest weights in their average)
Work = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def steps_in_graph(whole_batches: int) -> int:
    """Steps to record of an epoch of so many whole batches: it is replayed in equal parts, with few steps left over."""
    return whole_batches // math.ceil(whole_batches / MOST_STEPS)


class Steps:
    """Recorded steps. count: steps in one replay; replicas, batch: of a step's batch; purposes: streams of a replica."""

    def __init__(
        self,
        work: Work,
        count: int,
        replicas: int,
        batch: int,
        purposes: int,
        device: torch.device,
    ):
        self.count, self.device = count, device
        self.batches = torch.zeros(count, replicas, batch, dtype=torch.int64, device=device)
        self.streams = torch.zeros(count, purposes, replicas, dtype=torch.int32, device=device)
        self.paces = torch.zeros(count, 2, device=device)
        # The work is not kept: it holds whoever holds this.
        self._replay = record(lambda: self._all(work), device)

    def _all(self, work: Work) -> None:
        for batch, streams, (rate, newest) in zip(
            self.batches, self.streams, self.paces, strict=True
        ):
            work(batch, streams, rate, newest)

    def replay(self, order: Tensor, streams: Tensor, paces: list[tuple[float, float]]) -> None:
        """Take these steps. order: pool indices [R, count x batch]; streams: int32 [count, purposes, R]."""
        self.batches.copy_(order.unflatten(1, (self.count, -1)).transpose(0, 1))
        self.streams.copy_(streams)
        self.paces.copy_(memory.sent(torch.tensor(paces), self.device))
        self._replay()


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What repeats the kernels that the work launches; nothing is calculated while it is recorded."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may pin memory meanwhile (orders.py), which only their own recordings would have to forbid.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own, as the last steps before recording have to run, with the rest waiting for it."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
