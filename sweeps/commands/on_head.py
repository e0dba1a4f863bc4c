"""A command of Engram run on a cluster's head as a job, for what it says: its executions are the head's own.

The job's log is the only way back that a tunnel to the dashboard has, so what comes over it is marked and checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.cluster import jobs
from engram.sweeps.commands import options

# What the jobs that are started here are called. By name: Ray can write down once more, without its metadata, a job that is
# forgotten the moment it has ended.
QUESTION = "question-"
LARGEST_MIB = 512


def address(command: str, given: str | None) -> str:
    """The head's dashboard as it was typed, or RAY_API_SERVER_ADDRESS; StudyError where it is none."""
    found = given or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not found:
        fix = "give the head's dashboard, as in --address http://127.0.0.1:8265, or set RAY_API_SERVER_ADDRESS"
        raise StudyError([Problem(Place(command), "no cluster is named", fix)])
    wrong = jobs.problem_with(found)
    if wrong:
        raise StudyError([Problem(Place(command), *wrong, "--address", found)])
    return found.rstrip("/")


def path(text: str) -> str:
    """A path for a shell, whose ~ is the head's."""
    return f"~/{shlex.quote(text[2:])}" if text.startswith("~/") else shlex.quote(text)


def json_of(arguments: argparse.Namespace, *words: str) -> Any:
    """The JSON that a command prints on the head. options.Failed where it cannot be had."""
    return json.loads(_output(arguments, f"{_engram(arguments)} {shlex.join(words)}"))


def file_of(arguments: argparse.Namespace, target: Path, *words: str) -> None:
    """The file that a command writes there with --out, brought here. options.Failed where it cannot be had."""
    import hashlib
    import secrets
    from base64 import b64decode

    there = f"/tmp/engram-{secrets.token_hex(8)}"
    command = (
        f"{_engram(arguments)} {shlex.join([*words, '--out', there])} >&2 && "
        f"{{ test $(stat -c %s {there}) -le {LARGEST_MIB * 2**20} || "
        f"{{ echo 'it is larger than {LARGEST_MIB} MiB: copy it with scp' >&2; false; }}; }}"
    )
    read = f"base64 {there} && sha256sum {there} | cut -c-64"
    said = _output(arguments, f"( {command} ) && {read}; code=$?; rm -f {there}; (exit $code)")
    *lines, digest = said.split()
    content = b64decode("".join(lines))
    if hashlib.sha256(content).hexdigest() != digest:
        raise options.Failed("what came from the head is not what was sent: try again")
    target.write_bytes(content)


def _engram(arguments: argparse.Namespace) -> str:
    return f"{path(arguments.python)} -m engram"


def _output(arguments: argparse.Namespace, command: str) -> str:
    """What a command prints on the head."""
    import secrets
    import tempfile

    from engram.sweeps.cluster import bundle

    where = address(arguments.command, arguments.address)
    mark = secrets.token_hex(16)
    environment = {"ENGRAM_HOME": options.head_home(arguments), "PYTHONUNBUFFERED": "1"}
    try:
        cluster = jobs.Cluster(where)
        job = f"{QUESTION}{secrets.token_hex(6)}"
        with tempfile.TemporaryDirectory(prefix="engram-") as folder:
            bundle.pack(None, Path(folder))
            # What it says on standard error, a warning say, comes before the mark.
            told = (
                f"out=$(mktemp) && {{ ( {command} ) > $out; code=$?; echo {mark}; cat $out; "
                f"echo {mark}; rm -f $out; exit $code; }}"
            )
            cluster.start(job, told, Path(folder), environment, {})
        info = cluster.follow(job, lambda text: None)
        before, _, rest = cluster.logs(job).partition(f"{mark}\n")
        said, ended, _ = rest.partition(f"{mark}\n")
        cluster.forget(job)
    except jobs.ClusterError as error:
        raise options.Failed(str(error)) from None
    if str(info.status) != "SUCCEEDED" or not ended:
        why = (said or before or info.message or "").strip()[-2000:]
        raise options.Failed(f"{program.name()} on the head failed:\n{why}")
    return said
