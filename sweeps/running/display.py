"""What a person sees while a study runs: a live table on a terminal and in Jupyter, one line per event elsewhere."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engram import program
from engram.measures import catalog
from engram.sweeps.results.terminal import cut_to, short_label
from engram.sweeps.running.events import Listener, Record
from engram.sweeps.search.search import Proposal
from engram.sweeps.study.configuration import label
from engram.sweeps.trial.messages import Progress

SHOWN_RUNNING = 12
FEWEST_FOR_TIME = 2  # trials that must have finished before a time is told
BAR_WIDTH, SHORTEST_BAR = 30, 10
GIB = 2**30
NOTEBOOK_EVERY_S = 0.5
NOTEBOOK_WIDTH = 100


@dataclass
class Running:
    label: str
    epochs: int
    epoch: int = 0
    error: float | None = None
    memory: int | None = None  # bytes of a GPU
    since: float = field(default_factory=time.monotonic)


class Display(Listener):
    """Counts, running trials, the best so far, replicas per second and the time left.

    planned: trials in all, None when only a budget ends the study; replicas: per trial; done: trials
    that an earlier execution finished; concurrent: trials at the same time.
    """

    def __init__(
        self, planned: int | None, replicas: int, done: int, objective: str, direction: str
    ):
        self.planned, self.replicas, self.earlier = planned, replicas, done
        self.objective, self.lower_is_better = objective, direction == "min"
        self.counts = {"completed": 0, "pruned": 0, "diverged": 0, "failed": 0}
        self.running: dict[int, Running] = {}
        self.best: tuple[float, str] | None = None
        self.note = ""
        self.phase = ""  # what happens before the first trial trains
        self.at_once = 1  # trials, when the last one started
        self.took: list[float] = []  # seconds of each finished trial
        # When half was done, and what was left by then.
        self.half_way: tuple[float, float] | None = None
        self.last_finished = 0.0  # when; the report and the model come after it
        self.opened = time.monotonic()
        self.first_started: float | None = None
        # What stays is text in Jupyter too, where Rich would make an output of every line.
        self.console = Console(stderr=False, force_jupyter=False)
        self.live: Live | _Notebook | None = None
        if Console().is_jupyter:
            self.live = _Notebook(self._table)
        elif self.console.is_terminal:
            self.live = Live(
                get_renderable=self._table,
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )

    def __enter__(self) -> Display:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.console.is_terminal:
            line = program.fitted(line, max(program.NARROWEST, self.console.width))
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def begin(self, phase: str) -> None:
        """What is being done before trials train: shown, or a line where nothing is drawn."""
        self.phase = phase
        if self.live is None:
            self.say(f"{phase} …")

    def working(self, what: str) -> contextlib.AbstractContextManager[Any]:
        """What is being done after the trials, shown on a terminal while it is."""
        return self.console.status(what) if self.console.is_terminal else contextlib.nullcontext()

    # -- events ---------------------------------------------------------------------------------

    def ticked(self, running: int) -> None:
        if isinstance(self.live, _Notebook):
            self.live.refresh()

    def started(self, trial: Proposal) -> None:
        self.first_started = self.first_started or time.monotonic()
        if self.phase:
            self.phase = "workers load torch and the data"
        self.running[trial.number] = Running(short_label(trial.params), trial.configuration.epochs)
        self.at_once = len(self.running)

    def reported(self, trial: Proposal, progress: Progress) -> None:
        self.phase = ""
        if trial.number in self.running:
            running, metrics = self.running[trial.number], progress.metrics
            running.epoch, running.memory = progress.epoch, progress.memory
            running.error = metrics.get("validation_error", metrics.get("train_error"))

    def left(self, trial: Proposal) -> None:
        self.running.pop(trial.number, None)

    def set_aside(self, spot: str, why: str) -> None:
        self.say(f"set aside for this study: {spot}; trials fail there, and not elsewhere: {why}")

    def committed(self, trial: Proposal, record: Record) -> None:
        was = self.running.pop(trial.number, None)
        self.phase = ""
        if was is not None:
            self.took.append(time.monotonic() - was.since)
        status, name = record["status"], label(trial.params)
        self.counts[status] = self.counts.get(status, 0) + 1
        self.last_finished = time.monotonic()
        self._remember_half_way()
        value = record["selection"].get(self.objective)
        if status == "completed" and value is not None and self._better(value):
            self.best = (value, short_label(trial.params))
        if self.live is None or status == "failed":
            seconds = time.monotonic() - was.since if was else 0.0
            self.say(
                f"trial {trial.number:>3}  {name}  {_outcome(record)}  {seconds:.1f} s  [{self._position()}]"
            )

    def _better(self, value: float) -> bool:
        if self.best is None:
            return True
        return value < self.best[0] if self.lower_is_better else value > self.best[0]

    # -- what is shown --------------------------------------------------------------------------

    @property
    def finished(self) -> int:
        return sum(self.counts.values())

    def _position(self) -> str:
        done = self.earlier + self.finished
        left = self._time_left()
        return f"{done}/{self.planned or '?'}" + (
            f", {duration(left)} left" if left is not None else ""
        )

    def _time_left(self) -> float | None:
        """By what finished trials took and how many train at once; no less than the slowest of those running."""
        if self.planned is None or len(self.took) < min(FEWEST_FOR_TIME, self.planned):
            return None
        now, usual = time.monotonic(), sum(self.took) / len(self.took)
        running = [max(0.0, self._trial_left(r, now, usual)) for r in self.running.values()]
        waiting = max(0, self.planned - self.earlier - self.finished - len(running))
        left = (sum(running) + waiting * usual) / max(1, self.at_once)
        return max([left, *running])

    def _trial_left(self, trial: Running, now: float, usual: float) -> float:
        """Seconds that a running trial still takes: by its own epochs once a quarter is done, else as usual."""
        gone, share = now - trial.since, trial.epoch / trial.epochs if trial.epochs else 0.0
        return gone * (1 - share) / share if share > 0.25 else usual - gone

    def _remember_half_way(self) -> None:
        left = self._time_left()
        if self.half_way is not None or not self.planned or left is None:
            return
        trials = self.planned - self.earlier
        if trials / 2 <= self.finished < trials:
            self.half_way = time.monotonic(), left

    def time_kept(self) -> str:
        """How far off the time told at half of the trials was; empty where there was none, or too little to tell."""
        if self.half_way is None:
            return ""
        when, told = self.half_way
        came = self.last_finished - when
        if max(came, told) < 5:
            return ""
        return f"at half of the trials {duration(told)} more were expected; the others took {duration(came)}"

    def _head(self, width: int) -> Text:
        """How far the study is, over as many lines as it takes; the bar gives way first."""
        done = self.earlier + self.finished
        elapsed = time.monotonic() - (self.first_started or time.monotonic())
        speed = self.finished * self.replicas / elapsed if elapsed > 1 and self.finished else None
        parts = [(f"{done}/{self.planned or '?'} trial{'s' if self.planned != 1 else ''}", "")]
        parts += [(self.phase, "yellow") if self.phase else (f"{len(self.running)} running", "")]
        for status in ("pruned", "diverged", "failed"):
            if self.counts[status]:
                parts.append((f"{self.counts[status]} {status}", "yellow"))
        if speed:
            often = f"{speed:.1f} replicas/s" if speed >= 0.1 else f"{60 * speed:.1f} replicas/min"
            parts.append((often, ""))
        left = None if done == self.planned else self._time_left()
        told = f"after {duration(time.monotonic() - self.opened)}"
        parts.append((told if left is None else f"{told}, {duration(left)} left", ""))
        room = width - sum(len(part) + 2 for part, _ in parts)
        bar = min(BAR_WIDTH, max(SHORTEST_BAR, room))
        filled = round(bar * done / self.planned) if self.planned else 0
        head = Text("━" * filled, "green").append("━" * (bar - filled), "bright_black")
        used = bar
        for part, style in parts:
            used += len(part) + 2
            head.append("  " if used <= width else "\n  ").append(part, style)
            used = used if used <= width else len(part) + 2
        return head

    def _table(self, width: int | None = None) -> Group:
        """What is drawn; width: of the page, that of the terminal without it."""
        width = width or max(program.NARROWEST, self.console.width)
        rows = Table(box=None, padding=(0, 2), show_header=bool(self.running))
        gpu = any(trial.memory for trial in self.running.values())
        columns = ["trial", "configuration", "epoch", "error", *(["GPU memory"] if gpu else [])]
        for column in columns:
            rows.add_column(column, style="bright_black" if column == "trial" else "")
        cells = []
        for number, trial in sorted(self.running.items())[:SHOWN_RUNNING]:
            error = "" if trial.error is None else f"{trial.error:.3f}"
            held = [f"{trial.memory / GIB:.1f} GiB" if trial.memory else ""] if gpu else []
            cells.append([str(number), trial.label, f"{trial.epoch}/{trial.epochs}", error, *held])
        others = [
            max(map(len, column))
            for column in zip(columns, *cells, strict=True)
            if column[0] != "configuration"
        ]
        room = width - sum(others) - 4 * len(columns)
        for said, name, *rest in cells:
            whole = name if len(name) <= room else cut_to(name, room, int(said))
            rows.add_row(said, whole, *rest)
        parts: list[Any] = [self._head(width), rows]
        if self.best:
            best = f"{catalog.title(self.objective)} {self.best[0]:.3f}  {self.best[1]}"
            parts.append(Text(program.fitted(f"best so far  {best}", width)))
        if self.note:
            parts.append(Text(self.note, "yellow"))
        return Group(*parts)


class _Notebook:
    """The table as one output of a notebook's cell, drawn again in its place; the last state stays.

    Rich's own Live needs ipywidgets there.
    """

    def __init__(self, table: Callable[[int], Group]):
        self.table, self.handle, self.drawn = table, None, 0.0

    def start(self) -> None:
        from IPython.display import HTML, display

        self.handle = display(HTML(self._html()), display_id=True)

    def refresh(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.handle is None or not (force or now - self.drawn >= NOTEBOOK_EVERY_S):
            return
        from IPython.display import HTML

        self.drawn = now
        with contextlib.suppress(Exception):  # nobody may be looking any more
            self.handle.update(HTML(self._html()))

    def stop(self) -> None:
        self.refresh(force=True)

    def _html(self) -> str:
        page = Console(
            record=True,
            file=io.StringIO(),
            width=NOTEBOOK_WIDTH,
            force_jupyter=False,
            color_system="truecolor",
        )
        page.print(self.table(NOTEBOOK_WIDTH))
        style = "line-height: normal; white-space: pre; overflow-x: auto"
        return page.export_html(
            inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>'
        )


def _outcome(record: dict[str, Any]) -> str:
    if record["status"] == "failed":
        lines = record.get("error", "").strip().splitlines()
        return f"failed: {lines[-1][:120]}" if lines else "failed"
    if record["status"] != "completed":
        return str(record["status"])
    measures = record["measures"]
    return "  ".join(
        f"{catalog.get(name).heading} {measures[name]['mean']:.3f}"
        for name in catalog.HEADLINES
        if measures.get(name)
    )


def duration(seconds: float) -> str:
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
