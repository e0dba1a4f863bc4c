"""The command line: its help, its cost, its exit codes.

`REGENERATE=1 python -m pytest tests/test_command_line.py` writes the golden help texts anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engram.sweeps.commands import doctor, line
from engram.sweeps.running import estimate, plan
from engram.sweeps.study import loading, schema

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
HEAVY = ("torch", "ray", "numpy", "mlflow", "optuna", "pydantic", "yaml")


def commands() -> list[str]:
    parser = line.parser()
    found = next(action for action in parser._actions if action.dest == "command")
    return [str(name) for name in found.choices or ()]


def helped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["orchestrate.py"])
    assert line.main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_is_the_golden_text(command: str, capsys, monkeypatch):
    text = helped(capsys, monkeypatch, *command.split())
    golden = GOLDEN / f"help_{command or 'all'}.txt"
    if os.environ.get("REGENERATE"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), (
        "run: REGENERATE=1 python -m pytest tests/test_command_line.py"
    )


@pytest.mark.parametrize("command", commands())
def test_help_ends_in_an_example_that_parses(command: str, capsys, monkeypatch):
    example = helped(capsys, monkeypatch, command).rstrip().splitlines()[-1]
    words = example.removeprefix("example: python orchestrate.py ").partition(" >")[0].split()
    assert line.parser().parse_args(words).command == command


def test_help_imports_nothing_heavy():
    script = f"import sys; from engram.sweeps.commands import line; line.main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_imports_nothing_that_takes_long():
    script = """
import contextlib, io, runpy, sys
sys.argv = ["orchestrate.py", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    runpy.run_path("orchestrate.py", run_name="__main__")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "argparse" in done.stdout.split(), done.stderr
    slow = set(
        "torch ray mlflow optuna pandas numpy scipy sklearn matplotlib pydantic rich".split()
    )
    assert not slow & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["rnu"], "did you mean 'run'?"),
        (["run"], "STUDY"),
        (["plan", "quickstart", "--nonsense"], "--nonsense"),
        (["leaderboard", "--top", "0"], "at least 1"),
        (["leaderboard", "--format", "xml"], "json"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], words: str, capsys):
    assert line.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert words in output.err


