"""`list`: the executions that one has."""

from __future__ import annotations

import argparse
import sys

from engram import program
from engram.sweeps.commands import options

SUMMARY = "list the executions that you have, with their answers"
MORE = "Of the state folder, a server, or a cluster's head; writes index.html, which links the reports."
EXAMPLE = "list --format json"


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser, ("table", "json"))
    options.add_tracking(parser)
    options.add_head(
        parser, "those on a cluster's head: its dashboard, as in http://127.0.0.1:8265"
    )


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.results import inventory, shelf

    if arguments.address is not None:
        from engram.sweeps.commands import on_head

        entries = [
            inventory.Entry(**row) for row in on_head.json_of(arguments, "list", "--format", "json")
        ]
    elif arguments.tracking_uri is not None:
        entries = inventory.of_store(arguments.tracking_uri)
    else:
        entries = inventory.here()
    if arguments.format == "json":
        print(shelf.as_json(entries))
    else:
        program.say(shelf.table(entries, program.width_of(sys.stdout)))
    if arguments.address is None and arguments.tracking_uri is None and entries:
        page = shelf.write_index(entries)
        if arguments.format == "table":
            print(f"page: {page}")
    return program.DONE
