"""`compare`: two executions or more, trial by trial."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "compare executions, trial by trial"
MORE = (
    "Each against the first: matched by configuration, paired by replica, with intervals; says which of code, data, "
    "versions or study changed. The setting that differs is the axis; three or more of the same settings have a trend. `report` makes a page of them."
)
EXAMPLE = "compare quickstart quickstart-2 quickstart-3"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the execution to compare with")
    parser.add_argument(
        "others", metavar="NAME", nargs="+", help="names of those that are compared"
    )
    options.add_format(parser, ("table", "json", "markdown"))
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from engram.sweeps.results import evidence, joined, side_by_side, terminal

    names = [arguments.name, *arguments.others]
    found = joined.join([evidence.gather(name, arguments.tracking_uri) for name in names])
    if arguments.format == "table":
        print(side_by_side.text(found, terminal.width_of(Console())))
    else:
        print(side_by_side.FORMS[arguments.format](found))
    return program.DONE
