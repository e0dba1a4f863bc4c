"""Whether the tests see faults: mutants made by mutmut, and faults planted by hand.

`python -m benchmarks.mutants [PART]... [--of N]` works in a copy of the tree, two tests at a time at most, writes
results/mutants.json and prints what survived. A part is a group of modules with its tests (GROUPS), or `planted`
(planted.yaml). Of each group N mutants are drawn at random, with a fixed seed; without --of all are tried. `make mutants`
makes the environment that mutmut needs.

Texts are not mutated: what a message says is judged by reading. Nor are simulations run whose names say `covers`, or that
take longer than a mutant is worth."""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
PLANTED = ROOT / "benchmarks" / "planted.yaml"
EQUIVALENT = ROOT / "benchmarks" / "equivalent.yaml"
PACKAGES = ("sweeps", "models", "data", "measures")
CHILDREN = 2
AT_ONCE = 500  # names in one command line
SURVIVED = (0, 5, 33, None)  # mutmut's codes: passed, no tests
TOO_LONG = "not cover and not large_cohorts and not allows_for_curves"


@dataclass(frozen=True)
class Group:
    """Modules whose mutants are tried, and the tests that have to see them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    but: tuple[str, ...] = ()


GROUPS = {
    "measures": Group(
        ("measures/*",),
        ("tests/measures",),
        tuple(f"measures/{name}.py" for name in ("catalog", "measure", "page")),
    ),
    "boards": Group(
        tuple(f"sweeps/results/{name}.py" for name in ("boards", "columns", "record", "verdicts")),
        ("tests/test_boards.py", "tests/test_leaderboard.py"),
    ),
    "nights": Group(
        tuple(f"sweeps/nightly/{name}.py" for name in ("judgement", "noise", "series")),
        ("tests/nightly/test_judgement.py", "tests/nightly/test_noise.py"),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one function. name: mutmut's; change: the lines that differ; text: only what a message says does."""

    name: str
    function: str
    change: str
    text: bool

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0].removeprefix("engram.")


