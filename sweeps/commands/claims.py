"""`claims`: the article's claims, each with the measured answer and the verdict."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from engram import program
from engram.data.sources import SOURCES
from engram.problems import Place, Problem, StudyError
from engram.sweeps.commands import options

SUMMARY = "the article's claims: the measured answer and the verdict on each"
MORE = "Reads stored runs; a claim without one says how to get it. Resumable, as run is."
LABEL = r"[A-Za-z0-9_.]{1,40}"
EXAMPLE = "claims dropout weight_decay --run"


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "claims by their study; all without it"
    parser.add_argument("names", metavar="NAME", nargs="*", help=text)
    text = "run the studies that have no run yet"
    parser.add_argument("--run", action="store_true", help=text)
    text = "at the size for tests: seconds, and no evidence"
    parser.add_argument("--small", action="store_true", help=text)
    text = "with --run: on this dataset too, as in data.name; LABEL= names it (mnist=idx:../mnist); repeatable"
    parser.add_argument(
        "--on", metavar="[LABEL=]DATASET", action="append", default=[], type=_dataset, help=text
    )
    options.add_format(parser, ("table", "json", "markdown"))
    text = "write the page with pictures, as docs/gallery.md"
    parser.add_argument("--gallery", metavar="FILE", help=text)


def body(arguments: argparse.Namespace) -> int:
    """Print the table of claims, after running their studies where that is asked for."""
    from engram.sweeps.claims import catalog, table

    chosen, small = catalog.chosen(arguments.names), arguments.small
    if arguments.on and not arguments.run:
        rule = "has no effect without --run"
        fix = "datasets that a claim was run on are found by themselves"
        raise StudyError([Problem(Place("claims"), rule, fix, "--on")])
    on = dict(arguments.on)
    code = _run(chosen, small, on) if arguments.run else program.DONE
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


def _dataset(text: str) -> tuple[str, str]:
    """LABEL=DATASET, or a dataset whose own name is its label; paths are made absolute."""
    label, equals, name = text.partition("=")
    if not equals:
        label, name = text, text
    prefix, colon, path = name.partition(":")
    if colon and not equals:
        label = Path(path).stem or prefix
    if not re.fullmatch(LABEL, label):
        raise argparse.ArgumentTypeError(
            f"'{label}' is no label: letters, digits, _ and . (LABEL=DATASET gives one)"
        )
    if any(source.prefix == prefix and source.files for source in SOURCES):
        name = f"{prefix}:{Path(path).expanduser().absolute()}"
    return label, name


def _run(names: Sequence[str], small: bool, on: Mapping[str, str]) -> int:
    """Run the studies one after the other; what is finished is not run again."""
    from engram.sweeps.claims import catalog
    from engram.sweeps.running import execution

    code = program.DONE
    for tested in [study for name in names for study in catalog.studies(name, small, on)]:
        ended = execution.run(tested, name=tested.name)
        if ended == program.INTERRUPTED:
            return program.INTERRUPTED
        code = max(code, ended)
    return code
