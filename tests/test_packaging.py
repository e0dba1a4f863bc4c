"""The wheel: one importable name, everything that a study needs in it, and the same program as in a checkout."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from engram.sweeps.commands import line
from tests.command_line import ROOT, engram
from tests.installed import PACKAGES, Installed

SHIPPED = (".py", ".yaml", ".html", ".css", ".js", ".typed")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def expected() -> set[str]:
    """Every file of the folders, by the name under which it is installed."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in SHIPPED and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT).as_posix()
                found.add(inside if package == "engram" else f"engram/{inside}")
    return found


def test_the_wheel_adds_one_name_and_misses_no_file(installed: Installed):
    found = names(installed.wheel)
    tops = {name.partition("/")[0] for name in found}
    information = {top for top in tops if top.endswith(".dist-info")}
    assert (tops - information, len(information)) == ({"engram"}, 1)
    inside = {name for name in found if name.startswith("engram/")}
    assert inside == expected()
    assert "engram/py.typed" in inside
    assert "engram/sweeps/studies/quickstart.yaml" in inside


def test_nothing_but_engram_is_importable(installed: Installed, tmp_path: Path):
    code = (
        "import importlib.util as u, engram\n"
        "print(engram.__path__)\n"
        "for name in 'sweeps models data measures orchestrate tests benchmarks'.split():\n"
        "    assert u.find_spec(name) is None, name\n"
        "import engram.sweeps.study.loading, engram.models.family, engram.data.catalog, engram.measures\n"
    )
    done = subprocess.run(
        [installed.python, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stdout


def test_the_installed_program_calls_itself_engram(installed: Installed, tmp_path: Path):
    told = installed("--help", home=tmp_path / "runs", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("usage: engram ")
    helps = told.stdout
    for command in line.COMMANDS:
        helps += installed(command, "--help", home=tmp_path / "runs", cwd=tmp_path).stdout
    assert "orchestrate.py" not in helps
    module = subprocess.run(
        [installed.python, "-m", "engram", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert module.stdout == told.stdout
    advice = installed("plan", "quickstrat", home=tmp_path / "runs", cwd=tmp_path)
    assert advice.returncode == 2
    assert "quickstart" in advice.stderr
    assert "orchestrate.py" not in advice.stderr


@pytest.mark.parametrize("words", [("studies",), ("plan", "quickstart"), ("schema",)])
def test_installed_and_in_a_checkout_it_is_the_same_program(
    words: tuple[str, ...], installed: Installed, tmp_path: Path
):
    there = installed(*words, home=tmp_path / "runs", cwd=tmp_path)
    here = engram(*words, home=tmp_path / "runs")
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    unnamed = here.stdout.replace("python orchestrate.py", "engram")
    assert without_times(there.stdout) == without_times(unnamed)


def without_times(text: str) -> str:
    """The times that a plan expects are measured anew each time."""
    return re.sub(r"\d[\d.]* ?(ms|s|min|h)\b", "TIME", text)


def test_metadata_is_what_pyproject_says(installed: Installed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(installed.wheel) as packed:
        name = next(n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
        told = packed.read(name).decode()
    assert f"Version: {project['version']}" in told
    assert f"Summary: {project['description']}" in told
    assert told.count("Requires-Dist:") >= len(project["dependencies"])
