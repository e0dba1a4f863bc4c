"""Options that several commands share, and the checks of their values."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.study.request import STUDY, Request, option_fields

if TYPE_CHECKING:
    from engram.sweeps.study.configuration import Study

HEAD_HOME, HEAD_PYTHON = "~/engram-runs", "python"
TABLE_FORMATS = ("table", "json", "csv", "markdown")


def add_study(
    parser: argparse.ArgumentParser, many: bool = False, optional: bool = False, named: bool = True
) -> None:
    """STUDY and the options that say which study is meant; many: STUDY...; named: with --name."""
    nargs = "+" if many else "?" if optional else None
    parser.add_argument("study", metavar="STUDY", nargs=nargs, help=STUDY)
    for option in option_fields():
        if option.name == "name" and not named:
            continue
        about = dict(option.metadata)
        flag = about.pop("option")
        if option.default is False:
            parser.add_argument(flag, dest=option.name, action="store_true", **about)
        elif option.default == ():
            parser.add_argument(flag, dest=option.name, action="append", default=[], **about)
        else:
            parser.add_argument(flag, dest=option.name, **about)


def request(arguments: argparse.Namespace, study: str | None = None) -> Request:
    """What the arguments ask for; study: one of several."""
    given = {
        option.name: getattr(arguments, option.name, option.default) for option in option_fields()
    }
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return Request(study or arguments.study, **given)


def requests(arguments: argparse.Namespace) -> list[Request]:
    """What the arguments ask for, study by study."""
    return [request(arguments, study) for study in arguments.study]


def load(arguments: argparse.Namespace) -> Study:
    """The study, its data and its own code looked at as well."""
    from engram.sweeps.study import loading

    return loading.load(request(arguments), data=True)


def add_address(parser: argparse.ArgumentParser) -> None:
    """--address: where to train."""
    text = (
        "Ray cluster to run on, from one of its nodes, as in 10.0.0.1:6379; this machine without it"
    )
    parser.add_argument("--address", metavar="A", help=text)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """--tracking-uri: where to read from."""
    text = "MLflow server or store to read from; the state folder without it"
    parser.add_argument("--tracking-uri", metavar="URI", help=text)


def add_format(
    parser: argparse.ArgumentParser, formats: tuple[str, ...] = TABLE_FORMATS, of: str = ""
) -> None:
    """--format: the first of these unless another is asked for."""
    listed = f"{', '.join(formats[:-1])} or {formats[-1]}"
    parser.add_argument("--format", choices=formats, default=formats[0], help=f"{of}{listed}")


def add_head(parser: argparse.ArgumentParser, what: str) -> None:
    """--address URL of a cluster's head, and how Engram is started there."""
    parser.add_argument("--address", metavar="URL", help=what)
    add_head_home(parser)
    add_head_python(parser)


def add_head_home(parser: argparse.ArgumentParser) -> None:
    """--home: on the head, where each person has a folder of their own."""
    text = f"state folder on the head; {HEAD_HOME}/OWNER without it, a folder for each person"
    parser.add_argument("--home", metavar="DIR", help=text)


def add_head_python(parser: argparse.ArgumentParser) -> None:
    """--python: how Engram is started on the head."""
    text = "Python on the head, with Engram's packages"
    parser.add_argument("--python", metavar="P", default=HEAD_PYTHON, help=text)


def head_home(arguments: argparse.Namespace) -> str:
    """The state folder on the head: what was asked for, or the owner's own."""
    from engram.sweeps.state import owner

    if arguments.home:
        return str(arguments.home)
    return f"{HEAD_HOME}/{re.sub(r'[^A-Za-z0-9_.-]', '-', owner.owner()).lstrip('.-') or 'nobody'}"


def add_yes(parser: argparse.ArgumentParser) -> None:
    """--yes: do it without asking."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def agreed(command: str, what: str, yes: bool) -> None:
    """Ask on a terminal whether to go on; StudyError where nobody can answer, Declined where the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        rule, fix = f"would {what}, and nobody is there to ask", "give --yes to do it"
        raise StudyError([Problem(Place(command), rule, fix)])
    if input(f"{what}? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing is changed")
        raise Declined


class Declined(Exception):
    """Whoever was asked said no."""


@contextmanager
def plainly() -> Iterator[None]:
    """What is busy, away or damaged as one sentence; exit code 1."""
    from engram.sweeps.state import lock

    try:
        yield
    except lock.Busy as busy:
        raise Failed(str(busy)) from None


class Failed(RuntimeError):
    """A command that could not do its work now, and why, in words for people."""


def refuse_nights(command: str, names: list[str], nights: set[str]) -> None:
    """StudyError for a night, which its study knows by its name."""
    problems = [
        Problem(Place(command), "is a night, which its study finds by that name", "", "name", name)
        for name in names
        if name in nights
    ]
    if problems:
        raise StudyError(problems)


def say_restored(name: str) -> None:
    """Where a restored execution is, and how to go on with it."""
    from engram.sweeps.state import paths

    study = paths.study_dir(name) / "study.yaml"
    program.say(f"{name} is in {paths.study_dir(name)}")
    program.say(f"  {program.name()} leaderboard {name}")
    program.say(f"  {program.name()} run {study} --name {name}")


def positive(text: str) -> float:
    """A number above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return found


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
