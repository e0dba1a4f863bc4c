"""What travels to a cluster: Engram's own code, the study, and the user's modules that it names. Nothing else.

No environment (the cluster has its own, from the lock file), no state, no data. The same content is
the same parcel: Ray uploads it once. Knows nothing of Ray.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sweeps.definition.configuration import Study
from sweeps.definition.sections import Values
from sweeps.running import provenance

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = ("sweeps", "models", "data", "measures")
CODE = ("*.py", "*.yaml", "page/*")
STUDY = "study.yaml"


def pack(study: Study, folder: Path) -> int:
    """Write the parcel of a study into an empty folder; returns its size in bytes."""
    shutil.copy(ROOT / "orchestrate.py", folder)
    for package in OURS:
        for pattern in CODE:
            for path in (ROOT / package).rglob(pattern):
                if path.is_file() and "__pycache__" not in path.parts:
                    _copy(path, folder / path.relative_to(ROOT))
    for origin in user_modules(study):
        _copy_module(origin, folder / origin.name)
    (folder / STUDY).write_text(study.text)
    # A parcel is no repository: it says itself which commit it was made from.
    (folder / provenance.COMMIT_FILE).write_text(json.dumps(provenance.git(ROOT)))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def user_modules(study: Study) -> list[Path]:
    """Files and package folders of the user's own that the study names, and those that these import."""
    found: dict[str, Path] = {}
    waiting = list(_named(study))
    while waiting:
        name = waiting.pop()
        origin = _local(name) if name not in found else None
        if origin is not None:
            found[name] = origin
            files = origin.rglob("*.py") if origin.is_dir() else [origin]
            waiting += [top for file in files for top in _imported(file)]
    return list(found.values())


def _named(study: Study) -> Iterator[str]:
    """The first words of `package.module:thing` in the study."""
    for key, base in (("data.name", study.data.name), ("model.family", study.model.family)):
        axis = study.sweep.get(key)
        for value in (base, *(axis.values if isinstance(axis, Values) else ())):
            module, colon, _ = str(value).partition(":")
            if colon and module.replace(".", "").replace("_", "").isalnum():
                yield module.partition(".")[0]


def _local(name: str) -> Path | None:
    """The file or folder of a module of the user's; None for Engram's own, installed ones and Python's."""
    if name in OURS or name in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    installed = any(part in ("site-packages", "dist-packages") for part in origin.parts)
    if installed or origin.suffix != ".py":
        return None
    return origin.parent if origin.name == "__init__.py" else origin


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
        shutil.copy(origin, to)
        return
    for path in origin.rglob("*.py"):
        _copy(path, to / path.relative_to(origin))


def shown_size(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{max(1, round(size / 2**10))} KiB"
