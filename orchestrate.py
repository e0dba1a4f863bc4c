#!/usr/bin/env python3
"""The command line in a checkout: `python orchestrate.py COMMAND` is what `engram COMMAND` is where it is installed.

`engram` is imported from its own folder, and this one is taken off the path: its `models/`, `data/` and `tests/`
must not stand in the way of anybody's own.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def _import_engram() -> None:
    """Make `engram`, and nothing else of this folder, importable."""
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT]
    found = importlib.util.spec_from_file_location("engram", ROOT / "engram" / "__init__.py")
    assert found is not None
    assert found.loader is not None
    sys.modules["engram"] = module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)


_import_engram()  # in processes that multiprocessing starts too, which import this file under another name

if __name__ == "__main__":
    from engram.sweeps.commands.line import main

    raise SystemExit(main())
