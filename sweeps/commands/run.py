"""`run`: a study from its start, or from where it stopped, to its leaderboards."""

from __future__ import annotations

import argparse

from engram.sweeps.commands import options

SUMMARY = "run a study, or resume it where it stopped"
MORE = "Ends in the leaderboards and where to look next. Exit code 3: finished, but some trials failed."
EXAMPLE = "run quickstart --set training.epochs=10"


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_study(parser)
    options.add_address(parser)
    text = (
        "serve its progress on this port of this machine alone: a page, and /metrics for Prometheus"
    )
    parser.add_argument("--watch", metavar="PORT", type=options.count, help=text)


def body(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        from engram.sweeps.state import paths

        paths.study_dir(arguments.name)  # refuses a name that is no plain word
    study = options.load(arguments)
    from engram.sweeps.running import execution

    where, port = arguments.address, arguments.watch
    return execution.run(study, name=arguments.name, address=where, watch=port)
