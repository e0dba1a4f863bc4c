"""`leaderboard`: a study's trials, ranked from the store alone."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "answer a study's question and rank its trials"
MORE = "Works while a study runs or years later."
EXAMPLE = "leaderboard quickstart --by variance --format markdown"


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "name of the run; the latest without it"
    parser.add_argument("name", metavar="NAME", nargs="?", help=text)
    parser.add_argument("--by", metavar="COLUMN", help="measure to rank by")
    parser.add_argument("--top", metavar="N", type=options.count, help="show the first N trials")
    parser.add_argument(
        "--all",
        dest="every",
        action="store_true",
        help="every board, not only the one that selects",
    )
    options.add_format(parser)
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import executions, terminal

    found = executions.find(arguments.name, arguments.tracking_uri)
    terminal.print_boards(
        found, arguments.by, arguments.top, arguments.format, every=arguments.every
    )
    return program.DONE
