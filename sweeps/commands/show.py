"""`show`: one execution in a few lines."""

from __future__ import annotations

import argparse
import json

from engram import program
from engram.sweeps.commands import options

SUMMARY = "say what there is to know of one execution"
MORE = "Status, best trial, owner, host, hours, size, each `run` of it, and what failed."
EXAMPLE = "show quickstart"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    options.add_format(parser, ("text", "json"))


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import inventory, shelf
    from engram.sweeps.running import housekeeping

    folder = housekeeping.known("show", arguments.name)
    entry = inventory.entry_of(arguments.name)
    runs = inventory.runs_of(folder)
    if arguments.format == "json":
        found = {**entry.row(), "folder": str(folder), "runs": runs}
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        program.say(shelf.text(entry, folder, runs))
    return program.DONE
