"""What one worker holds of a trial that several share: some of its replicas, trained to the end by themselves.

Where the states of all of them do not fit, or where they go on from different steps, some are trained to the end, and
then others: a turn. What a turn ends in is small, and kept; its weights are handed over. Knows nothing of Ray.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field, replace
from typing import Any

from engram.sweeps.cluster.attempt import Attempt
from engram.sweeps.cluster.faults import Trouble
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial.messages import Saved
from engram.sweeps.trial.sharded import Answers


@dataclass(repr=False)
class News:
    """What a worker tells. reports: (first replica, the one after the last, report), not told before; saves: the pieces
    that `saved_now` gives if it is called next; total: steps of the whole training; seconds: of it so far; over: all of its replicas are trained."""

    reports: list[tuple[int, int, Any]]
    saves: list[Saved]
    total: int
    seconds: float
    over: bool
    memory: int | None
    notes: list[str]
    failure: str | None


@dataclass
class Turn:
    """Replicas that are trained together, and the pieces of a checkpoint that they go on from."""

    first: int
    stop: int
    pieces: list[Saved] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return any(piece.final for piece in self.pieces)

    @property
    def kind(self) -> tuple[int, bool] | None:
        return (self.pieces[0].step, self.over) if self.pieces else None


def turns(ranges: list[tuple[int, int]], pieces: list[Saved], held: int | None) -> list[Turn]:
    """Replicas in the order in which they are trained: together those that go on from one step, at most `held`."""
    found: list[Turn] = []
    pieces = sorted(pieces, key=lambda piece: (piece.final, piece.step), reverse=True)
    for first, stop in ranges:
        marks = {first, stop}
        for piece in pieces:
            marks |= {mark for mark in (piece.first, piece.stop) if first < mark < stop}
        ends = sorted(marks)
        for a, b in itertools.pairwise(ends):
            own = [piece for piece in pieces if piece.first <= a and b <= piece.stop][:1]
            turn, last = Turn(a, b, own), found[-1] if found else None
            if last is not None and last.stop == a and last.kind == turn.kind:
                last.stop = b
                last.pieces += [piece for piece in own if piece not in last.pieces]
            else:
                found.append(turn)
    if held is None:
        return found
    return [
        Turn(a, min(a + held, turn.stop), _of(turn.pieces, a, min(a + held, turn.stop)))
        for turn in found
        for a in range(turn.first, turn.stop, held)
    ]


def _of(pieces: list[Saved], first: int, stop: int) -> list[Saved]:
    return [piece for piece in pieces if piece.first < stop and first < piece.stop]


class Shard(Attempt):
    """Trains its replicas turn by turn. `start` it, `work` until it is over, and take its `answers`."""

    in_company = True

    def start(
        self, config: dict[str, Any], ranges: list[tuple[int, int]], pieces: list[Saved]
    ) -> None:
        """From here on these replicas of this trial."""
        from engram.models import memory

        self.config = config
        self._drop()
        memory.give_back()
        self.held: int | None = config["held"] or self.fits()
        self.turns = turns(ranges, pieces, self.held)
        self._done: list[Answers] = []
        self._seconds = 0.0
        self._finals: list[Saved] = []  # not handed over yet
        self._asked: list[tuple[int, int]] = []
        self._ended_at: int | None = None
        self.notes = []
        self._next()
        count = sum(stop - first for first, stop in ranges)
        if self.held is not None and self.held < count:
            self.notes.append(
                f"no room for the states of {count} replicas at once: {self.held} in turn"
            )

    def take(self, ranges: list[tuple[int, int]], pieces: list[Saved]) -> None:
        """These too, after the others: another worker is gone for good."""
        idle = not self.turns
        self.turns += turns(ranges, pieces, self.held)
        if idle:
            self._next()

    def _next(self) -> None:
        """The next turn, where there is one."""
        if self.turns:
            turn = self.turns[0]
            notes = self.notes
            self.begin(turn.first, turn.stop, turn.pieces or None)
            self.notes = notes

    def work(self, pause_after_s: float, at_least_s: float = 0.0, save: bool = False) -> News:
        """Train up to an evaluation, and for so long; pause_after_s: at most so long between two looks.

        save: give what there is to be saved, whenever that was done last."""
        from engram.models import memory

        until = time.monotonic() + at_least_s
        reports: list[tuple[int, int, Any]] = []
        held, total = None, 0
        while self.turns and self.failure is None:
            self._tried(lambda: self._go(pause_after_s))
            if self.trial is not None:
                news = self.trial.history[self.told :]
                self.told += len(news)
                for report in news:
                    so_far = replace(report, seconds=self._seconds + report.seconds)
                    reports.append((self.first, self.beyond, so_far))
                total = getattr(self.trial.trainer, "total_steps", 0)
                held = memory.peak(self.trial.trainer.device)
                if self._is_over():
                    self._tried(self._end)
            if time.monotonic() >= until or save or self._finals:
                break
        return News(
            reports,
            self._to_save(save),
            total,
            self._seconds + (self.trial.trainer.seconds if self.trial is not None else 0.0),
            not self.turns,
            held,
            self._taken_notes(),
            self.failure,
        )

    def _go(self, pause_after_s: float) -> None:
        if not self._is_over():
            self.trial.advance(pause_after_s)

    def _is_over(self) -> bool:
        if self.turns[0].over and self.safe is not None:
            return True
        trainer, ended = self.trial.trainer, self._ended_at
        return bool(trainer.finished) or (ended is not None and trainer.step >= ended)

    def conclude(self, step: int) -> None:
        """The whole cohort has stopped at this step: nothing is trained beyond."""
        self._ended_at = step

    def _end(self) -> None:
        """Answer what is asked of the replicas in training, hand their weights over, and go on to others."""
        trial, trainer = self.trial, self.trial.trainer
        if self._ended_at is not None:
            trainer.conclude()
        wanted = MeasuresConfig(**self.config["measures"])
        answers = Answers.of(trial, wanted, self.first, self.beyond)
        self._finals += self.saved(self.pieces(True), True)
        self._done.append(answers)
        self._seconds += trainer.seconds
        self._drop()
        self.turns.pop(0)
        self._next()

    def _out_of_room(self, trouble: Trouble) -> None:
        """One at a time in a pass, and still out of memory: fewer states at once, where nothing asks for all."""
        count = self.beyond - self.first
        if count == 1 or not self.config["in_turns"]:
            super()._out_of_room(trouble)
            return
        half = (count + 1) // 2
        pieces = self.safe or []
        self.turns[:1] = turns([(self.first, self.beyond)], pieces, half)
        self.notes.append(f"out of memory with the states of {count} replicas: {half} in turn")
        self._next()

    # -- what it hands over ---------------------------------------------------------------------

    def _to_save(self, asked: bool) -> list[Saved]:
        """What `saved_now` will give, without the bytes."""
        self._asked = []
        there = self.trial is not None and self.failure is None and self.trial.trainer.step > 0
        if there and (self.due or (asked and self.trial.trainer.step != self.saved_step)):
            self._asked = self.pieces()
            if not self._asked:
                self.saved([])  # so that it is not due again at once
        step = self.trial.trainer.step if self._asked else 0
        coming = [Saved(step, None, first, stop) for first, stop in self._asked]
        return [Saved(f.step, None, f.first, f.stop, True) for f in self._finals] + coming

    def saved_now(self) -> list[Saved]:
        """The pieces that were announced last."""
        finals, self._finals = self._finals, []
        return finals + (self.saved(self._asked) if self._asked else [])

    def answers(self) -> list[Answers]:
        """Of each turn, once all are over."""
        return self._done

    def close(self) -> None:
        """Let go of everything."""
        self._drop()
        self.turns, self._done, self._finals = [], [], []
