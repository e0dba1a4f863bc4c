"""How a study was run: code, versions, machine, data. Recorded with it, compared between executions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from engram import program

COMMIT_FILE = "commit.json"  # in code that was sent to a cluster without its repository
DISTRIBUTION = "engram-studies"
PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy", "scipy")


def collect(digests: dict[str, str], project: Path | None = None) -> dict[str, Any]:
    """Plain values: whose code in which state, versions of Python and packages, machine, data digests.

    project: folder of a person's own study or code, whose commit is then recorded as theirs.
    """
    theirs = {} if project is None else _commit_of(project)
    return {
        **own(),
        **{f"project.{key}": value for key, value in theirs.items()},
        "python": platform.python_version(),
        **{f"version.{name}": _version(name) for name in PACKAGES},
        "machine.system": f"{platform.system()} {platform.machine()}",
        "machine.processor": _processor(),
        "machine.cores": os.cpu_count(),
        **{f"data.digest.{name}": digest for name, digest in digests.items()},
        "command": " ".join([Path(sys.argv[0]).name, *(_without_value(a) for a in sys.argv[1:])]),
    }


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs in code, versions and data since another execution, in words; [] where nothing is known of it."""
    lines = []
    for key in dict.fromkeys([*before, *now]):
        told = key.startswith(("git.", "project.", "version.", "data.digest.")) or key == "python"
        if told and key in before and before[key] != now.get(key):
            lines.append(f"{key}: {_short(before[key])} is now {_short(now.get(key))}")
    return lines


def changed_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The datasets that are not what they were, by name."""
    digests = [key for key in before if key.startswith("data.digest.")]
    return [
        key.removeprefix("data.digest.")
        for key in digests
        if key in now and before[key] != now[key]
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) >= 40 else text  # commits and digests


def own() -> dict[str, Any]:
    """Engram's own commit and dirtiness in a checkout, or in code that was sent; its version where it is installed.

    Never those of a repository that it happens to be installed in.
    """
    sent = program.PACKAGE / COMMIT_FILE
    if sent.exists():
        return json.loads(sent.read_text())
    root = program.SCRIPT.parent
    found = _commit_of(root) if program.is_checkout() and (root / ".git").exists() else {}
    return found or {
        "git.commit": None,
        "git.dirty": None,
        "version.engram": _version(DISTRIBUTION),
    }


def _commit_of(folder: Path) -> dict[str, Any]:
    """Commit of the repository that a folder lies in, and whether it was changed since; {} where there is none."""

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    status = ask("status", "--porcelain", "--untracked-files=no")
    return {"git.commit": commit, "git.dirty": None if status is None else bool(status)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _without_value(argument: str) -> str:
    """Arguments as typed, but for passwords in addresses."""
    scheme, separator, rest = argument.partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator and "@" in rest else argument
