"""`delete`: executions, with all that is kept of them."""

from __future__ import annotations

import argparse
import sys

from engram import program
from engram.sweeps.commands import options

SUMMARY = "delete executions, from the state folder and from MLflow"
MORE = "Asks first. What runs is not touched; a registered model stays."
EXAMPLE = "delete quickstart-2 --yes"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="names of the runs")
    parser.add_argument("--keep-mlflow", action="store_true", help="leave its runs in MLflow")
    options.add_yes(parser)


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import inventory, shelf
    from engram.sweeps.running import housekeeping

    names = list(dict.fromkeys(arguments.names))
    for name in names:
        housekeeping.known("delete", name)
    entries = [inventory.entry_of(name) for name in names]
    program.say(shelf.table(entries, program.width_of(sys.stdout)))
    where = "" if arguments.keep_mlflow else ", in MLflow too"
    options.agreed("delete", f"delete {', '.join(names)}{where}", arguments.yes)
    for name in names:
        with options.plainly():
            runs = housekeeping.delete(name, mlflow=not arguments.keep_mlflow)
        program.say(f"{name} is deleted, {runs} runs in MLflow with it")
    return program.DONE
