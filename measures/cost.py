"""What training and prediction cost: multiplications from the parameter count, and time per example."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from engram.measures import arrays, intervals
from engram.measures.intervals import Interval


def forward_multiplications(parameters: int, examples: int = 1, uses: float = 1.0) -> float:
    """Multiply-adds to predict `examples`, biases counted as if they were weights.

    uses: how often one example uses each weight: 1 in dense layers, the output positions in convolutions,
    the time steps in recurrent cells (averaged over weights). Source: Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1."""
    for name, value in (("parameters", parameters), ("examples", examples), ("uses", uses)):
        if not value > 0:
            raise ValueError(f"{name} = {value}; it must be above 0")
    return float(parameters) * examples * uses


def training_flops(parameters: int, examples_seen: int, uses: float = 1.0) -> float:
    """Floating-point operations of training: 6 per parameter, use and example seen (epochs x train size).

    Two per multiply-add forward, four backward. Optimizer steps, activations and stacking are left out.
    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1: C ≈ 6·N·D."""
    return 6 * forward_multiplications(parameters, examples_seen, uses)


def throughput(seconds: Any, examples_seen: float, level: float = 0.95) -> Interval:
    """Examples per second over repeated runs: seconds [R] each for `examples_seen` -> Interval."""
    time = arrays.floats(seconds, "seconds", ndim=1)
    if time.min() <= 0:
        raise ValueError(f"seconds holds {time.min():g}; a duration is above 0")
    return intervals.t_interval(examples_seen / time, level)


def ratio(a: Any, b: Any, level: float = 0.95) -> Interval:
    """How many times a is b, as paired geometric mean: "random labels take 2.3 times as long to fit".

    a, b: [R], both above 0 (seconds, epochs, multiplications). The interval is not symmetric; `se` is that
    of the logarithm, about a relative error."""
    first, second = arrays.floats(a, "a", ndim=1), arrays.floats(b, "b", ndim=1)
    if min(first.min(), second.min()) <= 0:
        raise ValueError(
            f"a or b holds {min(first.min(), second.min()):g}; ratios need values above 0"
        )
    found = intervals.paired(np.log(first), np.log(second), level)
    mean, low, high = (math.exp(x) for x in (found.mean, found.low, found.high))
    return replace(found, mean=mean, low=low, high=high)
