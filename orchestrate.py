#!/usr/bin/env python3
"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
STUDY = "a path to a .yaml file, or the name of a shipped study"
TRACKING = "MLflow server or store to read from; the state folder without it"
SET = "replace one value of the study, as in training.epochs=10 (repeatable)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the usage
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return BAD_INPUT
    try:
        code = arguments.body(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, head for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        if isinstance(error, _bad_input_errors()):
            print(error, file=sys.stderr)
            return BAD_INPUT
        if arguments.debug:
            raise
        print(f"{type(error).__name__}: {error}\n{_keep_traceback()}", file=sys.stderr)
        return FAILED


def _bad_input_errors() -> tuple[type[Exception], ...]:
    """The errors that name what a person should mend, of the modules loaded so far."""
    names = {
        "sweeps.definition.problems": "StudyError",
        "data.dataset": "DataError",
        "models.family": "ModelError",
    }
    return tuple(
        getattr(sys.modules[name], error) for name, error in names.items() if name in sys.modules
    )


def _keep_traceback() -> str:
    """Appends the traceback to the log; says where it is."""
    import datetime
    import traceback

    from sweeps import state

    path = state.log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(
                f"{datetime.datetime.now().astimezone().isoformat()} {sys.argv}\n{traceback.format_exc()}\n"
            )
    except OSError as error:
        return f"    the same command with --debug shows where ({path} cannot be written: {error.strerror})"
    return f"    the traceback is in {path}; --debug prints it"


def _load(arguments: argparse.Namespace):
    from sweeps import study

    return study.load(arguments.study, arguments.set, data=True, small=arguments.small)


def studies(arguments: argparse.Namespace) -> int:
    from sweeps import study
    from sweeps.definition import study_file

    shipped = {name: study.load(path) for name, path in study_file.shipped().items()}
    width = max(map(len, shipped), default=0)
    for name, loaded in shipped.items():
        print(f"{name:{width}}  {loaded.question}")
    return DONE


def plan(arguments: argparse.Namespace) -> int:
    study = _load(arguments)
    from sweeps import plan

    return plan.plan(study)


def run(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        from sweeps import state

        state.study_dir(arguments.name)  # refuses a name that is no plain word
    study = _load(arguments)
    from sweeps import runner

    return runner.run(study, name=arguments.name, address=arguments.address)


def submit(arguments: argparse.Namespace) -> int:
    from sweeps import launch

    for act in (launch.status, launch.logs, launch.stop):
        job = getattr(arguments, act.__name__)
        if job is not None:
            return act(job, arguments.address)
    if arguments.study is None:
        print("submit: name a STUDY, or a job with --status, --logs or --stop", file=sys.stderr)
        return BAD_INPUT
    options = launch.Options(
        name=arguments.name,
        home=arguments.home or launch.HOME,
        python=arguments.python,
        variables=tuple(arguments.env),
        secrets=arguments.secrets,
        job=arguments.job_id,
        detach=arguments.detach,
    )
    return launch.submit(
        arguments.study, arguments.set, arguments.small, arguments.address, options
    )


def leaderboard(arguments: argparse.Namespace) -> int:
    from sweeps import tables

    return tables.command(
        arguments.name, arguments.by, arguments.top, arguments.format, arguments.tracking_uri
    )


def report(arguments: argparse.Namespace) -> int:
    from sweeps import report

    return report.command(arguments.name, arguments.out, arguments.format, arguments.tracking_uri)


def compare(arguments: argparse.Namespace) -> int:
    from sweeps import compare

    return compare.command(
        arguments.first, arguments.second, arguments.format, arguments.tracking_uri
    )


def ui(arguments: argparse.Namespace) -> int:
    from sweeps import ui

    return ui.command(
        arguments.name,
        arguments.host,
        arguments.port,
        arguments.open,
        arguments.backend_store_uri,
        arguments.artifacts,
    )


def copy(arguments: argparse.Namespace) -> int:
    from sweeps import copy

    return copy.command(arguments.name, arguments.to, arguments.tracking_uri)


def claims(arguments: argparse.Namespace) -> int:
    from sweeps import claims

    return claims.command(
        arguments.names, arguments.run, arguments.small, arguments.format, arguments.gallery
    )


def nightly(arguments: argparse.Namespace) -> int:
    from sweeps import nightly

    which = (arguments.study, arguments.set, arguments.small)
    if arguments.history:
        return nightly.show(*which, arguments.format)
    return nightly.run(*which, arguments.hours, arguments.gpu_hours, not arguments.no_wait)


def schedule(arguments: argparse.Namespace) -> int:
    from sweeps import schedule

    which = (arguments.study, arguments.set, arguments.small)
    if arguments.list:
        return schedule.show(*which, arguments.format)
    if arguments.print:
        return schedule.entry(arguments.print, *which)
    return schedule.once(*which) if arguments.once else schedule.run(*which)


def doctor(arguments: argparse.Namespace) -> int:
    from sweeps import doctor

    return doctor.doctor(arguments.address)


def schema(arguments: argparse.Namespace) -> int:
    import json

    from sweeps import study

    print(json.dumps(study.schema(), indent=2, ensure_ascii=False))
    return DONE


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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="orchestrate.py",
        description="Sweeps that show what a neural network memorizes, and why.",
        epilog="begin with: python orchestrate.py run quickstart",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an unexpected failure"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=_Parser
    )

    def command(body: Callable[[argparse.Namespace], int], summary: str, more: str, example: str):
        added = commands.add_parser(
            body.__name__,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {more}".rstrip(),
            epilog=f"example: python orchestrate.py {example}",
        )
        added.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        added.set_defaults(body=body)
        return added

    command(studies, "list the shipped studies, each with its question", "", "studies")

    planned = command(
        plan,
        "print what would run: trials, replicas, steps, time, memory, disk",
        "Starts nothing and writes nothing.",
        "plan quickstart --set replicas.count=16",
    )
    ran = command(
        run,
        "run a study, or resume it where it stopped",
        "Ends in the leaderboards and where to look next. Exit code 3: finished, but some trials failed.",
        "run quickstart --set training.epochs=10",
    )
    for added in (planned, ran):
        added.add_argument("study", metavar="STUDY", help=STUDY)
        added.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=SET)
        added.add_argument(
            "--small", action="store_true", help="at the study's size for tests, under NAME-small"
        )
    ran.add_argument("--name", metavar="N", help="name of this run; the study's name without it")
    ran.add_argument(
        "--address",
        metavar="A",
        help="Ray cluster to run on, from one of its nodes, as in 10.0.0.1:6379; this machine without it",
    )

    sent = command(
        submit,
        "send a study to a Ray cluster as a job, and follow it",
        "Checked here first; Ctrl-C leaves the job running. Ends in the exit code of the study.",
        "submit quickstart --address http://127.0.0.1:8265",
    )
    sent.add_argument("study", metavar="STUDY", nargs="?", help=STUDY)
    sent.add_argument(
        "--address",
        metavar="URL",
        help="dashboard of the cluster's head; RAY_API_SERVER_ADDRESS without it",
    )
    sent.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=SET)
    sent.add_argument("--small", action="store_true", help="at the study's size for tests")
    sent.add_argument("--name", metavar="N", help="name of this run; the study's name without it")
    sent.add_argument("--detach", action="store_true", help="start the job and leave it")
    which = sent.add_mutually_exclusive_group()
    which.add_argument("--status", metavar="JOB", help="say what a job is doing")
    which.add_argument("--logs", metavar="JOB", help="show what a job said, and follow it")
    which.add_argument("--stop", metavar="JOB", help="stop a job; the same submit goes on later")
    sent.add_argument(
        "--home", metavar="DIR", help="state folder on the head; ~/engram-runs without it"
    )
    sent.add_argument(
        "--python", metavar="P", default="python", help="Python on the head, with Engram's packages"
    )
    sent.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a variable for the job, seen by all who see the job (repeatable)",
    )
    sent.add_argument(
        "--secrets", metavar="FILE", help="a file on the head with NAME=VALUE lines, read there"
    )
    sent.add_argument(
        "--job-id", metavar="ID", help="name of the job; taken once, so that nothing starts twice"
    )

    ranked = command(
        leaderboard,
        "rank a study's trials from the store",
        "Works while a study runs or years later.",
        "leaderboard quickstart --by variance --format markdown",
    )
    ranked.add_argument(
        "name", metavar="NAME", nargs="?", help="name of the run; the latest without it"
    )
    ranked.add_argument("--by", metavar="COLUMN", help="measure to rank by")
    ranked.add_argument("--top", metavar="N", type=_count, help="show the first N trials")
    ranked.add_argument(
        "--format",
        choices=["table", "json", "csv", "markdown"],
        default="table",
        help="table, json, csv or markdown",
    )

    told = command(
        report,
        "write one self-contained page about a run",
        "Question, verdict, leaderboards, pictures, how it was run.",
        "report quickstart --out quickstart.html",
    )
    told.add_argument("name", metavar="NAME", help="name of the run")
    told.add_argument("--out", metavar="FILE", help="file to write; in the state folder without it")
    told.add_argument(
        "--format",
        choices=["html", "markdown"],
        help="html, or markdown for pull requests and chat (printed without --out); by FILE's ending without it",
    )

    compared = command(
        compare,
        "compare two runs, trial by trial",
        "Matched by configuration, paired by replica, with intervals; says which of code, data, versions or study changed.",
        "compare quickstart quickstart-2",
    )
    compared.add_argument("first", metavar="NAME", help="name of the run to compare with")
    compared.add_argument("second", metavar="NAME", help="name of the run that is compared")
    compared.add_argument(
        "--format",
        choices=["table", "json", "markdown"],
        default="table",
        help="table, json or markdown",
    )

    served = command(
        ui,
        "serve MLflow on the default store, until Ctrl-C",
        "Listens on this machine alone unless --host says otherwise.",
        "ui quickstart --port 5001",
    )
    served.add_argument("name", metavar="NAME", nargs="?", help="name of the run to point at")
    served.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on")
    served.add_argument(
        "--port", metavar="P", type=_count, help="port; the first free one from 5000 without it"
    )
    served.add_argument(
        "--backend-store-uri",
        metavar="URI",
        help="database to serve, as in postgresql+psycopg://host/mlflow; the embedded store without it",
    )
    served.add_argument(
        "--artifacts", metavar="URI", help="folder or object store of that database's files"
    )
    served.add_argument("--open", action="store_true", help="open a browser there")

    copied = command(
        copy,
        "copy a run into another MLflow store, such as a server",
        "Curves, tables, files and the best model; what is there already is left alone.",
        "copy quickstart --to http://127.0.0.1:5000",
    )
    copied.add_argument("name", metavar="NAME", help="name of the run")
    copied.add_argument("--to", metavar="URI", required=True, help="MLflow tracking URI to copy to")

    for added in (ranked, told, compared, copied):
        added.add_argument("--tracking-uri", metavar="URI", help=TRACKING)

    claimed = command(
        claims,
        "the article's claims: the measured answer and the verdict on each",
        "Reads stored runs; a claim without one says how to get it. Resumable, as run is.",
        "claims dropout weight_decay --run",
    )
    claimed.add_argument(
        "names", metavar="NAME", nargs="*", help="claims by their study; all without it"
    )
    claimed.add_argument("--run", action="store_true", help="run the studies that have no run yet")
    claimed.add_argument(
        "--small", action="store_true", help="at the size for tests: seconds, and no evidence"
    )
    claimed.add_argument(
        "--format",
        choices=["table", "json", "markdown"],
        default="table",
        help="table, json or markdown",
    )
    claimed.add_argument(
        "--gallery", metavar="FILE", help="write the page with pictures, as docs/gallery.md"
    )

    _add_nights(command)

    checked = command(
        doctor,
        "say what works here, each with the fix where it does not",
        "Python, torch, GPUs, Ray, store, search, disk, memory, cluster. Exit code 1: something needed is missing.",
        "doctor --address http://127.0.0.1:8265",
    )
    checked.add_argument(
        "--address", metavar="A", help="Ray cluster to look for; RAY_ADDRESS without it"
    )

    command(
        schema,
        "print the study file's JSON Schema, for editors",
        "",
        "schema > study.schema.json",
    )
    return parser


