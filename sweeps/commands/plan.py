"""`plan`: what a study would run."""

from __future__ import annotations

import argparse

from engram import program
from engram.sweeps.commands import options

SUMMARY = "print what would run: trials, replicas, steps, time, memory, disk"
MORE = "Starts nothing and writes nothing."
EXAMPLE = "plan quickstart --set replicas.count=16"


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_study(parser, named=False)


def body(arguments: argparse.Namespace) -> int:
    study = options.load(arguments)
    from engram.sweeps.running import estimate, plan

    program.say("\n".join(plan.lines(estimate.make(study))))
    return program.DONE
