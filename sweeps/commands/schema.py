"""`schema`: the study file's shape, for editors."""

from __future__ import annotations

import argparse

from engram import program

SUMMARY = "print the study file's JSON Schema, for editors"
EXAMPLE = "schema > study.schema.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def body(arguments: argparse.Namespace) -> int:
    import json

    from engram.sweeps.study import schema

    print(json.dumps(schema.schema(), indent=2, ensure_ascii=False))
    return program.DONE
