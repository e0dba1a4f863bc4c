"""The GPUs of the nodes, before anything is trained: whether they can be used, and how many trials share one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engram.sweeps.cluster import capacity
from engram.sweeps.study.configuration import Study

ANSWER_S = 120.0  # a process starts and imports torch
CONTEXT_BYTES = 0.6 * 2**30  # that each process takes of a GPU's memory beside its tensors
USED = 0.9  # of what a GPU has, the estimate being one
MOST_TOGETHER = 8  # trials on one GPU


@dataclass(frozen=True)
class Answer:
    """What a node with GPUs said: bytes of its first GPU, or why it cannot be used."""

    host: str
    bytes: int = 0
    problem: str | None = None


def ask(share: float) -> dict[str, Answer]:
    """{node: what it said} of each node with a GPU; of one that is busy, 0 bytes. share: asked for."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) > 0]
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answer = _say.options(num_gpus=share, scheduling_strategy=there).remote()
        asked[answer] = node["NodeID"]
    if not asked:
        return {}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    found = {}
    for reference in late:  # others are on it: it is there, and what it has is not known
        ray.cancel(reference, force=True)
        found[asked[reference]] = Answer(asked[reference][:8])
    for reference in ready:
        with contextlib.suppress(ray.exceptions.RayError):  # it died: trials there will tell
            found[asked[reference]] = ray.get(reference)
    return found


def settled(study: Study, answers: dict[str, Answer], bytes_of_trial: Callable[[], float]) -> Study:
    """The study with a number for resources.gpu: auto. As many trials on a GPU as its memory holds by the estimate.

    bytes_of_trial(): what one trial takes; the smallest GPU decides, and the CPUs of its node.
    """
    resources = study.resources
    if resources.gpu != "auto":
        return study
    memory = [answer.bytes for answer in answers.values() if answer.problem is None]
    share = 0.0
    if memory and resources.device in ("auto", "cuda"):
        fit = USED * min(memory) / (bytes_of_trial() + CONTEXT_BYTES)
        together = max(1, min(MOST_TOGETHER, int(fit), capacity.cpus_per_gpu(resources.cpu)))
        share = math.floor(1e4 / together) / 1e4  # Ray counts in ten-thousandths
    return study.model_copy(update={"resources": resources.model_copy(update={"gpu": share})})


@ray.remote(num_cpus=0, max_calls=1)
def _say() -> Answer:
    import socket

    import torch

    from engram.models import device

    problem = device.cuda_problem()
    if problem is not None:
        return Answer(socket.gethostname(), 0, problem)
    return Answer(socket.gethostname(), torch.cuda.get_device_properties(0).total_memory)
