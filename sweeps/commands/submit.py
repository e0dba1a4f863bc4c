"""`submit`: a study as a Ray job, checked here first, run on the cluster's head, and followed from here.

The job is `engram run` on the head, in a copy of this code. Whoever follows it may come and go:
the job does not notice.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engram import program
from engram.data.sources import SOURCES
from engram.problems import Place, Problem, StudyError
from engram.sweeps.cluster import jobs
from engram.sweeps.commands import on_head, options
from engram.sweeps.state import owner
from engram.sweeps.state.names import study_name
from engram.sweeps.study.request import Request

if TYPE_CHECKING:
    from engram.sweeps.study.configuration import Study

SUMMARY = "send a study to a Ray cluster as a job, and follow it"
MORE = "Checked here first; Ctrl-C leaves the job running. Ends in the exit code of the study."
EXAMPLE = "submit quickstart --address http://127.0.0.1:8265"
HOME = options.HEAD_HOME
SENT, FETCH = "ENGRAM_SUBMITTED", "ENGRAM_FETCH"  # see running.execution
NOT_FOUND = 127
STOP_S = 120  # a driver that is asked to stop may take this long to save what is running
SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET", "KEY", "CREDENTIAL")
FILES = tuple(f"{source.prefix}:" for source in SOURCES if source.files)
NAME, OWNER = "engram.name", "engram.owner"
WHERE = "engram.where"  # one job at a time works on a name in a state folder


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_study(parser, optional=True)
    parser.add_argument(
        "--address",
        metavar="URL",
        help="dashboard of the cluster's head; RAY_API_SERVER_ADDRESS without it",
    )
    parser.add_argument(
        "--print",
        choices=["slurm"],
        help="write a batch script that starts Ray in an allocation and runs the study there",
    )
    parser.add_argument("--detach", action="store_true", help="start the job and leave it")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--status", metavar="JOB", help="say what a job is doing")
    which.add_argument("--logs", metavar="JOB", help="show what a job said, and follow it")
    text = "stop a job; the same submit goes on later. Asks where it is another's"
    which.add_argument("--stop", metavar="JOB", help=text)
    options.add_yes(parser)
    options.add_head_home(parser)
    options.add_head_python(parser)
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a variable for the job, seen by all who see the job (repeatable)",
    )
    text = "a file on the head with NAME=VALUE lines, read there"
    parser.add_argument("--secrets", metavar="FILE", help=text)
    text = "serve its progress on this port of the head, on loopback, as run --watch does"
    parser.add_argument("--watch", metavar="PORT", type=options.count, help=text)
    text = "name of the job; taken once, so that nothing starts twice"
    parser.add_argument("--job-id", metavar="ID", help=text)


def body(arguments: argparse.Namespace) -> int:
    for name, act in (("status", _print_status), ("logs", _logs), ("stop", _stop)):
        job = getattr(arguments, name)
        if job is not None:
            return _with(arguments.address, partial(act, job=job, arguments=arguments))
    if arguments.study is None:
        print("submit: name a STUDY, or a job with --status, --logs or --stop", file=sys.stderr)
        return program.BAD_INPUT
    if arguments.print:
        return _print_script(arguments)
    where = on_head.address("submit", arguments.address)
    request = options.request(arguments)
    study = _checked(request)
    request = request.under(request.name or study.name)
    _check(study, request, arguments)
    return _with(where, lambda cluster: _send(cluster, study, request, arguments))


def _print_script(arguments: argparse.Namespace) -> int:
    """A batch script for what was asked; the study is checked first."""
    from engram.sweeps.cluster import slurm
    from engram.sweeps.state import paths

    place, problems = Place("submit"), []
    for name in ("detach", "env", "job_id", "secrets", "watch"):
        if getattr(arguments, name):
            option = f"--{name.replace('_', '-')}"
            rule, fix = "is of a job, and --print starts none", "write it into the script"
            problems.append(Problem(place, rule, fix, option))
    if arguments.name and (wrong := study_name(arguments.name)):
        problems.append(Problem(place, *wrong, "--name", arguments.name))
    if problems:
        raise StudyError(problems)
    request = options.request(arguments)
    study = _checked(request)
    if Path(request.study).is_file():  # the script may be submitted from anywhere
        request = request.of(str(Path(request.study).resolve()))
    home = Path(arguments.home).expanduser().resolve() if arguments.home else paths.home()
    print(slurm.script(study, request.words(), home), end="")
    return program.DONE


def _send(
    cluster: jobs.Cluster, study: Study, request: Request, arguments: argparse.Namespace
) -> int:
    """Send a study, and follow it to its end; returns the study's exit code, or 0 where detached."""
    from engram.sweeps.cluster import bundle

    name = str(request.name)
    home = options.head_home(arguments)
    busy = cluster.running(WHERE, f"{home}/{name}")
    if busy is not None:
        raise jobs.ClusterError(
            f"{name} runs already, as {busy}; to follow it: "
            f"{program.name()} submit --logs {busy} --address {cluster.address}"
        )
    job = arguments.job_id or f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        size = bundle.pack(study, Path(folder))
        print(f"{name}: sending {bundle.shown_size(size)} to {cluster.address}", flush=True)
        cluster.start(
            job,
            _command(request.of(bundle.STUDY), arguments),
            Path(folder),
            _environment(name, arguments),
            {
                NAME: name,
                "engram.study": study.name,
                "engram.home": home,
                WHERE: f"{home}/{name}",
                OWNER: owner.owner(),
                "engram.host": owner.host(),
            },
        )
    print(f"job {job}", flush=True)
    if arguments.detach:
        _say_how_to_go_on(job, cluster.address)
        return program.DONE
    return _follow(cluster, job)


