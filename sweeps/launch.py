"""Sends a study to a cluster as a Ray job, and follows it: checked here first, run there.

The job is `orchestrate.py run` on the head, in a copy of this code. What follows it may come and go:
the job does not notice.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweeps import study as studies
from sweeps.definition.configuration import Study
from sweeps.definition.problems import Place, Problem, StudyError
from sweeps.definition.sections import Values
from sweeps.definition.values import study_name
from sweeps.running import jobs, live, parcel
from sweeps.running.hidden import Hidden

DONE, FAILED, INTERRUPTED = 0, 1, 130
HOME = "~/engram-runs"
NOT_FOUND = 127
STOP_S = 120  # a driver that is asked to stop may take this long to save what is running
SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET", "KEY", "CREDENTIAL")
FILES = ("npz:", "csv:", "parquet:", "idx:")
NAME = "engram.name"
PROGRAM = "python orchestrate.py submit"


@dataclass(frozen=True)
class Options:
    """How a study runs there. home: state folder on the head; python: the interpreter of its
    environment; variables: NAME=value; secrets: a file on the head with NAME=value lines."""

    name: str | None = None
    home: str = HOME
    python: str = "python"
    variables: Sequence[str] = ()
    secrets: str | None = None
    job: str | None = None
    detach: bool = False


def submit(
    path: str, overrides: Sequence[str], small: bool, address: str | None, options: Options
) -> int:
    """Check a study, send it, and follow it to its end; returns the study's exit code, or 0 where detached."""
    where = _address(address)
    study = _checked(path, overrides, small)
    name = options.name or study.name
    _check(study, name, overrides, options)
    try:
        cluster = jobs.Cluster(where)
        busy = cluster.running(NAME, name)
        if busy is not None:
            raise jobs.ClusterError(
                f"{name} runs already, as {busy}; to follow it: {PROGRAM} --logs {busy} --address {where}"
            )
        job = options.job or f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        with tempfile.TemporaryDirectory(prefix="engram-") as folder:
            size = parcel.pack(study, Path(folder))
            print(f"{name}: sending {parcel.shown_size(size)} to {where}", flush=True)
            cluster.start(
                job,
                _command(name, overrides, small, options),
                Path(folder),
                _environment(options),
                {NAME: name, "engram.study": study.name, "engram.home": options.home},
            )
    except jobs.ClusterError as error:
        live.warn(str(error))
        return FAILED
    print(f"job {job}", flush=True)
    if options.detach:
        _say_how_to_go_on(job, where)
        return DONE
    return _follow(cluster, job)


def status(job: str, address: str | None) -> int:
    """Print what a job is doing: one line each of job, status, times and exit code."""
    return _with(address, lambda cluster: _print_status(cluster, job))


def logs(job: str, address: str | None) -> int:
    """Print what a job has said and follow it to its end; returns the study's exit code."""
    return _with(address, lambda cluster: _follow(cluster, job))


def stop(job: str, address: str | None) -> int:
    """Ask a job to stop: what is finished is kept, running trials are saved, and a new `submit` goes on."""
    return _with(address, lambda cluster: _stop(cluster, job))


# -- before anything is sent ------------------------------------------------------------------------


def _address(address: str | None) -> str:
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not found:
        fix = "give the head's dashboard, as in --address http://127.0.0.1:8265, or set RAY_API_SERVER_ADDRESS"
        raise StudyError([Problem(Place("submit"), "no cluster is named", fix)])
    wrong = jobs.problem_with(found)
    if wrong:
        raise StudyError([Problem(Place("submit"), *wrong, "--address", found)])
    return found.rstrip("/")


def _checked(path: str, overrides: Sequence[str], small: bool) -> Study:
    """The study with all that can be known of it here; files of data are looked at where they are."""
    study = studies.load(path, overrides, small=small)
    files = [name for name in _datasets(study) if name.startswith(FILES)]
    relative = [name for name in files if not Path(name.partition(":")[2]).is_absolute()]
    if relative:
        rule = "is a file of this machine, and data does not travel with a study"
        fix = "put it where the head can read it, and write that absolute path"
        raise StudyError(
            [Problem(study.place("data.name", n), rule, fix, "data.name", n) for n in relative]
        )
    return study if files else studies.load(path, overrides, small=small, data=True)


def _datasets(study: Study) -> list[str]:
    axis = study.sweep.get("data.name")
    return [study.data.name, *(map(str, axis.values) if isinstance(axis, Values) else ())]


