"""`claims`: the article's claims, each with the measured answer and the verdict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from engram import program
from engram.sweeps.commands import options

SUMMARY = "the article's claims: the measured answer and the verdict on each"
MORE = "Reads stored runs; a claim without one says how to get it. Resumable, as run is."
EXAMPLE = "claims dropout weight_decay --run"


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "claims by their study; all without it"
    parser.add_argument("names", metavar="NAME", nargs="*", help=text)
    text = "run the studies that have no run yet"
    parser.add_argument("--run", action="store_true", help=text)
    text = "at the size for tests: seconds, and no evidence"
    parser.add_argument("--small", action="store_true", help=text)
    options.add_format(parser, ("table", "json", "markdown"))
    text = "write the page with pictures, as docs/gallery.md"
    parser.add_argument("--gallery", metavar="FILE", help=text)


def body(arguments: argparse.Namespace) -> int:
    """Print the table of claims, after running their studies where that is asked for."""
    from engram.sweeps.claims import catalog, table

    chosen, small = catalog.chosen(arguments.names), arguments.small
    code = _run(chosen, small) if arguments.run else program.DONE
    if code == program.INTERRUPTED:
        return code
    claims = [catalog.read(name, small) for name in chosen]
    if arguments.gallery is not None:
        from engram.sweeps.claims import gallery

        print(gallery.write(claims, arguments.gallery))
    elif arguments.format == "json":
        print(json.dumps([claim.entry() for claim in claims], indent=1, ensure_ascii=False))
    elif arguments.format == "markdown":
        print(table.markdown(claims))
    else:
        from rich.console import Console

        table.show(claims, Console())
    return code


def _run(names: Sequence[str], small: bool) -> int:
    """Run the studies one after the other; what is finished is not run again."""
    from engram.sweeps.running import execution
    from engram.sweeps.study import loading

    code = program.DONE
    for name in names:
        tested = loading.load(name, data=True, small=small)
        ended = execution.run(tested, name=tested.name)
        if ended == program.INTERRUPTED:
            return program.INTERRUPTED
        code = max(code, ended)
    return code
