"""The command line: find the command, parse its words, run it, and turn what goes wrong into an exit code.

A command is a module of this folder with `SUMMARY`, `EXAMPLE` and, where there is more to say, `MORE`;
`arguments(parser)` adds its own, and `body(arguments)` returns the exit code. Heavy imports wait for the body.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from engram import program
from engram.sweeps.commands import options

# In the order of the help.
COMMANDS = (
    "studies",
    "plan",
    "run",
    "submit",
    "leaderboard",
    "report",
    "compare",
    "list",
    "show",
    "rename",
    "archive",
    "restore",
    "delete",
    "prune",
    "retry",
    "next",
    "ui",
    "copy",
    "claims",
    "jobs",
    "fetch",
    "nightly",
    "schedule",
    "doctor",
    "schema",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without our characters shows others
            stream.reconfigure(errors="replace")
    line = parser()
    try:
        arguments = line.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the usage
        return stop.code if isinstance(stop.code, int) else program.BAD_INPUT
    if arguments.command is None:
        line.print_help(sys.stderr)
        return program.BAD_INPUT
    try:
        code = arguments.body(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return program.INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, head for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return program.DONE
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # as rich tells of it
            return program.DONE
        raise
    except Exception as error:
        if isinstance(error, _bad_input_errors()):
            program.say(str(error), sys.stderr)
            return program.BAD_INPUT
        if isinstance(error, options.Declined):
            return program.DONE
        if isinstance(error, options.Failed):
            program.say(str(error), sys.stderr)
            return program.FAILED
        if arguments.debug:
            raise
        program.say(f"{type(error).__name__}: {error}\n{_keep_traceback()}", sys.stderr)
        return program.FAILED


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    line = _Parser(
        prog=program.name().rpartition(" ")[2],
        description="Sweeps that show what a neural network memorizes, and why.",
        epilog=f"begin with: {program.name()} run quickstart",
    )
    line.add_argument(
        "--debug", action="store_true", help="show the traceback of an unexpected failure"
    )
    commands = line.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=_Parser
    )
    for name in COMMANDS:
        _add(commands, name, importlib.import_module(f"engram.sweeps.commands.{name}"))
    return line


def _add(commands: argparse._SubParsersAction, name: str, command: ModuleType) -> None:
    summary, more = command.SUMMARY, getattr(command, "MORE", "")
    added = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {more}".rstrip(),
        epilog=f"example: {program.name()} {command.EXAMPLE}",
    )
    added.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    command.arguments(added)
    added.set_defaults(body=command.body)


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)
        self._action_max_length = 17  # room for the longest command beside its summary


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest command named where one is misspelled."""

    def __init__(self, **options) -> None:
        super().__init__(formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        if "invalid choice: " in message:
            import difflib

            given = message.split("'")[1]
            known = [word.strip(" ')") for word in message.partition("choose from")[2].split(",")]
            close = difflib.get_close_matches(given, known, n=1)
            message += f"; did you mean '{close[0]}'?" if close else ""
        super().error(message)


def _bad_input_errors() -> tuple[type[Exception], ...]:
    """The errors that name what a person should mend, of the modules loaded so far."""
    names = {
        "engram.problems": "StudyError",
        "engram.data.dataset": "DataError",
        "engram.models.family": "ModelError",
    }
    return tuple(
        getattr(sys.modules[name], error) for name, error in names.items() if name in sys.modules
    )


def _keep_traceback() -> str:
    """Append the traceback to the log; say where it is."""
    import datetime
    import traceback

    from engram.sweeps.state import logs, paths

    path = paths.log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        logs.rotate(path)
        with path.open("a") as log:
            now = datetime.datetime.now().astimezone().isoformat()
            log.write(f"{now} {sys.argv}\n{traceback.format_exc()}\n")
    except OSError as error:
        return f"    the same command with --debug shows where ({path} cannot be written: {error.strerror})"
    return f"    the traceback is in {path}; --debug prints it"
