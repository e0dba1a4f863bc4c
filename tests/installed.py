"""Engram as it is installed: the wheel of this checkout, in an environment that holds nothing else of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.command_line import ROOT

PACKAGES = ("engram", "sweeps", "models", "data", "measures")
BUILT_FROM = (*PACKAGES, "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@dataclass(frozen=True)
class Installed:
    """wheel: the file; script: the `engram` that it installs; python: the environment's."""

    wheel: Path
    script: Path
    python: Path

    def __call__(
        self, *words: str, home: Path, cwd: Path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the installed `engram` with these words, its state under `home`."""
        return subprocess.run(
            [str(self.script), *words],
            env={**os.environ, "ENGRAM_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=900,
        )


def build(folder: Path) -> Path:
    """The wheel, built without a network from a copy: what an earlier build has left would be packed too."""
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.split()[-1]


def install(wheel: Path, folder: Path) -> Installed:
    """The wheel alone in an environment that sees the packages of this one."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    its = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    (Path(its.strip()) / "packages.pth").write_text(sysconfig.get_path("purelib"))
    words = ["-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Installed(wheel, folder / "bin/engram", python)
