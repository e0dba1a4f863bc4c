"""`restore`: an archived execution back into a state folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from engram import program
from engram.sweeps.commands import options

SUMMARY = "bring an archived execution back, here or on another machine"
MORE = "Refuses a name that is taken, and files that are damaged or would write elsewhere."
EXAMPLE = "restore quickstart.engram.tar.gz --name quickstart-copy"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="what `archive` wrote")
    parser.add_argument("--name", metavar="N", help="its name here; its own without it")


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.running import archive

    with options.plainly():
        name = archive.restore(arguments.file, arguments.name)
    options.say_restored(name)
    return program.DONE
