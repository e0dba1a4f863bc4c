"""`rename`: an execution under another name, in MLflow too."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "give an execution another name, in MLflow too"
EXAMPLE = "rename quickstart quickstart-first"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    parser.add_argument("new", metavar="NEW", help="its new name")


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.nightly import entries
    from engram.sweeps.running import housekeeping

    options.refuse_nights("rename", [arguments.name], entries.nights())
    with options.plainly():
        runs = housekeeping.rename(arguments.name, arguments.new)
    program.say(f"{arguments.name} is {arguments.new} now, {runs} runs in MLflow with it")
    return program.DONE
