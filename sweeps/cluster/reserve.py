"""Keeps GPUs that are set aside from being given out again.

Ray has no way of saying which GPU of a node a trial gets: so a bad one is held by actors that do nothing.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engram.sweeps.cluster.faults import Spot

TRY_S = 5.0  # for as long, free GPUs of the node are held until the bad one is among them
PAUSE_S = 10.0  # between two tries


class Reserve:
    """Holds bad GPUs. share: of one GPU, that a trial takes; `tick` is called now and then, and waits for nothing.

    held: {spot: actors that have the bad GPU, a share each}.
    """

    def __init__(self, share: float):
        self.share = min(share, 1.0)
        self.shares = int(1 / self.share + 1e-6)  # of one GPU
        self.held: dict[Spot, list[Any]] = {}
        self._asked: dict[Any, tuple[Spot, Any]] = {}  # {answer to come: (spot, actor)}
        self._wrong: list[Any] = []  # actors on other GPUs, held so that the next one gets another
        self._until = self._next = 0.0

    def hold(self, spot: Spot) -> None:
        """From now on: take the GPU as soon as it is free."""
        self.held.setdefault(spot, [])
        self._next = 0.0

    @property
    def missing(self) -> list[Spot]:
        """GPUs that others can still be given."""
        return [spot for spot, actors in self.held.items() if len(actors) < self.shares]

    def tick(self) -> None:
        now, waiting = time.monotonic(), list(self._asked)
        for answer in ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []:
            self._sort(answer, *self._asked.pop(answer))
        trying = bool(self._asked or self._wrong)
        if trying and (now >= self._until or not self.missing):
            self._end_try()
            self._next = now + PAUSE_S
        elif not trying and self.missing and now >= self._next:
            self._until = now + TRY_S
            for spot in self.missing:
                self._ask(spot)

    def _ask(self, spot: Spot) -> None:
        """One actor for each share of a GPU that may be free there: the bad one is then among them."""
        there = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        strategy = NodeAffinitySchedulingStrategy(spot.node, soft=False)
        for _ in range(int(there.get(spot.node, {}).get("GPU", 0)) * self.shares):
            options = {"num_gpus": self.share, "scheduling_strategy": strategy}
            actor = _Holder.options(**options).remote()  # type: ignore[attr-defined]
            self._asked[actor.gpus.remote()] = spot, actor

    def _sort(self, answer: Any, spot: Spot, actor: Any) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # it died with its node
            bad = set(ray.get(answer)) & set(spot.gpus)
            (self.held[spot] if bad else self._wrong).append(actor)

    def _end_try(self) -> None:
        for actor in [*self._wrong, *(actor for _, actor in self._asked.values())]:
            ray.kill(actor)
        self._wrong, self._asked = [], {}


@ray.remote(num_cpus=0)
class _Holder:
    def gpus(self) -> list[str]:
        return ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
