"""`archive`: an execution as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from engram import program
from engram.sweeps.commands import options

SUMMARY = "write an execution into one file, to keep or to take elsewhere"
MORE = "Ledger, checkpoints, arrays, and its runs of the embedded store; `restore` brings it back anywhere."
EXAMPLE = "archive quickstart --out quickstart.engram.tar.gz"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    text = "file to write; NAME.engram.tar.gz in this folder without it"
    parser.add_argument("--out", metavar="FILE", type=Path, help=text)


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import shelf
    from engram.sweeps.running import archive

    target = arguments.out or Path(f"{arguments.name}{archive.SUFFIX}")
    with options.plainly():
        size = archive.pack(arguments.name, target)
    uri = archive.manifest_of(target)["uri"]
    program.say(f"{target}: {shelf.size(size)}" + (f"; its runs stay in {uri}" if uri else ""))
    program.say(f"  {program.name()} restore {target}")
    return program.DONE