def test_studies_lists_every_question(capsys):
    assert line.main(["studies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(said.startswith("quickstart ") for said in lines)
    assert all(said.endswith("?") for said in lines)


def test_schema_is_json(capsys):
    assert line.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["name"]


def test_unexpected_failure_exits_with_1_and_says_where_the_log_is(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(schema, "schema", lambda: 1 / 0)
    assert line.main(["schema"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("ZeroDivisionError: division by zero")
    assert "Traceback" not in said
    log = tmp_path / "home" / "engram.log"
    assert str(log) in said
    assert "ZeroDivisionError" in log.read_text()
    with pytest.raises(ZeroDivisionError):
        line.main(["schema", "--debug"])


def test_interrupt_exits_with_130(monkeypatch, capsys):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(schema, "schema", interrupt)
    assert line.main(["schema"]) == 130


def test_a_reader_that_leaves_early_is_no_failure():
    command = f"{sys.executable} orchestrate.py schema | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_plan_starts_and_writes_nothing(tmp_path):
    script = (
        "import sys; from engram.sweeps.commands import line; code = line.main(['plan', 'quickstart']);"
        "print(code, [m for m in ('ray', 'mlflow', 'optuna') if m in sys.modules])"
    )
    environment = {**os.environ, "ENGRAM_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert list(tmp_path.iterdir()) == []


def test_plan_tells_the_numbers():
    made = estimate.make(loading.load("quickstart"))
    page = "\n".join(plan.lines(made))
    assert made.trials == len(made.loads) == 6
    for words in (
        "8 per trial: 48 networks",
        "15,210 parameters",
        "m/n 0.31 to 0.78",
        "600 steps",
        "equal steps",
        "8 tell 0.028 between any of 6 trials",
        "that two of them are alike within 0.018 needs 13; 8 seldom show it",
    ):
        assert words in page
    assert made.total_s is not None
    assert made.total_s < 120


def test_plan_says_what_a_long_search_looks_at():
    def trials(count: int) -> str:
        sets = ["search.sampler=tpe", f"search.trials={count}"]
        sets.append('sweep={"training.lr": {"loguniform": [1.0e-4, 1.0]}}')
        return "\n".join(plan.lines(estimate.make(loading.load("quickstart", sets))))

    assert "the latest 500 to 600 trials and the 25 best before them" in trials(900)
    assert "latest" not in trials(500)
    assert "of each trial 30 KB of arrays are kept" in trials(1001)
    assert "of arrays are kept" not in trials(1000)


def test_plan_says_how_many_replicas_show_that_trials_are_alike():
    made = estimate.make(loading.load("quickstart"))

    def said(*options: str) -> str:
        asked = dataclasses.replace(made, study=loading.load("quickstart", list(options)))
        return "\n".join(line for line in plan.lines(asked) if "alike" in line)

    assert said("claim.margin=0.01").endswith("alike within 0.01 needs 36; 8 seldom show it")
    assert said("asks.margin=0.01", "asks.measure=test_error").endswith(
        "needs 36; 8 seldom show it"
    )
    assert said("replicas.count=36", "claim.margin=0.01").endswith("within 0.01 needs 36")
    assert said("claim.margin=0.0001").endswith("needs more than 100,000; 8 seldom show it")
    assert not said("asks.margin=0.01", "asks.measure=variance"), "of another unit nothing is known"


def test_plan_says_when_nothing_is_selected_and_when_replicas_cannot_be_stacked(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_noise.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self, shape, outputs, width=1, depth=1, dropout=0.0):\n"
        "        super().__init__(shape[0], outputs)\n"
        "    def forward(self, x):\n        return super().forward(x + torch.randn_like(x))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ["data.validation=0", "model.family=own_noise:Net"]
    page = "\n".join(plan.lines(estimate.make(loading.load("quickstart", options, data=True))))
    assert "validation is off" in page
    assert "cannot be stacked" in page
    assert "trained one by one" in page


def test_doctor_finds_this_machine_in_order(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert line.main(["doctor"]) == 0
    said = capsys.readouterr().out
    for subject in (
        "python",
        "torch",
        "gpu",
        "ray",
        "mlflow",
        "optuna",
        "home",
        "store",
        "disk",
        "memory",
    ):
        assert f"  {subject} " in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_doctor_says_what_ray_torch_and_the_driver_see(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor.gpus("0")
    assert found.verdict == "ok"
    assert found.text == (
        "Ray counts 0, torch can use 0; there is no nvidia-smi, so probably no driver"
    )
    found = doctor.gpus("2")
    assert found.verdict == "warn"
    assert "CUDA_VISIBLE_DEVICES" in found.fix
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\necho 'Card, 550.1, 16 GiB'\nexit $FAILS\n")
    nvidia_smi.chmod(0o755)
    monkeypatch.setenv("FAILS", "9")
    assert "says: Card, 550.1, 16 GiB, and ends with 9" in doctor.gpus("0").text
    monkeypatch.setenv("FAILS", "0")
    found = doctor.gpus("0")
    assert "nvidia-smi says: Card, 550.1, 16 GiB" in found.text
    if torch.version.cuda is None:
        assert found.verdict == "warn"
        assert "built for the CPU" in found.fix


def test_doctor_finds_a_token_that_others_may_read(monkeypatch, tmp_path):
    path = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert list(doctor.token()) == []
    path.write_text("t")
    path.chmod(0o640)
    (found,) = doctor.token()
    assert (found.verdict, found.fix) == ("warn", f"chmod 600 {path}")
    path.chmod(0o600)
    assert list(doctor.token()) == []


def test_doctor_names_the_fix(monkeypatch, tmp_path):
    (tmp_path / "mlflow.db").write_text("no database")
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    assert doctor.store().verdict == "fail"
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "mlflow.db" / "x"))
    assert doctor.home().verdict == "fail"
    assert "ENGRAM_HOME" in doctor.home().fix
    for address in ("127.0.0.1:9", "http://127.0.0.1:9", "nonsense"):
        found = doctor.cluster(address)
        assert found.verdict == "fail"
        assert found.fix
