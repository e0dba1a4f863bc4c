"""A ledger as it stands under another name, or beside other runs of MLflow: rewritten whole, never in place.

What was proposed, reported and committed stays, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.search import operations
from engram.sweeps.search.committed import RUN
from engram.sweeps.search.ledger import LedgerFile, backup_of
from engram.sweeps.state import journal


def rewrite(path: Path, old: str, new: str, runs: Mapping[str, str] | None = None) -> None:
    """Give an execution's ledger another name, and its trials the runs that took the place of others.

    The copy of the last start goes: it would bring the old name back. The caller holds the study's lock.
    runs: {id of a run: id of the one in its place}. LedgerError where the ledger is damaged.
    """
    lines = [
        _line(line, old, new, runs or {}) for line in LedgerFile(path, write=False).read_logs(0)
    ]
    backup_of(path).unlink(missing_ok=True)
    files.write(path, b"".join(map(journal.encode, lines)), durable=True)


def _line(line: dict[str, Any], old: str, new: str, runs: Mapping[str, str]) -> dict[str, Any]:
    found = {key: value for key, value in line.items() if key != "crc"}
    if found["op_code"] == operations.CREATE_STUDY:
        name, mark, generation = str(found["study_name"]).partition("#")
        if name == old:
            found["study_name"] = f"{new}{mark}{generation}"
    elif found["op_code"] == operations.STUDY_ATTRIBUTE and "user_attr" in found:
        found["user_attr"] = {
            key: runs.get(value, value) if key.startswith(RUN) else value
            for key, value in found["user_attr"].items()
        }
    return found
