"""A trial whose replicas several workers share: they are heard, and told what concerns all of them.

Early stopping, pruning and measures are of the whole cohort: taken here, in the trial's own process, of what the
workers tell. This process trains its share too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from engram.sweeps.cluster.attempt import EPOCH, HEARTBEAT_S, progress_of
from engram.sweeps.cluster.shard import News, Shard
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import outcomes, sharded
from engram.sweeps.trial.messages import Finished, Saved

LOST_S = (
    120.0  # after which the replicas of a worker that could not be started again are trained here
)


class Hand(Protocol):
    """One of those who train. over: its replicas are trained, and `answers` are there.

    missing_s: for how long it has been gone."""

    over: bool
    answers: list[sharded.Answers]

    @property
    def missing_s(self) -> float: ...

    def begin(
        self, config: dict[str, Any], ranges: list[tuple[int, int]], pieces: list[Saved]
    ) -> None: ...

    def heard(self, wait_s: float) -> tuple[list[News], list[Saved]]:
        """What it has told, and handed over, since the last time; wait_s: for so long, where there is nothing yet."""

    def conclude(self, step: int) -> None: ...

    def snapshot(self) -> list[Saved]: ...

    def left(self) -> tuple[list[tuple[int, int]], list[Saved]]:
        """Its replicas, and the pieces that they go on from, taken from it."""

    def close(self) -> None: ...


class Here:
    """The share of the trial's own process."""

    missing_s = 0.0

    def __init__(self, shard: Shard, sent: Callable[[list[Saved]], list[Saved]]):
        self.shard, self.sent = shard, sent
        self.over = False
        self.answers: list[sharded.Answers] = []

    def begin(
        self, config: dict[str, Any], ranges: list[tuple[int, int]], pieces: list[Saved]
    ) -> None:
        self.shard.start(config, ranges, pieces)
        self.over, self.answers = False, []

    def heard(self, wait_s: float) -> tuple[list[News], list[Saved]]:
        if self.over:
            return [], []
        news = self.shard.work(wait_s)
        made = self.sent(self.shard.saved_now()) if news.saves else []
        self.over, self.answers = news.over, self.shard.answers()
        return [news], made

    def take(self, ranges: list[tuple[int, int]], pieces: list[Saved]) -> None:
        """Replicas of another, too."""
        self.shard.take(ranges, pieces)
        self.over = False

    def conclude(self, step: int) -> None:
        self.shard.conclude(step)

    def snapshot(self) -> list[Saved]:
        if not self.over and self.shard.work(0.0, save=True).saves:
            return self.sent(self.shard.saved_now())
        return []

    def left(self) -> tuple[list[tuple[int, int]], list[Saved]]:
        return [], []

    def close(self) -> None:
        self.shard.close()


