"""The Ray that trials run on: our own on this machine, which nobody else can reach, or a cluster at an address."""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # stopping has its own, for SIGTERM too
os.environ.setdefault(
    "TUNE_DISABLE_STRICT_METRIC_CHECKING", "1"
)  # a trial that failed has no metrics
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # nobody restores from Tune's snapshots
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

import ray
from ray._private import ray_constants
from ray._private.node import Node

from sweeps.definition.configuration import Study
from sweeps.definition.problems import Place, Problem, StudyError
from sweeps.running import parcel

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ray's word for "this machine alone": all of its ports are then bound to loopback.
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


# Set by an autoscaler on the nodes that it starts.
NODE_GROUP = "ray.io/node-group"
NEWS_S = 5.0  # a worker may die so long before its node
RECENT_S = 60.0  # a lost node is news for so long
ANSWER_S = 2.0
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


@contextmanager
def connected(address: str | None, study: Study) -> Iterator[None]:
    """A Ray of our own, on loopback, or the cluster at address (or RAY_ADDRESS, as Ray sets it in a job)."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Workers import Engram and the user's code.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only, without the jobs API
        os.environ[LOOPBACK] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = (
            False  # the same for this process, where Ray has read it already
        )
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        address = "local"  # never a cluster that happens to run here
    elif address.startswith(("ray://", "http://", "https://")):
        rule = "is not the address of a node: a study's driver runs on one, beside its ledger"
        fix = "on a node, give HOST:PORT of the head; from elsewhere: python orchestrate.py submit"
        raise StudyError([Problem(Place("run"), rule, fix, "--address", address)])
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    with tempfile.TemporaryDirectory(prefix="engram-") as folder:
        if address != "local" and IN_A_JOB not in os.environ:
            # The other nodes share no file system with this one: the code goes to them.
            parcel.pack(study, Path(folder))
            options["runtime_env"] = {"working_dir": folder}
        with contextlib.nullcontext() if address != "local" else _few_processes():
            ray.init(address=address, **options)
    # Ray has put its own in place: handlers that end the process at once, and a log of its own.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger("ray").handlers = logging.getLogger("sweeps").handlers
    # It misses files of Tune's own, a line for each trial: ours are the ledger.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
    try:
        yield
    finally:
        # A reference to an object that goes while Ray shuts down, in whatever thread, ends the process:
        # those that only cycles hold, as Tune's do, go now.
        gc.collect()
        ray.shutdown()


@contextmanager
def _few_processes() -> Iterator[None]:
    """Let Ray start without its processes that one machine has no use for.

    The autoscaler takes a second to end, the API server one until it answers, and what workers print is not wanted.
    """
    needless = ("start_monitor", "start_api_server", "start_log_monitor")
    originals = {name: getattr(Node, name) for name in needless}
    for name in needless:
        setattr(Node, name, lambda self, **options: None)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(Node, name, original)


def capacity(study: Study) -> int:
    """Trials to ask for at the same time: as many as fit, or as the study says.

    Of a cluster that can grow, as many again: an autoscaler adds nodes for what waits.
    """
    if study.resources.concurrent != "auto":
        return int(study.resources.concurrent)
    now = max(1, sum(_fit(study, node["Resources"]) for node in _nodes()))
    return 2 * now if _grows() else now


def no_room(study: Study) -> Problem | None:
    """What to tell where no node has room for a trial, and none will come; None where trials can run."""
    if any(_fit(study, resources) for resources in _possible()):
        return None
    if _grows() and not _groups():
        return None  # it grows, and nobody knows by what
    gpu, cpu = study.resources.gpu, study.resources.cpu
    key = "resources.gpu" if gpu and not _most("GPU") >= min(gpu, 1) else "resources.cpu"
    rule = f"fits on no node: a trial takes {cpu:g} CPUs and {gpu:g} GPUs, and the cluster has {described()}"
    fix = "ask for less, as in --set resources.gpu=0.5, or add a node that has as much"
    return Problem(study.place(key), rule, fix, key, gpu if key == "resources.gpu" else cpu)


class Losses:
    """Nodes that were lost while we look.

    Ray tells of a worker's death at once, of its node's only when that has been silent for a while (15 s
    and more): so we ask each node ourselves.
    """

    def __init__(self) -> None:
        self._seen = {node["NodeID"]: -math.inf for node in ray.nodes() if not node["Alive"]}

    def recent(self) -> bool:
        """Whether a node was lost in the last minute; waits a little for that news where there are several."""
        deadline = time.monotonic() + NEWS_S
        while True:
            now, nodes = time.monotonic(), ray.nodes()
            for node in nodes:
                if node["NodeID"] not in self._seen and not (node["Alive"] and _answers(node)):
                    self._seen[node["NodeID"]] = now
            if any(now - seen < RECENT_S for seen in self._seen.values()):
                return True
            if len(nodes) == 1 or now > deadline:
                return False
            time.sleep(0.5)


def _answers(node: dict[str, Any]) -> bool:
    """Whether anybody listens where the node's manager should."""
    try:
        place = node["NodeManagerAddress"], node["NodeManagerPort"]
        socket.create_connection(place, timeout=ANSWER_S).close()
    except OSError:
        return False
    return True


def described() -> str:
    """The nodes of the cluster in words: `1 node with 2 CPUs and 0 GPUs, 3 nodes with 8 CPUs and 1 GPUs`."""
    kinds = Counter(
        (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in _nodes()
    )
    words = [
        f"{count} node{'s' if count > 1 else ''} with {cpu:g} CPUs and {gpu:g} GPUs"
        for (cpu, gpu), count in sorted(kinds.items())
    ]
    more = [f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in _groups()]
    grow = f"; it can add nodes with {' or '.join(sorted(set(more)))}" if more else ""
    return (", ".join(words) or "no node") + grow


def _fit(study: Study, resources: dict[str, float]) -> int:
    """Trials that fit on a node with these resources. A fraction of a GPU is of one GPU."""
    cpu, gpu = study.resources.cpu, study.resources.gpu
    fits = int(resources.get("CPU", 0.0) / cpu + 1e-6)
    if gpu:
        there = int(resources.get("GPU", 0.0))
        fits = min(fits, there * int(1 / gpu + 1e-6) if gpu < 1 else int(there / gpu + 1e-6))
    return fits


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _possible() -> list[dict[str, float]]:
    """Resources of the nodes that are there, and of those that an autoscaler may add."""
    return [node["Resources"] for node in _nodes()] + _groups()


def _most(kind: str) -> float:
    return max((resources.get(kind, 0.0) for resources in _possible()), default=0.0)


def _groups() -> list[dict[str, float]]:
    """Resources of each kind of node that the cluster's autoscaler has told of; [] where it has not."""
    from ray._private.state import state

    config = state.get_cluster_config()
    groups = [] if config is None else config.node_group_configs
    return [dict(group.resources) for group in groups if group.max_count]


def _grows() -> bool:
    return bool(_groups()) or any(node.get("Labels", {}).get(NODE_GROUP) for node in _nodes())
