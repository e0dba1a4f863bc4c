"""The house's rooms and who may look into which; one room each for ray, mlflow, optuna and matplotlib; no cycles.

commands, the Python door -> nightly, claims -> running -> results -> cluster, tracking, search -> trial -> study
-> state; study and trial -> models, data, measures, which know nobody. Everybody may use the leaves of `engram`.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweeps", "models", "data", "measures")
NUMBERS = {"models", "data", "measures"}
# Modules of `engram` itself that import nothing of the house.
LEAVES = {"files", "problems", "program"}
# Room -> the rooms it may import besides itself.
STUDY = {"state"} | NUMBERS
TRIAL = {"study"} | STUDY
TRAINS = {"trial"} | TRIAL
RESULTS = {"search", "tracking"} | TRAINS
RUNNING = {"cluster", "results"} | RESULTS
ARROW: dict[str, set[str]] = {
    "models": set(),
    "data": set(),
    "measures": set(),
    "state": set(),
    "study": STUDY,
    "trial": TRIAL,
    "search": TRAINS,
    "tracking": {"state", "study", "measures"},
    "cluster": TRAINS,
    "results": RESULTS,
    "running": RUNNING,
    "nightly": {"running"} | RUNNING,
    "claims": {"running"} | RUNNING,
    "commands": {"running", "nightly", "claims"} | RUNNING,
    "engram": {"running"} | RUNNING,  # the Python door
    "orchestrate": {"commands"},
}
# Package -> the only rooms that may import it.
WALLED = {
    "mlflow": ("engram.sweeps.tracking",),
    "optuna": ("engram.sweeps.search",),
    "matplotlib": (
        "engram.sweeps.results.figures",
        "engram.sweeps.claims.pictures",
        "engram.sweeps.nightly.trend",
    ),
    "ray": ("engram.sweeps.cluster",),
}


def modules() -> dict[str, Path]:
    found = {"orchestrate": ROOT / "orchestrate.py"}
    for path in sorted((ROOT / "engram").glob("*.py")):
        found[f"engram.{path.stem}".removesuffix(".__init__")] = path
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(("engram", *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def room(name: str) -> str:
    """The room of a module or of something in it: `study` for engram.sweeps.study.loading."""
    words = name.split(".")
    if name == "engram.__main__":
        return "orchestrate"
    if words[0] != "engram":
        return words[0]
    if len(words) < 2 or words[1] not in PACKAGES:
        return "leaves" if len(words) > 1 and words[1] in LEAVES else "engram"
    return words[1] if words[1] != "sweeps" else words[2] if len(words) > 2 else "sweeps"


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere in it, for types too; `from a import b` is a.b as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def module_of(name: str) -> str | None:
    """The module that an imported name is, or is in."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_arrow(name: str):
    own = room(name)
    found = {room(m) for m in imports(MODULES[name]) if m.partition(".")[0] == "engram"}
    if own == "leaves":
        assert found <= {"leaves"}
        return
    allowed = ARROW.get(own, set()) | {own, "leaves"}
    assert found <= allowed, f"{name} looks into {', '.join(sorted(found - allowed))}"


@pytest.mark.parametrize("name", MODULES)
def test_engram_is_the_only_name(name: str):
    assert not tops(MODULES[name]) & {*PACKAGES, "orchestrate", "tests", "benchmarks"}


@pytest.mark.parametrize("name", MODULES)
def test_walled_packages_stay_behind_their_wall(name: str):
    for package, gates in WALLED.items():
        if package in tops(MODULES[name]):
            assert name.startswith(gates), f"{name} imports {package}; only {', '.join(gates)} may"


def test_no_cycles_for_types_either():
    graph = {
        name: {m for found in imports(path) if (m := module_of(found)) is not None} - {name}
        for name, path in MODULES.items()
    }
    # A package of one line is imported with whatever is in it.
    graph = {
        name: {m for m in found if not name.startswith(f"{m}.")} for name, found in graph.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the cycle


def test_every_room_has_its_place_in_the_arrow():
    rooms = {room(name) for name in MODULES} - {"leaves", "sweeps"}
    assert rooms == ARROW.keys()


def test_the_test_sees_imports(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ray.tune\n"
        "def f():\n    from engram.sweeps.running import plan\n"
    )
    assert imports(path) == {"typing.TYPE_CHECKING", "ray.tune", "engram.sweeps.running.plan"}
    assert room("engram.sweeps.running.plan") == "running"
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())
