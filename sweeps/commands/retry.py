"""`retry`: what failed of an execution, trained again."""

from __future__ import annotations

import argparse

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.commands import options

SUMMARY = "train again what failed of an execution"
MORE = "The rest keeps its result."
EXAMPLE = "retry quickstart"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    options.add_address(parser)


def body(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from engram import files
    from engram.sweeps.results import inventory
    from engram.sweeps.running import execution, housekeeping
    from engram.sweeps.study import loading, own_code
    from engram.sweeps.study.request import Request

    folder = housekeeping.known("retry", arguments.name)
    entry = inventory.entry_of(arguments.name)
    if not entry.failed:
        program.say(f"{arguments.name}: no trial has failed")
        return program.DONE
    info = files.read_json(folder / "execution.json") or {}
    kept, original = folder / "study.yaml", Path(info.get("path") or "")
    overrides = (*info.get("overrides", ()), "faults.retry_failed=true")
    there = original.is_file() and original.read_text() == kept.read_text()
    request = Request(str(original if there else kept), tuple(overrides), name=arguments.name)
    study = loading.load(request)
    if not there and next(own_code.named(study), None) is not None:
        # A copy kept with results never decides what is imported and run.
        rule = f"names code of its own, and {original or 'its file'} is not as it was run"
        fix = f"{program.name()} run FILE --name {arguments.name} --set faults.retry_failed=true"
        raise StudyError([Problem(Place("retry"), rule, fix, "study", entry.study)])
    return execution.run(
        loading.load(request, data=True), name=arguments.name, address=arguments.address
    )