def _add_nights(command: Callable[..., argparse.ArgumentParser]) -> None:
    """`nightly` and `schedule`."""
    night = command(
        nightly,
        "run tonight's night of studies, and compare it with the last few",
        "Made to be started by cron, systemd, Kubernetes or CI: a night that is done is not run twice, one that"
        " died goes on. Exit code 4: a regression; 3: some trials failed.",
        "nightly nightly --hours 3",
    )
    kept = command(
        schedule,
        "keep the timetable of studies' nightly sections, or install it",
        "Runs in the foreground until Ctrl-C, and runs each night when it is due.",
        "schedule nightly --print systemd",
    )
    for added in (night, kept):
        added.add_argument("study", metavar="STUDY", nargs="+", help=STUDY)
        added.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=SET)
        added.add_argument("--small", action="store_true", help="at the studies' sizes for tests")
    night.add_argument("--hours", metavar="H", type=_hours, help="for all studies together")
    night.add_argument("--gpu-hours", metavar="H", type=_hours, help="for all studies together")
    night.add_argument(
        "--no-wait", action="store_true", help="leave at once, with 1, where another night runs"
    )
    night.add_argument(
        "--history", action="store_true", help="show all nights and draw their trend; runs nothing"
    )
    night.add_argument(
        "--format",
        choices=["table", "json", "csv", "markdown"],
        default="table",
        help="of --history: table, json, csv or markdown",
    )
    ways = kept.add_mutually_exclusive_group()
    ways.add_argument("--once", action="store_true", help="run what is due now, and leave")
    ways.add_argument(
        "--print",
        choices=["cron", "systemd", "kubernetes"],
        help="write the entry that starts --once every ten minutes: cron, systemd or kubernetes",
    )
    ways.add_argument(
        "--list", action="store_true", help="show next and last nights and how they ended"
    )
    kept.add_argument(
        "--format", choices=["table", "json"], default="table", help="of --list: table or json"
    )


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0")
    return hours


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _leave(code: int) -> NoReturn:
    """End the program. Python would take a second more to take apart what MLflow and Ray have loaded."""
    if all(thread.daemon for thread in threading.enumerate() if thread != threading.main_thread()):
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):  # main has told of it, where it matters
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
