"""The committed records of a ledger, read for themselves: what a leaderboard needs, without the search.

Optuna's storage replays every line into objects of its own, which takes seconds for ten thousand trials.
Here only the lines are looked at that say which trial belongs where and what came of it. Must agree with
`Search.records`, which tests/test_search.py holds it to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engram.sweeps.search import operations
from engram.sweeps.search.ledger import FORMAT, LedgerFile, check_format, damaged

RECORD = "engram.record"  # attribute of a committed trial
RUN, READY, VERSION = "engram.run.", "engram.ready", "engram.format"  # attributes of a study


@dataclass
class _Generation:
    """An Optuna study in the ledger: its attributes, how many trials it has, and their records as text."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    trials: int = 0
    records: dict[int, str] = field(default_factory=dict)


def read_records(path: Path, name: str) -> list[dict]:
    """The committed records of an execution, each with the id of its run; [] where there is no ledger."""
    if not path.exists():
        return []
    try:
        generations = _generations(LedgerFile(path, write=False))
    except (KeyError, TypeError, IndexError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    found = None
    for generation in generations:
        check_format(path, generation.attributes.get(VERSION, FORMAT))
        if generation.name.partition("#")[0] == name and generation.attributes.get(READY):
            found = generation
    if found is None:
        return []
    return [
        {**json.loads(text), "run_id": found.attributes.get(f"{RUN}{number}")}
        for number, text in sorted(found.records.items())
    ]


def _generations(file: LedgerFile) -> list[_Generation]:
    generations: list[_Generation] = []
    trials: list[
        tuple[_Generation, int]
    ] = []  # by Optuna's id: where a trial belongs, and its number
    for line in file.read_logs(0):
        code = line["op_code"]
        if code == operations.CREATE_STUDY:
            if all(line["study_name"] != known.name for known in generations):
                generations.append(_Generation(line["study_name"]))
        elif code == operations.STUDY_ATTRIBUTE:
            generations[line["study_id"]].attributes.update(line["user_attr"])
        elif code == operations.CREATE_TRIAL:
            generation = generations[line["study_id"]]
            trials.append((generation, generation.trials))
            generation.trials += 1
            _note(trials[-1], line.get("user_attrs") or {})
        elif code == operations.TRIAL_ATTRIBUTE:
            _note(trials[line["trial_id"]], line["user_attr"])
    return generations


def _note(place: tuple[_Generation, int], attributes: dict[str, Any]) -> None:
    if RECORD in attributes:
        generation, number = place
        generation.records[number] = attributes[RECORD]