# -- before anything is sent ------------------------------------------------------------------------


def _checked(request: Request) -> Study:
    """The study with all that can be known of it here; files of data are looked at where they are."""
    from engram.sweeps.study import loading

    study = loading.load(request)
    files = [name for name in _datasets(study) if name.startswith(FILES)]
    named = [("data.name", name, name.partition(":")[2]) for name in files]
    others = {"data.test": study.data.test, "data.indices": study.data.indices}
    named += [(key, path, path) for key, path in others.items() if path is not None]
    relative = [(key, value) for key, value, path in named if not Path(path).is_absolute()]
    if relative:
        rule = "is a file of this machine, and data does not travel with a study"
        fix = "put it where the head can read it, and write that absolute path"
        raise StudyError(
            [Problem(study.place(key, value), rule, fix, key, value) for key, value in relative]
        )
    return study if files else loading.load(request, data=True)


def _datasets(study: Study) -> list[str]:
    from engram.sweeps.study.sections import Values

    axis = study.sweep.get("data.name")
    return [study.data.name, *(map(str, axis.values) if isinstance(axis, Values) else ())]


def _check(study: Study, request: Request, arguments: argparse.Namespace) -> None:
    """Refuse what would put a secret where others can read it, and names that cannot be."""
    from engram.sweeps.running.secrets import Secrets

    problems = []
    place = Place("submit")
    wrong = study_name(request.name)
    if wrong:
        problems.append(Problem(place, *wrong, "--name", request.name))
    by_reference = "write it into a file on the head and name that with --secrets"
    if urlsplit(study.tracking.uri or "").password:
        rule = "holds a password, which would travel with the study"
        fix = f"leave user and password out; {by_reference}: MLFLOW_TRACKING_USERNAME=..., MLFLOW_TRACKING_PASSWORD=..."
        problems.append(Problem(study.place("tracking.uri", study.tracking.uri), rule, fix))
    secrets = Secrets(study)
    for option in request.overrides:
        if not problems and secrets.hidden(option) != option:
            rule = f"--set {option.partition('=')[0]} holds a secret, which the list of jobs would show"
            problems.append(Problem(place, rule, "write it into the study file"))
    for variable in arguments.env:
        key, equals, _ = variable.partition("=")
        if not equals or not key.isidentifier():
            fix = "write NAME=value"
            problems.append(Problem(place, "is no variable", fix, "--env", variable))
        elif any(word in key.upper() for word in SECRET_WORDS):
            rule = f"--env {key} looks like a secret, which the list of jobs would show"
            problems.append(Problem(place, rule, by_reference))
        elif secrets.hidden(variable) != variable:
            rule = f"--env {key} holds a password, which the list of jobs would show"
            problems.append(Problem(place, rule, by_reference))
    if arguments.home is not None and not arguments.home.startswith(("/", "~/")):
        rule = "is no absolute path, and a job has no folder of its own that stays"
        problems.append(Problem(place, rule, f"write one, as in {HOME}", "--home", arguments.home))
    if problems:
        raise StudyError(problems)


def _command(request: Request, arguments: argparse.Namespace) -> str:
    watched = ["--watch", str(arguments.watch)] if arguments.watch else []
    command = f"{on_head.path(arguments.python)} -m engram {shlex.join(['run', *request.words(), *watched])}"
    if arguments.secrets is None:
        return command
    # Read on the head, when the job starts: nothing of it is in the job's description.
    return f"set -a && . {on_head.path(arguments.secrets)} && set +a && exec {command}"


