"""`report`: one self-contained page about an execution, or about several."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "write one self-contained page about an execution, or several"
MORE = (
    "Question, verdict, leaderboards, pictures, how it was run. Of several: what differs between them as an axis, "
    "matched settings side by side, and the trend."
)
EXAMPLE = "report quickstart --out quickstart.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", nargs="+", help="name of the execution; of several, one page"
    )
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
    from engram.sweeps.results import evidence, joined, report, report_joined

    found = [evidence.gather(name, arguments.tracking_uri) for name in arguments.name]
    out, form = arguments.out, arguments.format
    if len(found) == 1:
        print(report.write(found[0], out, form))
    else:
        print(report_joined.write(joined.join(found), out, form))
    return program.DONE
