"""The GPUs of the nodes, before anything is trained: whether they can be used, and how many trials share one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from engram.sweeps.cluster import capacity
from engram.sweeps.study.configuration import Configuration, Study

ANSWER_S = 120.0  # a process starts and imports torch
GIB = 2**30
BytesOf = Callable[[Configuration | None], float]  # of a trial, None: of the largest


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


class Sharing:
    """How many trials share a GPU where a study leaves that open: by an estimate, until a trial has told what it takes.

    study: the study with a number for resources.gpu. answers: of the nodes, as `ask` gives them; the smallest GPU
    decides, and the CPUs of its node.
    """

    def __init__(self, study: Study, answers: dict[str, Answer], bytes_of: BytesOf):
        known = [a.bytes for a in answers.values() if a.problem is None and a.bytes]
        self.bytes_of, self.smallest = bytes_of, min(known, default=0)
        self.open = study.resources.gpu == "auto"
        self.study = study
        if self.open:
            usable = any(a.problem is None for a in answers.values())
            on_gpus = usable and study.resources.device in ("auto", "cuda")
            self.study = self._with(self._share(bytes_of(None)) if on_gpus else 0.0)
            self.open = on_gpus and bool(self.smallest)

    @property
    def together(self) -> int:
        """Trials on each GPU at a time; 0: none is used."""
        share = capacity.share(self.study)
        return round(1 / share) if share else 0

    def told(self, configuration: Configuration, taken: int) -> str | None:
        """A trial has held so many bytes. What changes with the first to tell, in words; None where nothing does.

        Other trials are taken to differ from their estimates by the same factor."""
        if not self.open:
            return None
        self.open = False
        needed = self.bytes_of(None) * taken / max(1.0, self.bytes_of(configuration))
        before = self.together
        self.study = self._with(self._share(needed))
        if self.together == before:
            return None
        return f"measured: {needed / GIB:.2g} GiB of a GPU for the largest trial: {self.together} on each at a time"

    def _share(self, bytes_of_trial: float) -> float:
        from engram.models import memory  # torch, where there are GPUs

        fit = memory.trials_on(self.smallest, bytes_of_trial) if self.smallest else 1
        together = max(1, min(fit, capacity.cpus_per_gpu(self.study.resources.cpu)))
        return math.floor(1e4 / together) / 1e4  # Ray counts in ten-thousandths

    def _with(self, share: float) -> Study:
        resources = self.study.resources.model_copy(update={"gpu": share})
        return self.study.model_copy(update={"resources": resources})


@ray.remote(num_cpus=0, max_calls=1)
def _say() -> Answer:
    import socket

    import torch

    from engram.models import device

    problem = device.cuda_problem()
    if problem is not None:
        return Answer(socket.gethostname(), 0, problem)
    return Answer(socket.gethostname(), torch.cuda.get_device_properties(0).total_memory)
