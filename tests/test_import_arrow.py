"""orchestrate -> sweeps -> {models, data, measures}; one module each for mlflow and optuna."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("sweeps", "models", "data", "measures")
# Package -> the only modules that may import it.
WALLED = {
    "mlflow": ("sweeps.tracking",),
    "optuna": ("sweeps.search",),
    "matplotlib": ("sweeps.figures",),
    "ray": ("sweeps.running", "sweeps.launch"),
}


def modules() -> dict[str, Path]:
    found = {"orchestrate": ROOT / "orchestrate.py"}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path, typing_too: bool = True) -> set[str]:
    """Dotted names that a file imports anywhere in it; `from a import b` counts as a.b as well."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not typing_too:
            skipped |= {id(inner) for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_arrow(name: str):
    own = name.partition(".")[0]
    allowed = {"orchestrate": {"sweeps"}, "sweeps": {*PACKAGES}}.get(own, {own})
    assert tops(MODULES[name]) & {*PACKAGES, "orchestrate"} <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_walled_packages_stay_behind_their_wall(name: str):
    for package, gates in WALLED.items():
        if package in tops(MODULES[name]):
            assert name.startswith(gates), f"{name} imports {package}; only {', '.join(gates)} may"


def test_no_cycles():
    graph = {
        name: (imports(path, typing_too=False) & MODULES.keys()) - {name}
        for name, path in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the cycle


def test_the_test_sees_imports(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f():\n    import ray.tune\n    from sweeps import plan\n")
    assert imports(path) == {"ray.tune", "sweeps", "sweeps.plan"}
