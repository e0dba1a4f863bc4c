"""What travels to a cluster: Engram's own code, the study, and the user's modules and weights that it names. Nothing else.

No environment (the cluster has its own, from the lock file), no state, no data. The same content is
the same bundle: Ray uploads it once. It is laid out as an installed package is, so that nothing of Engram's but
`engram` can be imported there. Knows nothing of Ray.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from engram import program
from engram.sweeps.state import provenance
from engram.sweeps.study import own_code
from engram.sweeps.study.configuration import Study

PACKAGES = ("sweeps", "models", "data", "measures")
CODE = (".py", ".yaml", ".html", ".css", ".js")
STUDY = "study.yaml"


def pack(study: Study | None, folder: Path) -> int:
    """Write the bundle of a study, or of Engram alone, into an empty folder; returns its size in bytes."""
    ours = folder / program.PACKAGE.name
    root = program.SCRIPT.parent if program.is_checkout() else program.PACKAGE
    for path in program.PACKAGE.glob("*.py"):
        _copy(path, ours / path.name)
    for package in PACKAGES:
        for path in _files(root / package):
            if path.suffix in CODE:
                _copy(path, ours / path.relative_to(root))
    if study is not None:
        for origin in user_modules(study):
            _copy_module(origin, folder / origin.name)
        for start in study.taken("model.start"):
            if isinstance(start, str):
                weights = Path(start.rpartition("@")[0])
                _copy(weights, folder / weights.name)
        (folder / STUDY).write_text(study.text)
    # A bundle is no repository: it says itself which commit it was made from.
    (ours / provenance.COMMIT_FILE).write_text(json.dumps(provenance.own()))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def user_modules(study: Study) -> list[Path]:
    """Files and package folders of the user's own that the study names, and those that these import."""
    found: dict[str, Path] = {}
    own_code.make_importable(study)
    waiting = [path.partition(":")[0].partition(".")[0] for path in own_code.named(study)]
    while waiting:
        name = waiting.pop()
        origin = _local(name) if name not in found else None
        if origin is not None:
            found[name] = origin
            files = origin.rglob("*.py") if origin.is_dir() else [origin]
            waiting += [top for file in files for top in _imported(file)]
    return list(found.values())


def _local(name: str) -> Path | None:
    """The file or folder of a module of the user's; None for Engram, installed packages and Python's own."""
    if name == program.PACKAGE.name or name in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())  # without __init__.py it has no origin
    origin = Path(places[0] if places else spec.origin or "").resolve()
    installed = any(part in ("site-packages", "dist-packages") for part in origin.parts)
    return None if installed or not (origin.is_dir() or origin.suffix == ".py") else origin


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)


def _copy_module(origin: Path, to: Path) -> None:
    if origin.is_file():
        _copy(origin, to)
        return
    for path in _files(origin):  # with the data files that a package may read
        _copy(path, to / path.relative_to(origin))


def _files(folder: Path) -> Iterator[Path]:
    """The files of a package, without what Python and version control leave beside them."""
    for path in folder.rglob("*"):
        within = path.relative_to(folder).parts
        if path.is_file() and not any(p == "__pycache__" or p.startswith(".") for p in within):
            yield path


def shown_size(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{max(1, round(size / 2**10))} KiB"
