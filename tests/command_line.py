"""Runs the real command line in a process of its own, as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def engram(
    *words: str, home: Path, cwd: Path | None = None, timeout_s: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """orchestrate.py with these words, its state under `home`; output is captured."""
    return subprocess.run(
        [sys.executable, str(ROOT / "orchestrate.py"), *words],
        env={**os.environ, "ENGRAM_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        cwd=cwd or home.parent,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