def staged(folder: Path) -> Path:
    """A copy of the tree in which `engram` is a folder with all that it imports, as when it is installed."""
    shutil.copytree(ROOT / "engram", folder / "engram")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "engram" / package)
    for name in ("tests", "docs", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def tried(group: Group, of: int | None, seed: int = 0) -> dict[str, Any]:
    """What became of the mutants of a group: counts by module, and the survivors."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder = staged(Path(made))
        (folder / "pyproject.toml").write_text(_settings(group))
        _mutmut(folder, "nothing")  # makes all mutants, and learns which test runs which function
        mutants = _mutants(folder)
        worth = [mutant for mutant in mutants if not mutant.text]
        chosen = worth if of is None else random.Random(seed).sample(worth, min(of, len(worth)))
        for start in range(0, len(chosen), AT_ONCE):
            _mutmut(folder, *(mutant.name for mutant in chosen[start : start + AT_ONCE]))
        codes = _codes(folder)
    found = summed(mutants, chosen, codes)
    return {**found, "minutes": round((time.monotonic() - started) / 60, 1)}


def summed(
    mutants: list[Mutant], chosen: list[Mutant], codes: dict[str, int | None]
) -> dict[str, Any]:
    """Counts by module of the chosen ones, and those that no test saw; equivalent ones are counted by themselves."""
    listed = yaml.safe_load(EQUIVALENT.read_text()) or []
    equivalent = {(one["where"], one["change"].strip()) for one in listed}
    rows: dict[str, Counter[str]] = {}
    survivors = []
    for mutant in chosen:
        word = "seen" if codes[mutant.name] not in SURVIVED else "survived"
        if word == "survived" and (mutant.function, mutant.change) in equivalent:
            word = "equivalent"
        rows.setdefault(mutant.module, Counter())[word] += 1
        if word == "survived":
            survivors.append({"where": mutant.function, "change": mutant.change})
    total = sum(rows.values(), Counter[str]())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "mutants": len(mutants),
        "of texts": sum(mutant.text for mutant in mutants),
        "tried": len(chosen),
        "seen": total["seen"],
        "survived": total["survived"],
        "equivalent": total["equivalent"],
        "share seen": round(total["seen"] / max(1, total["seen"] + total["survived"]), 3),
        "modules": {name: dict(row) for name, row in sorted(rows.items())},
        "survivors": survivors,
    }


def _settings(group: Group) -> str:
    mutated = [f"engram/{module}" for module in group.modules]
    left = ["*/__init__.py", *(f"engram/{module}" for module in group.but)]
    return f"""\
[tool.mutmut]
source_paths = ["engram"]
only_mutate = {json.dumps(mutated)}
do_not_mutate = {json.dumps(left)}
also_copy = ["docs", "benchmarks"]
pytest_add_cli_args = ["-k", {json.dumps(TOO_LONG)}]
pytest_add_cli_args_test_selection = {json.dumps(list(group.tests))}
use_git_change_detection = false
track_dependencies = false
[tool.pytest.ini_options]
addopts = "-q -p no:cacheprovider"
pythonpath = ["."]
markers = ["faults", "hosts"]
"""


def _mutmut(folder: Path, *names: str) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(CHILDREN), *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode and names != ("nothing",):
        raise SystemExit(f"mutmut failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def _codes(folder: Path) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for meta in (folder / "mutants").rglob("*.meta"):
        found |= json.loads(meta.read_text())["exit_code_by_key"]
    return found


def _mutants(folder: Path) -> list[Mutant]:
    """All that mutmut made, with what differs, from the sources that it wrote."""
    found = []
    for meta in sorted((folder / "mutants").rglob("*.meta")):
        tree = ast.parse(meta.with_suffix("").read_text())
        functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for name in json.loads(meta.read_text())["exit_code_by_key"]:
            module, _, own = name.rpartition(".")
            kind = own.partition("__mutmut_")[0]
            before, after = functions[f"{kind}__mutmut_orig"], functions[own]
            place = (
                kind.removeprefix("x").replace("ǁ", ".").lstrip("._") if "ǁ" in kind else kind[2:]
            )
            found.append(
                Mutant(name, f"{module.removeprefix('engram.')}.{place}", *_compared(before, after))
            )
    return found


def _compared(before: ast.FunctionDef, after: ast.FunctionDef) -> tuple[str, bool]:
    """The lines that differ, and whether it is a text that does."""
    old, new = (ast.unparse(node).splitlines()[1:] for node in (before, after))
    lines = [line for line in difflib.ndiff(old, new) if line[0] in "+-"]
    return "\n".join(f"{line[0]} {line[2:].strip()}" for line in lines), _of_text(before, after)


def _of_text(before: Any, after: Any, within: bool = False) -> bool:
    """Whether the first thing that differs is what a message, or the name of an argument in one, says."""
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return within
        pairs = zip(before, after, strict=True)
        return next((_of_text(a, b, within) for a, b in pairs if _dump(a) != _dump(b)), False)
    if not isinstance(before, ast.AST):
        return within
    if isinstance(before, ast.Raise | ast.JoinedStr):
        within = True
    if isinstance(before, ast.Constant):
        return isinstance(before.value, str) and (within or " " in before.value)
    if type(before) is not type(after):
        return within and isinstance(before, ast.Raise | ast.JoinedStr)
    if isinstance(before, ast.Call) and ast.unparse(before.func).startswith("arrays."):
        texts = [_is_text(a) for a in before.args]
        if len(before.args) == len(after.args):
            for a, b, text in zip(before.args, after.args, texts, strict=True):
                if _dump(a) != _dump(b):
                    return text or _of_text(a, b, within)
    for name in before._fields:
        if name != "name" and _dump(getattr(before, name)) != _dump(getattr(after, name)):
            return _of_text(getattr(before, name), getattr(after, name), within)
    return False


def _is_text(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


def _dump(node: Any) -> str:
    if isinstance(node, list):
        return "".join(map(_dump, node))
    return ast.dump(node) if isinstance(node, ast.AST) else repr(node)


def planted() -> list[dict[str, Any]]:
    """Whether the tests see each fault of planted.yaml."""
    found = []
    with tempfile.TemporaryDirectory() as made:
        folder = staged(Path(made))
        (folder / "pyproject.toml").write_text(_settings(Group((), ())))
        for fault in yaml.safe_load(PLANTED.read_text()):
            path = folder / "engram" / fault["file"]
            text = path.read_text()
            if text.count(fault["text"]) != 1:
                raise SystemExit(f"{fault['fault']}: its text is not there once in {fault['file']}")
            path.write_text(text.replace(fault["text"], fault["instead"]))
            command = [sys.executable, "-m", "pytest", "-x", *fault["tests"]]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            path.write_text(text)
            if done.returncode not in (0, 1):
                raise SystemExit(f"{fault['fault']}: the tests did not run\n{done.stdout[-3000:]}")
            failed = re.search(r"^FAILED (\S+)", done.stdout, re.M)
            found.append({"fault": fault["fault"], "seen by": failed[1] if failed else None})
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", help=f"all of {', '.join([*GROUPS, 'planted'])} where none is named"
    )
    parser.add_argument("--of", type=int, help="mutants of each group, drawn at random")
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in given.parts or [*GROUPS, "planted"]:
        known[part] = planted() if part == "planted" else tried(GROUPS[part], given.of)
        RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
        if part != "planted":
            print(
                f"{part}: {json.dumps({k: v for k, v in known[part].items() if k != 'survivors'}, indent=1)}"
            )


if __name__ == "__main__":
    main()