class Company:
    """Trains one trial after another with the same hands, the first of them here. here: the first; others: the rest."""

    def __init__(self, here: Here, others: list[Hand]):
        self.here, self.others = here, others
        self.hands: list[Hand] = [here, *others]
        self.notes: list[str] = []

    def begin(self, config: dict[str, Any], dataset: Any) -> None:
        """The next trial; config: of CohortTrainable."""
        from engram.models.learners import kinds

        self.config, self.dataset = config, dataset
        self.configuration = Configuration(**config["configuration"])
        self.learned = kinds.of(self.configuration.model.family) is not None
        self._start([*(config["earlier"] or ()), *(config["restore"] or ())])

    def _start(self, pieces: list[Saved]) -> None:
        self.merged = sharded.Merged(self.configuration, self.learned)
        self.told, self.seconds = 0, 0.0
        self.memory: int | None = None
        self.failure: str | None = None
        self.concluded = False
        first = (
            max((piece.stop for piece in self.config["earlier"] or ()), default=0) if pieces else 0
        )
        count, several = self.configuration.replicas.count, len(self.hands)
        shares = zip(
            sharded.split(0, first, several), sharded.split(first, count, several), strict=True
        )
        for hand, both in zip(self.hands, shares, strict=True):
            ranges = [(a, b) for a, b in both if a < b]
            own = [p for p in pieces if any(p.first < b and a < p.stop for a, b in ranges)]
            hand.begin(self.config, ranges, own)

    def step(self) -> dict[str, Any]:
        """On to the next evaluation of all replicas, or for a few seconds; a result as CohortTrainable has it."""
        from engram.sweeps.trial.trial import summary

        saved: list[Saved] = []
        report = self._told_next()
        if report is None and not self._all_over:
            for hand in self.others:
                saved += self._hear(hand, 0.0)
            busy = [hand for hand in self.others if not hand.over]
            if not self.here.over:
                saved += self._hear(self.here, HEARTBEAT_S)
            elif busy and not saved:
                saved += self._hear(busy[0], HEARTBEAT_S)
            self._take_over()
            report = self._told_next()
        if self.failure is not None:
            return {"done": True, EPOCH: 0, "failure": self.failure, "saved": saved}
        epoch = self.merged.history[self.told - 1].epoch if self.told else 0
        result: dict[str, Any] = {EPOCH: epoch, "progress": []}
        if saved:
            result["saved"] = saved
        if self.merged.ended and not self.concluded:
            self.concluded = True
            for hand in self.hands:
                if not hand.over:
                    hand.conclude(self.merged.history[-1].step)
        if report is not None:
            result["progress"] = [progress_of(report, self.memory)]
            result |= summary(report) | {"last": self.merged.ended, "memory": self.memory}
        elif self._all_over and not saved:
            self._end(result)
        return result

    @property
    def _all_over(self) -> bool:
        return all(hand.over for hand in self.hands)

    def _told_next(self) -> Any:
        """The next report that nobody was told of; None where there is none."""
        if not self.learned:
            self.merged.next()
        if self.told < len(self.merged.history):
            self.told += 1
            return self.merged.history[self.told - 1]
        return None

    def _hear(self, hand: Hand, wait_s: float) -> list[Saved]:
        told, saved = hand.heard(wait_s)
        for news in told:
            self.merged.total = max(self.merged.total, news.total)
            for first, stop, report in news.reports:
                self.merged.add(first, stop, report)
            self.notes += news.notes
            self.seconds = max(self.seconds, news.seconds)
            if news.memory is not None:
                self.memory = max(self.memory or 0, news.memory)
            self.failure = self.failure or news.failure
        return saved

    def _take_over(self) -> None:
        for hand in self.others:
            if not hand.over and hand.missing_s > LOST_S:
                ranges, pieces = hand.left()
                said = ", ".join(f"{a} to {b - 1}" for a, b in ranges)
                self.notes.append(
                    f"no worker for replicas {said}: they are trained in turn by the trial itself"
                )
                self.here.take(ranges, pieces)

    def _end(self, result: dict[str, Any]) -> None:
        """Measure the cohort: into the result, unless its parts turn out not to belong together."""
        import torch

        from engram.models import device
        from engram.sweeps.trial import measuring, states
        from engram.sweeps.trial.trial import summary

        wanted = MeasuresConfig(**self.config["measures"])
        on = torch.device(self.config["device"])
        answers = [answer for hand in self.hands for answer in hand.answers]
        if not self.learned and not self.merged.ended:
            self._begin_anew()
            return
        history = self.merged.history
        try:
            trial = sharded.trial(
                self.configuration, self.dataset, wanted, answers, history, on, self.seconds
            )
        except states.Unjoinable:
            self._begin_anew()
            return
        if self.learned:
            result |= summary(trial.history[-1]) | {"last": True}
            result["progress"] = [progress_of(trial.history[-1], None)]
        record, arrays = measuring.measure(trial, wanted)
        record["device"], record["workers"] = device.described(on), len(self.hands)
        record["turns"] = max(len(hand.answers) for hand in self.hands)
        trial.close()
        kept: list[Saved] | None = [] if self.config["checkpoint"]["final"] else None
        result["finished"] = Finished(record, outcomes.packed(arrays), kept)
        result["done"] = True

    def _begin_anew(self) -> None:
        """Replicas that were trained before do not fit those trained now: all are trained together after all."""
        if not self.config["earlier"]:
            raise RuntimeError("the workers of a trial did not come to the same evaluations")
        self.config = {**self.config, "earlier": None}
        self._start([])

    def snapshot(self) -> list[Saved]:
        """All replicas as they stand."""
        return [piece for hand in self.hands for piece in hand.snapshot()]

    def taken_notes(self) -> list[str]:
        notes, self.notes = self.notes, []
        return notes

    def close(self) -> None:
        """End the others, and let go of everything."""
        for hand in self.hands:
            hand.close()
