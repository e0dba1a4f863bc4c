"""`compare`: two runs of a study, trial by trial."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "compare two runs, trial by trial"
MORE = "Matched by configuration, paired by replica, with intervals; says which of code, data, versions or study changed."
EXAMPLE = "compare quickstart quickstart-2"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="NAME", help="name of the run to compare with")
    parser.add_argument("second", metavar="NAME", help="name of the run that is compared")
    options.add_format(parser, ("table", "json", "markdown"))
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import compare, evidence

    uri = arguments.tracking_uri
    first, second = (evidence.gather(n, uri) for n in (arguments.first, arguments.second))
    print(compare.FORMS[arguments.format](compare.compare(first, second)))
    return program.DONE
