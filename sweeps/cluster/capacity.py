"""The nodes that trials run on: how many fit, whether any will, and which were lost."""

from __future__ import annotations

import math
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ray

from engram.problems import Problem
from engram.sweeps.cluster.autoscaler import node_groups
from engram.sweeps.cluster.health import Health
from engram.sweeps.study.configuration import Study

# Set by an autoscaler on the nodes that it starts.
NODE_GROUP = "ray.io/node-group"
NEWS_S = 5.0  # a worker may die so long before its node
RECENT_S = 60.0  # a lost node is news for so long
ANSWER_S = 2.0


def trials_at_once(study: Study, health: Health | None = None) -> int:
    """Trials to ask for at the same time: as many as fit where nothing is set aside, or as the study says.

    Of a cluster that can grow, as many again: an autoscaler adds nodes for what waits.
    """
    if study.resources.concurrent != "auto":
        return int(study.resources.concurrent)
    now = max(1, workers_at_once(study, health) // workers(study))
    return 2 * now if _grows() else now


def workers_at_once(study: Study, health: Health | None = None) -> int:
    """Workers that fit where nothing is set aside: a trial takes one or several."""
    return sum(_fit(study, resources) for resources in _sound(health or Health()))


def workers(study: Study) -> int:
    """Workers of a trial, once `auto` has become a number."""
    found = study.resources.workers
    if found == "auto":
        raise ValueError(
            "resources.workers is still auto: it is settled before anything is planned"
        )
    return found


def _sound(health: Health) -> Iterator[dict[str, float]]:
    """Resources of the nodes that are there, without what is set aside."""
    bad = Counter(spot.node for spot in health.aside)
    for node in _nodes():
        if bad and node["NodeID"] in health.nodes_aside:
            continue
        there = node["Resources"]
        lost = bad[node["NodeID"]] if bad else 0
        yield {**there, "GPU": there.get("GPU", 0.0) - lost} if lost else there


def avoidable(study: Study, unwanted: set[str], never: set[str]) -> list[str]:
    """Nodes for a trial to stay away from: those it would rather not have, and those that are set aside.

    Nothing of this where no other node could ever take it.
    """
    there = {node["NodeID"]: node["Resources"] for node in _nodes()}
    for nodes in (unwanted | never, never):
        left = [resources for node, resources in there.items() if node not in nodes]
        if sum(_fit(study, resources) for resources in left) >= workers(study):
            return sorted(nodes & there.keys())
    return []


def no_room(study: Study) -> Problem | None:
    """What to tell where no node has room for a trial, and none will come; None where trials can run."""
    if any(_fit(study, resources) for resources in node_groups()):
        return None  # as many nodes as it takes
    fit, several = workers_at_once(study), workers(study)
    if fit >= several:
        return None
    if fit:
        rule = (
            f"asks for more than fit: {fit} at {wanted(study)}, and the cluster has {described()}"
        )
        fix = f"ask for {fit}, or auto: as many as have room"
        return Problem(study.place("resources.workers"), rule, fix, "resources.workers", several)
    if _grows() and not node_groups():
        return None  # it grows, and nobody knows by what
    gpu, cpu = share(study), study.resources.cpu
    key = "resources.gpu" if gpu and not _most("GPU") >= min(gpu, 1) else "resources.cpu"
    rule = f"fits on no node: a trial takes {wanted(study)}, and the cluster has {described()}"
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


def cpus_per_gpu(cpu: float) -> int:
    """Trials of so many CPUs that the CPUs of a node hold for each of its GPUs, where those are fewest."""
    with_gpus = [r for r in (node["Resources"] for node in _nodes()) if r.get("GPU", 0) > 0]
    each = [r.get("CPU", 0.0) / r["GPU"] / cpu for r in with_gpus]
    return max(1, int(min(each, default=1.0) + 1e-6))


def amount(cpu: float, gpu: float) -> str:
    """CPUs and GPUs in words: `8 CPUs and 1 GPU`."""
    return f"{cpu:g} CPU{'' if cpu == 1 else 's'} and {gpu:g} GPU{'' if gpu == 1 else 's'}"


def wanted(study: Study) -> str:
    """What a trial takes, in words: `1 CPU and 0 GPUs`, of each worker where there are several."""
    each = amount(study.resources.cpu, share(study))
    return each if workers(study) == 1 else f"{each} for each of its {workers(study)} workers"


def described() -> str:
    """The nodes of the cluster in words: `1 node with 2 CPUs and 0 GPUs, 3 nodes with 8 CPUs and 1 GPU`."""
    kinds = Counter(
        (node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in _nodes()
    )
    words = [
        f"{count} node{'s' if count > 1 else ''} with {amount(cpu, gpu)}"
        for (cpu, gpu), count in sorted(kinds.items())
    ]
    more = [amount(r.get("CPU", 0), r.get("GPU", 0)) for r in node_groups()]
    grow = f"; it can add nodes with {' or '.join(sorted(set(more)))}" if more else ""
    return (", ".join(words) or "no node") + grow


def share(study: Study) -> float:
    """GPUs that a trial takes, once `auto` has become a number (gpus.Sharing)."""
    gpu = study.resources.gpu
    if gpu == "auto":
        raise ValueError("resources.gpu is still auto: it is settled before anything is planned")
    return gpu


def _fit(study: Study, resources: dict[str, float]) -> int:
    """Trials that fit on a node with these resources. A fraction of a GPU is of one GPU."""
    cpu, gpu = study.resources.cpu, share(study)
    fits = int(resources.get("CPU", 0.0) / cpu + 1e-6)
    if gpu:
        there = int(resources.get("GPU", 0.0))
        fits = min(fits, there * int(1 / gpu + 1e-6) if gpu < 1 else int(there / gpu + 1e-6))
    return fits


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _possible() -> list[dict[str, float]]:
    """Resources of the nodes that are there, and of those that an autoscaler may add."""
    return [node["Resources"] for node in _nodes()] + node_groups()


def _most(kind: str) -> float:
    return max((resources.get(kind, 0.0) for resources in _possible()), default=0.0)


def _grows() -> bool:
    return bool(node_groups()) or any(node.get("Labels", {}).get(NODE_GROUP) for node in _nodes())
