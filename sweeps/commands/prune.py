"""`prune`: executions that rules of retention let go."""

from __future__ import annotations

import argparse
import sys
import time

from engram import program
from engram.sweeps.commands import options

SUMMARY = "delete old executions by rules: age, number, size, kind"
MORE = (
    "Shows what would go, and asks. Nights are left to nightly.keep unless --kind night is given."
)
EXAMPLE = "prune --older-than 90 --kind unfinished --dry-run"
KINDS = ("complete", "unfinished", "unreadable", "night", "small")


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "those whose last result is older"
    parser.add_argument("--older-than", metavar="DAYS", type=options.positive, help=text)
    text = "all but the newest N"
    parser.add_argument("--keep", metavar="N", type=options.count, help=text)
    text = "the oldest, until all together take at most so many GiB"
    parser.add_argument("--max-gib", metavar="G", type=options.positive, help=text)
    text = f"only of this kind: {', '.join(KINDS)} (repeatable)"
    parser.add_argument(
        "--kind", metavar="K", choices=KINDS, action="append", default=[], help=text
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would go; delete nothing")
    options.add_yes(parser)


def body(arguments: argparse.Namespace) -> int:
    from engram.problems import Place, Problem, StudyError
    from engram.sweeps.nightly import entries
    from engram.sweeps.results import inventory, shelf
    from engram.sweeps.running import housekeeping

    if arguments.older_than is None and arguments.keep is None and arguments.max_gib is None:
        fix = "say what may go: --older-than DAYS, --keep N or --max-gib G"
        raise StudyError([Problem(Place("prune"), "no rule is given", fix)])
    rules = housekeeping.Rules(
        arguments.older_than,
        arguments.keep,
        None if arguments.max_gib is None else arguments.max_gib * 2**30,
        frozenset(arguments.kind),
    )
    going = housekeeping.chosen(inventory.here(), rules, entries.nights(), time.time())
    if not going:
        program.say("nothing to prune")
        return program.DONE
    program.say(shelf.table(going, program.width_of(sys.stdout)))
    if arguments.dry_run:
        return program.DONE
    options.agreed("prune", f"delete these {len(going)}, in MLflow too", arguments.yes)
    for entry in going:
        with options.plainly():
            housekeeping.delete(entry.name)
        program.say(f"{entry.name} is deleted")
    return program.DONE
