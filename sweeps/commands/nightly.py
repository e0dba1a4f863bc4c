"""`nightly`: one night's run of studies, compared with the nights before, and told to whom it concerns."""

from __future__ import annotations

import argparse
import sys

from engram import program
from engram.sweeps.commands import options

SUMMARY = "run tonight's night of studies, and compare it with the last few"
MORE = (
    "Made to be started by cron, systemd, Kubernetes or CI: a night that is done is not run twice, one that"
    " died goes on. Exit code 4: a regression; 3: some trials failed."
)
EXAMPLE = "nightly nightly --hours 3"


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_study(parser, many=True, named=False)
    options.add_address(parser)
    text = "for all studies together"
    parser.add_argument("--hours", metavar="H", type=options.positive, help=text)
    parser.add_argument("--gpu-hours", metavar="H", type=options.positive, help=text)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="exit at once, with code 1, if another night is running",
    )
    text = "show all nights and draw their trend; runs nothing"
    parser.add_argument("--history", action="store_true", help=text)
    options.add_format(parser, of="of --history: ")


def body(arguments: argparse.Namespace) -> int:
    """Run the latest night of each study, unless it has been run."""
    from engram.sweeps.nightly import studies

    found = studies.load(options.requests(arguments))
    if arguments.history:
        for study in found:
            _show(study.name, arguments.format)
        return program.DONE
    from engram.sweeps.nightly.session import Session, hold
    from engram.sweeps.nightly.training import Limits, on
    from engram.sweeps.state import lock

    hours, gpu_hours = arguments.hours, arguments.gpu_hours
    limits = Limits(
        None if hours is None else hours * 3600,
        None if gpu_hours is None else gpu_hours * 3600,
        "the budget of the night",
    )
    try:
        train = on(arguments.address)
        session = Session(found, limits=limits, train=train, say=program.say)
        return hold(session, not arguments.no_wait)
    except lock.Busy as busy:
        print(busy, file=sys.stderr)
        return program.FAILED


def _show(study: str, form: str) -> None:
    """Print the nights of a study and draw their trend; changes nothing else."""
    from engram.sweeps.nightly import entries, history

    known = entries.of_study(study)
    if form == "json":
        print(history.as_json(known))
    elif form == "csv":
        print(history.as_csv(known))
    elif form == "markdown":
        print(history.markdown(study, known))
    else:
        print(history.text(study, known))
        picture = history.draw(study, known)
        print(f"\npicture: {picture}" if picture else "\npicture: from the second night on")
