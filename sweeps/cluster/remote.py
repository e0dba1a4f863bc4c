"""Workers of a trial beside its own process: actors in the bundles of its placement group, started again where they die."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from engram.sweeps.cluster.attempt import HEARTBEAT_S
from engram.sweeps.cluster.faults import Ended, Spot, Trouble
from engram.sweeps.cluster.shard import News, Shard
from engram.sweeps.trial.messages import Saved
from engram.sweeps.trial.sharded import Answers

AT_LEAST_S = 0.5  # that a worker trains for between two answers
MOST_DEATHS = 3  # of a worker without a report in between


class ShardWorker(Shard):
    """The actor. datasets: a list of one reference to {key: Dataset}."""

    def __init__(self, datasets: list, threads: int, deterministic: bool):
        import torch

        from engram.models import device, memory

        memory.keep_freed()
        device.settle(deterministic)
        torch.set_num_threads(threads)
        self.datasets = ray.get(datasets[0])
        self.spot = here()

    def fetched(self, data: Any) -> bytes:
        return fetched(data)

    def hand_over(self) -> tuple:
        """The pieces announced last, each a message of its own, after a short one that says whether it went well."""
        return ("done", *(piece.data for piece in self.saved_now()))


class Remote:
    """A worker on any node. bundle: its place in the placement group of the trial; room: what it takes."""

    def __init__(self, bundle: int, room: dict[str, float], datasets: list):
        self.bundle, self.room, self.datasets = bundle, room, datasets
        self.actor: Any = None
        self.over = True
        self.answers: list[Answers] = []
        self._coming: list[Saved] = []
        self._call: Any = None  # the answer to come
        self._lost_at: float | None = None

    # -- as Company's Hand ----------------------------------------------------------------------

    def begin(
        self, config: dict[str, Any], ranges: list[tuple[int, int]], pieces: list[Saved]
    ) -> None:
        self.config, self.ranges, self.safe = config, ranges, pieces
        self.over, self.answers = False, []
        self.deaths, self._lost_at = 0, None
        self._ended_at: int | None = None
        self._start()

    def heard(self, wait_s: float) -> tuple[list[News], list[Saved]]:
        if self.over or not ray.wait([self._call], timeout=wait_s)[0]:
            return [], []
        try:
            answer = ray.get(self._call)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            return [self._died(error)], []
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Ended):
                raise error.cause from None
            raise
        self._lost_at = None
        if isinstance(answer, News):
            return self._told(answer), []
        if answer == "done":
            made, self._coming = self._coming, []
            # Theirs that are over stay; the others are as they stand now.
            self.safe = [piece for piece in self.safe if _stays(piece, made)] + made
            self._go_on()
            return [], made
        assert all(isinstance(one, Answers) for one in answer)
        self.over, self.answers = True, answer
        return [], []

    def conclude(self, step: int) -> None:
        self._ended_at = step
        self.actor.conclude.remote(step)

    def snapshot(self) -> list[Saved]:
        if self.over:
            return []
        with contextlib.suppress(ray.exceptions.RayError):
            news = ray.get(self.actor.work.remote(0.0, 0.0, True))
            if news.saves:
                self._ask(news.saves)
                if ray.get(self._call) == "done":
                    return self._coming
        return []

    @property
    def missing_s(self) -> float:
        return 0.0 if self._lost_at is None else time.monotonic() - self._lost_at

    def left(self) -> tuple[list[tuple[int, int]], list[Saved]]:
        self.close()
        self.over = True
        return self.ranges, self.safe

    def close(self) -> None:
        if self.actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(self.actor)
            self.actor = None

    # -- one call after the other ---------------------------------------------------------------

    def _start(self) -> None:
        if self.actor is None:
            group = ray.util.get_current_placement_group()
            assert group is not None, "Tune starts a trial in a placement group of its own"
            there = PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=self.bundle
            )
            options = {
                "num_cpus": self.room.get("CPU", 0),
                "num_gpus": self.room.get("GPU", 0),
                "scheduling_strategy": there,
            }
            made = ray.remote(ShardWorker).options(**options)
            self.actor = made.remote(
                self.datasets, self.config["threads"], self.config["deterministic"]
            )
        self.actor.start.remote(self.config, self.ranges, self.safe)
        if self._ended_at is not None:
            self.actor.conclude.remote(self._ended_at)
        self._coming = []
        self._is_over = False
        self._work()

    def _work(self) -> None:
        self._call = self.actor.work.remote(HEARTBEAT_S, AT_LEAST_S)

    def _told(self, news: News) -> list[News]:
        if news.reports:
            self.deaths = 0
        self._is_over = news.over
        if news.saves:
            self._ask(news.saves)
        else:
            self._go_on()
        return [news]

    def _ask(self, coming: list[Saved]) -> None:
        """Have it hand over what it has announced: each piece stays where it is until somebody fetches it."""
        method = self.actor.hand_over.options(num_returns=1 + len(coming))
        self._call, *data = method.remote()
        self._coming = [replace(p, data=[one]) for p, one in zip(coming, data, strict=True)]

    def _go_on(self) -> None:
        if self._is_over:
            self._call = self.actor.answers.remote()
        else:
            self._work()

    def _died(self, error: Exception) -> News:
        """Start it again: it costs its own replicas since their last checkpoint."""
        self.deaths += 1
        self.actor = None
        said = ", ".join(f"{a} to {b - 1}" for a, b in self.ranges)
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if self.deaths > MOST_DEATHS:
            text = f"the worker of replicas {said} died {self.deaths} times: {why}"
            raise Ended(Trouble("process", text), here())
        if isinstance(error, ray.exceptions.OutOfMemoryError):
            widest = self.config["stack"] or max(b - a for a, b in self.ranges)
            self.config = {**self.config, "stack": max(1, widest // 2)}
        self._lost_at = time.monotonic()
        self._start()
        note = f"the worker of replicas {said} is gone, and goes on from its last checkpoint: {why}"
        return News([], [], 0, 0.0, False, None, [note], None)


def _stays(piece: Saved, made: list[Saved]) -> bool:
    """Whether a piece is still the newest of some of its replicas."""
    covered = {r for one in made for r in range(one.first, one.stop)}
    return piece.final or not covered.issuperset(range(piece.first, piece.stop))


def fetched(data: Any) -> bytes:
    """The bytes of a piece, which may be a list of one reference to them."""
    found: Any = ray.get(data[0]) if isinstance(data, list) else data
    return bytes(found) if not isinstance(found, bytes) else found


def here() -> Spot:
    """Where this process runs. Outside Ray there is nothing to be told apart."""
    if not ray.is_initialized():
        return Spot("", socket.gethostname())
    context = ray.get_runtime_context()
    gpus: list[str] = []
    with contextlib.suppress(
        Exception
    ):  # known to Ray alone, and only for people and for avoidance
        gpus = context.get_accelerator_ids().get("GPU", [])
    return Spot(context.get_node_id(), socket.gethostname(), tuple(gpus))
