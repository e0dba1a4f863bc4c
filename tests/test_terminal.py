"""Boards and answers at 60, 80, 120 and 200 columns, as golden files: no word is broken, no line is too long.

`REGENERATE=1 python -m pytest tests/test_terminal.py` writes the golden files anew.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from engram import program
from engram.sweeps.results import boards, shelf, tables, terminal, words
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.inventory import Entry
from engram.sweeps.running.display import Display, duration
from engram.sweeps.study.sections import AsksConfig
from engram.sweeps.trial.messages import Progress
from tests import fake_records
from tests.command_line import ROOT

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (60, 80, 120, 200)


def few() -> Evidence:
    return fake_records.evidence(
        {"model.dropout": [0.0, 0.2, 0.5], "data.train_size": [1000, 2500]},
        lambda p: 0.4 + p["model.dropout"] / 10 - p["data.train_size"] / 20_000,
        {4: "diverged"},
        question="Do dropout and more examples lower the variance of a small network?",
        asks=AsksConfig(measure="variance", of=("dropout", "train_size")),
    )


def long_names() -> Evidence:
    """Many settings with long names, as a person's own classes have."""
    return fake_records.evidence(
        {
            "model.family": ["my_own_package.networks.residual:ResidualNetworkWithAttention"],
            "model.options.number_of_attention_heads": [2, 4, 8],
            "training.optimizer": ["torch.optim:Adadelta", "adamw"],
            "training.weight_decay": [0.0, 0.001],
        },
        lambda p: 0.4 + p["training.weight_decay"],
        question="Which of many settings with long names is best?",
    )