def _check(study: Study, name: str, overrides: Sequence[str], options: Options) -> None:
    """Refuse what would put a secret where others can read it, and names that cannot be."""
    problems = []
    place = Place("submit")
    wrong = study_name(name)
    if wrong:
        problems.append(Problem(place, *wrong, "--name", name))
    by_reference = "write it into a file on the head and name that with --secrets"
    if urlsplit(study.tracking.uri or "").password:
        rule = "holds a password, which would travel with the study"
        fix = f"leave user and password out; {by_reference}: MLFLOW_TRACKING_USERNAME=..., MLFLOW_TRACKING_PASSWORD=..."
        problems.append(Problem(study.place("tracking.uri", study.tracking.uri), rule, fix))
    hidden = Hidden(study)
    for option in overrides:
        if not problems and hidden.text(option) != option:
            rule = f"--set {option.partition('=')[0]} holds a secret, which the list of jobs would show"
            problems.append(Problem(place, rule, "write it into the study file"))
    for variable in options.variables:
        key, equals, _ = variable.partition("=")
        if not equals or not key.isidentifier():
            fix = "write NAME=value"
            problems.append(Problem(place, "is no variable", fix, "--env", variable))
        elif any(word in key.upper() for word in SECRET_WORDS):
            rule = f"--env {key} looks like a secret, which the list of jobs would show"
            problems.append(Problem(place, rule, by_reference))
    if not options.home.startswith(("/", "~/")):
        rule = "is no absolute path, and a job has no folder of its own that stays"
        problems.append(Problem(place, rule, f"write one, as in {HOME}", "--home", options.home))
    if problems:
        raise StudyError(problems)


def _command(name: str, overrides: Sequence[str], small: bool, options: Options) -> str:
    words = ["orchestrate.py", "run", parcel.STUDY, "--name", name]
    words += ["--small"] if small else []
    for option in overrides:
        words += ["--set", option]
    command = f"{_path(options.python)} {shlex.join(words)}"
    if options.secrets is None:
        return command
    # Read on the head, when the job starts: nothing of it is in the job's description.
    return f"set -a && . {_path(options.secrets)} && set +a && exec {command}"


def _path(path: str) -> str:
    """A path for a shell, whose ~ is the head's."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def _environment(options: Options) -> dict[str, str]:
    given = dict(variable.split("=", 1) for variable in options.variables)
    return {
        "ENGRAM_HOME": options.home,
        "PYTHONUNBUFFERED": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
        **given,
    }


# -- while it runs ----------------------------------------------------------------------------------


def _with(address: str | None, act: Any) -> int:
    where = _address(address)
    try:
        return act(jobs.Cluster(where))
    except jobs.ClusterError as error:
        live.warn(str(error))
        return FAILED


def _follow(cluster: jobs.Cluster, job: str) -> int:
    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        info = cluster.follow(job, write)
    except KeyboardInterrupt:
        print(f"\n{job} goes on without you", flush=True)
        _say_how_to_go_on(job, cluster.address)
        return INTERRUPTED
    except jobs.ClusterError as error:
        live.warn(str(error))
        if not isinstance(error, jobs.UnknownJob):
            _say_how_to_go_on(job, cluster.address)
        return FAILED
    return _code(info)


def _code(info: Any) -> int:
    """The study's exit code; where the job ended without one, why."""
    ended = str(info.status)
    if ended == "STOPPED":
        live.warn("the job was stopped; the same submit goes on where it was")
        return INTERRUPTED
    code = info.driver_exit_code
    if ended == "SUCCEEDED":
        return DONE
    if code == NOT_FOUND:
        live.warn(
            "the head has no such Python: name the one of its environment with --python, as in ~/engram/.venv/bin/python"
        )
        return FAILED
    if code is None:
        live.warn(f"the job ended without running the study: {(info.message or '').strip()[:500]}")
        return FAILED
    return int(code)


def _say_how_to_go_on(job: str, address: str) -> None:
    for what, option in (("follow", "--logs"), ("look", "--status"), ("stop it", "--stop")):
        print(f"  {what:8} {PROGRAM} {option} {job} --address {address}", flush=True)


def _print_status(cluster: jobs.Cluster, job: str) -> int:
    info = cluster.info(job)
    about = info.metadata or {}
    code = info.driver_exit_code
    lines = {
        "job": job,
        "status": str(info.status).lower(),
        "study": about.get(NAME, ""),
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
    return DONE


def _time(stamp_ms: int | None) -> str:
    if not stamp_ms:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamp_ms / 1000))


def _stop(cluster: jobs.Cluster, job: str) -> int:
    if str(cluster.info(job).status) in jobs.ENDED or not cluster.stop(job):
        print(f"{job} has ended already")
        return DONE
    print(f"{job} is stopping: finished trials are kept, running ones are saved", flush=True)
    deadline = time.monotonic() + STOP_S + 30
    while time.monotonic() < deadline:
        if str(cluster.info(job).status) in jobs.ENDED:
            print(f"{job} has stopped; the same submit goes on where it was")
            return DONE
        time.sleep(jobs.POLL_S)
    live.warn(f"{job} has not stopped yet; look again with {PROGRAM} --status {job}")
    return FAILED
