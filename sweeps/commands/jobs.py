"""`jobs`: what runs on a cluster, whose it is, since when, and how far it has come."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from engram import program
from engram.sweeps.commands import options

SUMMARY = "say what runs on a cluster: whose it is, since when, how far"
MORE = "Jobs of `submit`; others are listed by their names alone."
EXAMPLE = "jobs --address http://127.0.0.1:8265 --running"
HEADER = ("job", "name", "owner", "from", "status", "started", "ended", "code", "progress")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        metavar="URL",
        help="dashboard of the cluster's head; RAY_API_SERVER_ADDRESS without it",
    )
    parser.add_argument("--running", action="store_true", help="only those that have not ended")
    options.add_format(parser, ("table", "json"))


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.cluster import jobs
    from engram.sweeps.commands import on_head

    where = on_head.address("jobs", arguments.address)
    try:
        cluster = jobs.Cluster(where)
        found = [
            _row(cluster, info)
            for info in cluster.list()
            if not (info.submission_id or "").startswith(on_head.QUESTION)
            and not (arguments.running and str(info.status) in jobs.ENDED)
        ]
    except jobs.ClusterError as error:
        raise options.Failed(str(error)) from None
    if arguments.format == "json":
        print(json.dumps(found, indent=1))
        return program.DONE
    rows = [HEADER, *([str(row[name] or "") for name in HEADER] for row in found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    return program.DONE


def _row(cluster: Any, info: Any) -> dict[str, Any]:
    about = info.metadata or {}
    job = info.submission_id or info.job_id
    return {
        "job": job,
        "name": about.get("engram.name", ""),
        "owner": about.get("engram.owner", ""),
        "from": about.get("engram.host", ""),
        "status": str(info.status).lower(),
        "started": _moment(info.start_time),
        "ended": _moment(info.end_time),
        "code": info.driver_exit_code,
        "progress": _progress(cluster, job) if "engram.name" in about else "",
    }


def _progress(cluster: Any, job: str) -> str:
    """How many trials have ended, of how many, by what the job has said."""
    import re

    said = cluster.logs(job)
    planned = re.search(r"^(\d+) trials x \d+ replicas(?:, (\d+) finished before)?", said, re.M)
    ended = len(re.findall(r"^trial ", said, re.M)) + int(planned[2] or 0 if planned else 0)
    return f"{ended} of {planned[1] if planned else '?'} trials"


def _moment(stamp_ms: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(stamp_ms / 1000)) if stamp_ms else ""