def printed(found: Evidence, width: int, every: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    terminal.show_answer(found, console)
    made = boards.boards_of(found.records)
    terminal.show(made if every else made[:1], console, 10, found.name)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("make", [few, long_names])
def test_boards_are_the_golden_ones(make, width):
    _golden(printed(make(), width), f"board_{make.__name__}_{width}")


def _golden(text: str, name: str) -> None:
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("REGENERATE"):
        golden.write_text(text)
    assert text == golden.read_text(), "REGENERATE=1 writes it anew"


@pytest.mark.parametrize("width", range(60, 201, 7))
@pytest.mark.parametrize("make", [few, long_names])
def test_nothing_is_wider_than_the_terminal_and_no_word_is_broken(make, width):
    found = make()
    text = printed(found, width, every=True)
    assert max(map(len, text.splitlines())) <= width
    whole = _words(printed(found, 400, every=True)) | _words(NOTES)
    whole |= {word.rpartition(":")[2] for word in whole}  # a class without its module
    for word in _words(text):
        begun, cut, _ = word.partition("…")
        known = any(w.startswith(begun) for w in whole) if cut else word in whole
        assert known or word.isdecimal(), (word, width)


def _words(text: str) -> set[str]:
    return {word.rstrip(".:") for word in re.findall(r"[\w.:²±−=…]+", text)}


NOTES = (
    "K is trial its settings shortened without for which there is no room --format csv has all "
    "test error gap bias² variance verdict"
)


def test_a_pipe_has_room_for_a_whole_board():
    out = io.StringIO()
    terminal.show(boards.boards_of(few().records)[:1], Console(file=out, _environ={}), 10, "")
    assert (
        _heading(out.getvalue())
        == "# configuration validation test error gap bias² variance verdict".split()
    )
    assert "…" not in out.getvalue()


def test_columns_go_in_the_order_of_their_weight():
    heads = {width: _heading(printed(few(), width)) for width in (60, 80, 200)}
    assert heads[200] == "# configuration validation test error gap bias² variance verdict".split()
    assert heads[80][:4] == "# configuration validation test".split()
    assert "verdict" in heads[80]
    assert "validation" in heads[60]


def _heading(text: str) -> list[str]:
    return next(line for line in text.splitlines() if line.split()[:1] == ["#"]).split()


def test_shortened_names_still_tell_trials_apart():
    text = printed(long_names(), 60)
    lines = [line for line in text.splitlines() if "…" in line and "…K" not in line]
    names = [line.split("0.4")[0] for line in lines]
    assert len(names) == 10 == len(set(names))


def test_nothing_but_zeros_has_no_sign():
    assert tables.number(-0.0001) == "0.000"
    assert tables.number(-0.0006) == "-0.001"
    assert tables.number(0.0) == "0.000"


def test_a_board_says_what_its_marks_mean():
    text = " ".join(printed(few(), 120).split())
    assert "± is a 95 % interval for retraining" in text
    assert "n training examples per replica" in text
    assert "gap = test − train error" in text
    for word in re.findall(r"(good|overfit|underfit|data-limited|diverged)$", text, re.MULTILINE):
        assert f"{word}: {words.VERDICTS[word]}" in text


# -- what other commands say --------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_executions_is_the_golden_one(width):
    best = {"measure": "validation_error", "mean": 0.4, "verdict": "data-limited"}
    question = "Do dropout and more examples lower the variance of a small network?"
    entries = [
        Entry(
            name,
            name,
            question,
            "complete",
            6,
            6,
            0,
            {**best, "label": label},
            "anna",
            "node-17",
            size=7_800_000,
        )
        for name, label in (
            ("quickstart", "n 2500 · dropout 0.2"),
            ("shorter", "n 2500 · dropout 0"),
        )
    ]
    text = program.fitted(shelf.table(entries, width), width) + "\n"
    assert max(map(len, text.splitlines())) <= width
    assert len(re.findall("0.400 at n 2500 · dropout", " ".join(text.split()))) == 2
    _golden(text, f"list_{width}")


def test_what_goes_on_stands_below_its_own_text():
    text = "  replicas   8 tell 0.028 ± 0.002 between any of 6 trials (power 80 %), where differences vary"
    assert program.fitted(text, 60).split("\n") == [
        "  replicas   8 tell 0.028 ± 0.002 between any of 6 trials",
        "             (power 80 %), where differences vary",
    ]
    command = f"  {program.name()} run {'a-long-folder/' * 5}study.yaml --name another-name"
    assert program.fitted(command, 60) == command  # to be copied
    parts = program.fitted("0.028 ± 0.002 and 80 %\n    as it was", 6).split("\n")
    assert parts == ["0.028 ± 0.002", "  and", "  80 %", "    as", "      it", "      was"]


@pytest.mark.parametrize("words", [["studies"], ["leaderboard", "nothing-of-that-name"]])
def test_a_terminal_of_sixty_columns_breaks_no_word_of_a_command(tmp_path, words):
    """On a real terminal; a pipe gets whole lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    environment |= {"ENGRAM_HOME": str(tmp_path / ("a" * 20) / "home")}
    command = [sys.executable, str(ROOT / "orchestrate.py"), *words]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=tmp_path
    )
    os.close(theirs)
    read = b""
    try:
        while some := os.read(ours, 65536):
            read += some
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
        process.wait()
    lines = read.decode().replace("\r", "").splitlines()
    assert len(lines) > 1
    assert not [line for line in lines if len(line) > 60 and " " in line.strip()]
    piped = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    whole = piped.stdout + piped.stderr
    assert " ".join(whole.split()) == " ".join(read.decode().split())
    assert max(map(len, whole.splitlines())) > 60


# -- while a study runs -------------------------------------------------------------------------------


class _Trial:
    def __init__(self, number: int):
        self.number, self.params = number, {"model.dropout": number / 10}
        self.configuration = type("Configuration", (), {"epochs": 10})()


def display(planned: int) -> Display:
    made = Display(planned, 4, 0, "validation_error", "min")
    made.console = Console(file=io.StringIO(), width=80)
    made.live = None
    return made


def test_what_comes_before_the_first_trial_is_said():
    made = display(2)
    made.begin("starting Ray")
    assert "starting Ray" in made.console.file.getvalue()
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(made._table())
    assert "0/2 trials  starting Ray" in drawn.getvalue()
    made.reported(_Trial(0), Progress(1, 10, 0.1, {}, {}))
    assert made.phase == ""


def test_what_trials_hold_of_a_gpu_is_shown_where_any_holds_some():
    made = display(3)
    for number in (0, 1):
        made.started(_Trial(number))
        made.reported(_Trial(number), Progress(2, 20, 0.1, {"validation_error": 0.25}, {}))
    assert "GPU" not in drawn_of(made)  # on a CPU
    made.reported(_Trial(1), Progress(3, 30, 0.2, {"validation_error": 0.2}, {}, 3 * 2**29))
    lines = [line.split() for line in drawn_of(made).splitlines()]
    assert ["trial", "configuration", "epoch", "error", "GPU", "memory"] in lines
    assert ["0", "dropout", "0", "2/10", "0.250"] in lines
    assert ["1", "dropout", "0.1", "3/10", "0.200", "1.5", "GiB"] in lines


def drawn_of(made: Display) -> str:
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(made._table())
    return drawn.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_running_study_is_drawn_as_the_golden_one(monkeypatch, width):
    """Long names, failed trials and an hour gone: no line is too long, and trials are told apart."""
    monkeypatch.setattr("engram.sweeps.running.display.time.monotonic", lambda: 3735.0)
    made = display(60)
    made.opened, made.first_started = 10.0, 20.0
    made.counts |= {"completed": 20, "diverged": 3, "failed": 1}
    made.took = [300.0] * 20
    family = "my_own_package.networks.residual:ResidualNetworkWithAttention"
    for number in (24, 25):
        trial = _Trial(number)
        trial.params = {"model.family": family, **trial.params, "training.weight_decay": 0.001}
        made.started(trial)
        made.reported(trial, Progress(3, 30, 0.2, {"validation_error": 0.25}, {}, 3 * 2**29))
    made.best = (0.2, terminal.short_label(trial.params))
    made.console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    made.console.print(made._table())
    text = "\n".join(line.rstrip() for line in made.console.file.getvalue().splitlines()) + "\n"
    assert max(map(len, text.splitlines())) <= width
    _golden(text, f"running_{width}")


def test_one_trial_is_one_trial():
    drawn = io.StringIO()
    Console(file=drawn, width=200).print(display(1)._table())
    assert "0/1 trial " in drawn.getvalue()
    assert "gone" not in drawn.getvalue()


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_time_left_holds_where_trials_take_alike(monkeypatch, at_once):
    """Twelve trials of 10 s, some at once: from the second on, the time told is within a trial of what comes."""
    clock = [0.0]
    monkeypatch.setattr("engram.sweeps.running.display.time.monotonic", lambda: clock[0])
    made = display(12)
    waiting, running, told = list(range(12)), [], []
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop(0)
            trial = _Trial(number)
            made.started(trial)
            made.running[number].since = clock[0]
            running.append((clock[0] + 10, trial))
        end, trial = running.pop(0)
        clock[0] = end
        record = fake_records.record(trial.number, trial.params, 0.5)
        made.committed(trial, record)
        left = made._time_left()
        if left is not None:
            told.append((clock[0], left))
    total = clock[0]
    assert len(told) >= 8
    for when, left in told:
        assert abs(when + left - total) <= 10 + 1e-6, (when, left, total)
    kept = made.time_kept()
    assert "at half of the trials" in kept
    clock[0] += 1000  # the report is drawn, the model saved
    assert made.time_kept() == kept


def test_the_last_trial_is_not_half_of_them(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("engram.sweeps.running.display.time.monotonic", lambda: clock[0])
    made = display(2)
    for number in range(2):  # the time left is known once both are done
        made.started(_Trial(number))
    for number in range(2):
        clock[0] += 100
        params = _Trial(number).params
        made.committed(_Trial(number), fake_records.record(number, params, 0.5))
    clock[0] += 60
    assert made.time_kept() == ""


def test_durations_are_read_at_a_glance():
    assert [duration(s) for s in (3, 75, 3700)] == ["3 s", "1 min 15 s", "1 h 01 min"]
