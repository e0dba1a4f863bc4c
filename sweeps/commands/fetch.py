"""`fetch`: an execution that lies on a cluster's head, brought into the state folder here."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from engram import program
from engram.sweeps.commands import options

SUMMARY = "bring an execution from a cluster's head into your state folder"
MORE = "What `submit` left there, with its runs in MLflow. It stays on the head too."
EXAMPLE = "fetch quickstart --address http://127.0.0.1:8265"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run on the head")
    parser.add_argument("--as", dest="new", metavar="N", help="its name here; the same without it")
    options.add_head(parser, "dashboard of the cluster's head; RAY_API_SERVER_ADDRESS without it")


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.commands import on_head
    from engram.sweeps.running import archive, housekeeping

    housekeeping.free("fetch", arguments.new or arguments.name)
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        file = Path(folder) / f"fetched{archive.SUFFIX}"
        on_head.file_of(arguments, file, "archive", arguments.name)
        name = archive.restore(file, arguments.new)
    options.say_restored(name)
    return program.DONE
