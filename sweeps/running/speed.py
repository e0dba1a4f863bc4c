"""How long a training step takes where a study would run: from a few steps there, or, of a GPU that is not here, by a model."""

from __future__ import annotations

import math
import time
from typing import Literal

from engram.data.dataset import Facts
from engram.models import families
from engram.models.families import Way
from engram.sweeps.study.configuration import Configuration, Study

Where = Literal["cpu", "gpu", "model"]

# A model of a GPU that nobody has measured: rough figures, stated wherever they are used.
OPERATION_S = 1e-5  # to start one on a GPU, which small networks wait for
OPERATIONS_A_LAYER = 20  # forward, backward and optimizer, as tests/gpu counts them; in a recurrent layer, at each time
GPU_FLOPS_PER_SECOND = 2e12
MODEL = f"a model, since there is no GPU here: {1e6 * OPERATION_S:g} µs an operation, {GPU_FLOPS_PER_SECOND:.0e} FLOP/s"


def where(study: Study) -> Where:
    """What a study's steps can be timed on here: a CPU, a GPU, or only a model of the GPU that it asks for."""
    import torch

    from engram.models import device

    resources = study.resources
    if resources.gpu == 0 or resources.device in ("cpu", "mps"):
        return "cpu"
    if torch.cuda.is_available() and device.cuda_problem() is None:
        return "gpu"
    return "cpu" if resources.gpu == "auto" and resources.device == "auto" else "model"


def step_s(configuration: Configuration, facts: Facts, stack: int, how: Way, where: Where) -> float:
    """Seconds of one step of all replicas, `stack` of them in a pass."""
    if where == "model":
        return _modelled_s(configuration, facts, stack)
    import torch

    from engram.models.probe import seconds_per_step

    return seconds_per_step(
        configuration.model,
        configuration.training,
        configuration.replicas.count,
        configuration.data.train_size,
        facts.shape,
        facts.outputs,
        values=facts.classes is None,
        image=facts.kind == "image",
        stack=stack,
        how=how,
        device=torch.device("cuda" if where == "gpu" else "cpu"),
        clock=time.perf_counter,
        tokens=facts.tokens,
    )


def _modelled_s(configuration: Configuration, facts: Facts, stack: int) -> float:
    """The longer of starting a step's operations and of calculating them."""
    model, count = configuration.model, configuration.replicas.count
    own = families.is_own(model.family)
    times = facts.shape[0] if not own and families.family(model.family).over_time else 1
    passes = math.ceil(count / stack)
    operations = passes * OPERATIONS_A_LAYER * (model.depth + 2) * times
    weights = model.width * (math.prod(facts.shape) + model.depth * model.width)
    uses = families.uses(model.family, facts.shape)
    flops = 6.0 * weights * uses * count * configuration.training.step_size
    return max(operations * OPERATION_S, flops / GPU_FLOPS_PER_SECOND)
