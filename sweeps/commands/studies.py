"""`studies`: the shipped studies, each with its question."""

from __future__ import annotations

import argparse

from engram import program

SUMMARY = "list the shipped studies, each with its question"
EXAMPLE = "studies"


def arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.study import loading, study_file

    shipped = {name: loading.load(path) for name, path in study_file.shipped().items()}
    width = max(map(len, shipped), default=0)
    for name, loaded in shipped.items():
        program.say(f"{name:{width}}  {loaded.question}")
    return program.DONE
