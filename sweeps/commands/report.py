"""`report`: one self-contained page about a run."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "write one self-contained page about a run"
MORE = "Question, verdict, leaderboards, pictures, how it was run."
EXAMPLE = "report quickstart --out quickstart.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    parser.add_argument(
        "--out", metavar="FILE", help="file to write; in the state folder without it"
    )
    parser.add_argument(
        "--format",
        choices=["html", "markdown"],
        help="html, or markdown for pull requests and chat (printed without --out); by FILE's ending without it",
    )
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import evidence, report

    found = evidence.gather(arguments.name, arguments.tracking_uri)
    print(report.write(found, arguments.out, arguments.format))
    return program.DONE
