"""`next`: what to ask after a study, as sentences and as a study file."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "what to ask next, as a study ready to run"
MORE = (
    "Follows an optimum past the end of its range or between its neighbours, fixes settings without effect, and asks "
    "for the replicas that would separate a tie. Writes NAME-next.yaml here, unless --out says otherwise."
)
EXAMPLE = "next quickstart"


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "name of the run; the latest without it"
    parser.add_argument("name", metavar="NAME", nargs="?", help=text)
    parser.add_argument("--out", metavar="FILE", help="file to write; must not be there yet")
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from engram import files
    from engram.problems import Place, Problem, StudyError
    from engram.sweeps.results import evidence, followup

    found = evidence.gather(arguments.name, arguments.tracking_uri)
    proposed = followup.follow_up(found)
    for line in proposed.sentences:
        program.say(line)
    if proposed.study is None:
        return program.DONE
    path = Path(arguments.out or f"{found.name}-next.yaml")
    if path.exists():
        fix = "move it, or name another file: --out FILE"
        raise StudyError([Problem(Place(str(path)), "is there already", fix)])
    files.write(path, proposed.text)
    program.say(f"written: {path}; to run it:\n  {program.name()} run {path}")
    return program.DONE
