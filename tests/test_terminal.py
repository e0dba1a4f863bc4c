"""Boards and answers at 60, 80, 120 and 200 columns, as golden files: no word is broken, no line is too long.

`REGENERATE=1 python -m pytest tests/test_terminal.py` writes the golden files anew.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from engram.sweeps.results import boards, tables, terminal, words
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.running.display import Display, duration
from engram.sweeps.study.sections import AsksConfig
from engram.sweeps.trial.messages import Progress
from tests import fake_records

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
    text = printed(make(), width)
    golden = GOLDEN / f"board_{make.__name__}_{width}.txt"
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
