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

COMMIT_FILE = "commit.json"  # in code that was sent to a cluster without its repository
PACKAGES = ("torch", "ray", "optuna", "mlflow", "numpy", "scipy")


def collect(digests: dict[str, str]) -> dict[str, Any]:
    """Plain values: git commit and dirtiness, Python and package versions, machine, data digests."""
    return {
        **git(Path(__file__).resolve().parent.parent.parent),
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
        told = key.startswith(("git.", "version.", "data.digest.")) or key == "python"
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


def git(folder: Path) -> dict[str, Any]:
    """Commit and dirtiness of the code in a folder; None where nobody knows."""
    sent = folder / COMMIT_FILE
    if sent.exists():
        return json.loads(sent.read_text())

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
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
