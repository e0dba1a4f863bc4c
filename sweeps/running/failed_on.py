"""On which nodes a configuration has failed, from one `run` to the next: it is tried elsewhere first.

Kept by the hash of a configuration, because a trial that is opened again may get another number. Ids of nodes mean
something while their cluster lives; later they name nothing that is there.
"""

from __future__ import annotations

import json
from pathlib import Path

from engram import files

FILE = "failed_on.json"
MOST_NODES = 20  # of one configuration


class FailedOn:
    """folder: of the execution."""

    def __init__(self, folder: Path):
        self._path = folder / FILE
        said = files.read_json(self._path)
        known = said if isinstance(said, dict) else {}
        self._nodes = {k: list(map(str, v)) for k, v in known.items() if isinstance(v, list)}

    def nodes(self, config_hash: str) -> list[str]:
        return list(self._nodes.get(config_hash, ()))

    def add(self, config_hash: str, node: str) -> None:
        nodes = self._nodes.setdefault(config_hash, [])
        if node not in nodes:
            nodes[:] = [*nodes, node][-MOST_NODES:]
            files.write(self._path, json.dumps(self._nodes))
