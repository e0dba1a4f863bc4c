"""Engram: sweeps that show what a neural network memorizes, and why."""

from __future__ import annotations

from pathlib import Path

_here = Path(__file__).resolve().parent
if (_here.parent / "orchestrate.py").is_file():  # a checkout: engram.models is the folder models/
    __path__.append(str(_here.parent))