def _advice(name: str, arguments: argparse.Namespace) -> dict[str, str]:
    """What the study says there at its end, as it is typed here: how to go on with it, and how to have it."""
    where = ["--address", arguments.address or os.environ["RAY_API_SERVER_ADDRESS"]]
    where += ["--home", arguments.home] if arguments.home else []
    where += ["--python", arguments.python] if arguments.python != options.HEAD_PYTHON else []
    more = [word for variable in arguments.env for word in ("--env", variable)]
    more += ["--secrets", arguments.secrets] if arguments.secrets else []
    again = f"submit {options.request(arguments)} {shlex.join([*where, *more])}"
    fetch = shlex.join(["fetch", name, *where])
    return {SENT: f"{program.name()} {again}", FETCH: f"{program.name()} {fetch}"}


def _environment(name: str, arguments: argparse.Namespace) -> dict[str, str]:
    given = dict(variable.split("=", 1) for variable in arguments.env)
    return {
        "ENGRAM_HOME": options.head_home(arguments),
        owner.VARIABLE: owner.owner(),
        **_advice(name, arguments),
        "PYTHONUNBUFFERED": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
        **given,
    }


# -- while it runs ----------------------------------------------------------------------------------


def _with(address: str | None, act: Callable[[jobs.Cluster], int]) -> int:
    where = on_head.address("submit", address)
    try:
        return act(jobs.Cluster(where))
    except jobs.ClusterError as error:
        program.warn(str(error))
        return program.FAILED


def _logs(cluster: jobs.Cluster, job: str, arguments: argparse.Namespace) -> int:
    return _follow(cluster, job)


def _follow(cluster: jobs.Cluster, job: str) -> int:
    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        info = cluster.follow(job, write)
    except KeyboardInterrupt:
        print(f"\n{job} goes on without you", flush=True)
        _say_how_to_go_on(job, cluster.address)
        return program.INTERRUPTED
    except jobs.ClusterError as error:
        program.warn(str(error))
        if not isinstance(error, jobs.UnknownJob):
            _say_how_to_go_on(job, cluster.address)
        return program.FAILED
    return _code(info)


def _code(info: Any) -> int:
    """The study's exit code; where the job ended without one, why."""
    ended = str(info.status)
    if ended == "STOPPED":
        program.warn("the job was stopped; the same submit goes on where it was")
        return program.INTERRUPTED
    code = info.driver_exit_code
    if ended == "SUCCEEDED":
        return program.DONE
    if code == NOT_FOUND:
        program.warn(
            "the head has no such Python: name the one of its environment with --python, as in ~/engram/.venv/bin/python"
        )
        return program.FAILED
    if code is None:
        program.warn(
            f"the job ended without running the study: {(info.message or '').strip()[:500]}"
        )
        return program.FAILED
    return int(code)


def _say_how_to_go_on(job: str, address: str) -> None:
    for what, option in (("follow", "--logs"), ("look", "--status"), ("stop it", "--stop")):
        print(f"  {what:8} {program.name()} submit {option} {job} --address {address}", flush=True)


def _print_status(cluster: jobs.Cluster, job: str, arguments: argparse.Namespace) -> int:
    info = cluster.info(job)
    about = info.metadata or {}
    code = info.driver_exit_code
    lines = {
        "job": job,
        "status": str(info.status).lower(),
        "study": about.get(NAME, ""),
        "owner": " on ".join(filter(None, (about.get(OWNER), about.get("engram.host")))),
        "started": _time(info.start_time),
        "ended": _time(info.end_time),
        "exit code": "" if code is None else str(code),
        "state": about.get("engram.home", ""),
        "message": (info.message or "").strip().splitlines()[0] if info.message else "",
    }
    said = [line for line in cluster.logs(job).splitlines() if line.startswith("trial ")]
    lines["last"] = said[-1] if said else ""
    for key, value in lines.items():
        if value:
            print(f"{key:10} {value}")
    return program.DONE


def _time(stamp_ms: int | None) -> str:
    if not stamp_ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamp_ms / 1000))


def _stop(cluster: jobs.Cluster, job: str, arguments: argparse.Namespace) -> int:
    info = cluster.info(job)
    whose = (info.metadata or {}).get(OWNER)
    if str(info.status) not in jobs.ENDED and whose != owner.owner():
        options.agreed("submit", f"stop {job}, which is {whose or 'nobody'}'s", arguments.yes)
    if str(info.status) in jobs.ENDED or not cluster.stop(job):
        print(f"{job} has ended already")
        return program.DONE
    print(f"{job} is stopping: finished trials are kept, running ones are saved", flush=True)
    deadline = time.monotonic() + STOP_S + 30
    while time.monotonic() < deadline:
        if str(cluster.info(job).status) in jobs.ENDED:
            print(f"{job} has stopped; the same submit goes on where it was")
            return program.DONE
        time.sleep(jobs.POLL_S)
    program.warn(
        f"{job} has not stopped yet; look again with {program.name()} submit --status {job}"
    )
    return program.FAILED
