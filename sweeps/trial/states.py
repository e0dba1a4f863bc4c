"""States of a trial by replica: part of one, and several put together, whoever trained them.

A state is what `Trial.state_dict` gives: a nest of dicts of tensors, arrays and plain values, [R, ...] or [E, R, ...].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]
# Where replicas are counted, by the first words of a place; of what is named nowhere, nothing is.
AXES = {
    ("trainer", "cohort"): 0,
    ("trainer", "diverged"): 0,
    ("trainer", "average"): 0,
    ("trainer", "best"): 0,
    ("trainer", "early_stopping"): 0,
    ("history", "diverged"): 1,
    ("history", "stopped"): 1,
    ("history", "error"): 1,
    ("history", "loss"): 1,
    ("watch",): 1,
}
OPTIMIZER, ATTRIBUTES = ("trainer", "optimizer"), ("trainer", "attributes")
TOLD = "told"  # of a learner: [R, reports], as many as its most talkative replica has


class Unjoinable(Exception):
    """Replicas that were not trained in the same steps, or are not of one kind."""


def replicas(state: State) -> int:
    return len(state["trainer"]["diverged"])


def size(state: State) -> int:
    """Bytes of its tensors and arrays."""
    if isinstance(state, dict):
        return sum(size(value) for value in state.values())
    return state.nbytes if isinstance(state, Tensor | np.ndarray) else 0


def part(state: State, first: int, stop: int) -> State:
    """The state of replicas [first, stop) of those that it has; nothing is copied."""
    return _part(state, slice(first, stop), replicas(state), ())


def _part(value: Any, kept: slice, count: int, place: tuple[str, ...]) -> Any:
    if place == ATTRIBUTES or (place == OPTIMIZER and _by_replica(value)):
        return {str(k): value[str(n)] for k, n in enumerate(range(count)[kept]) if str(n) in value}
    if isinstance(value, dict):
        return {name: _part(v, kept, count, (*place, str(name))) for name, v in value.items()}
    axis = _axis(place)
    if axis is None and place[:2] == OPTIMIZER and _stacked(value, count):
        axis = 0
    if axis is None or not isinstance(value, Tensor | np.ndarray):
        return value
    return value[kept] if axis == 0 else value[:, kept]


def joined(states: list[State], shortest: bool = False) -> State:
    """States of one training over other replicas, one after the other, as one; Unjoinable where they do not fit.

    Their seconds are added up, as where one process trains them. shortest: some went on after their cohort had stopped,
    with their best weights kept: what they were told of later is left out."""
    if len(states) == 1:
        return states[0]
    if shortest:
        states = _as_long(states)
    learned = "outputs/test" in states[0]["trainer"]["cohort"]
    for name in () if learned else ("step", "epoch"):
        first = states[0]["history"].get(name)
        if any(not _same(first, state["history"].get(name)) for state in states):
            raise Unjoinable(name)
    try:
        found: State = _joined(states, [replicas(state) for state in states], ())
    except (KeyError, RuntimeError, ValueError) as error:
        raise Unjoinable(str(error)) from error
    found["trainer"]["seconds"] = sum(state["trainer"]["seconds"] for state in states)
    if "seconds" in found["history"]:
        found["history"]["seconds"] = sum(state["history"]["seconds"] for state in states)
    if learned:
        found["trainer"]["step"] = sum(state["trainer"]["step"] for state in states)
    return found


def _as_long(states: list[State]) -> list[State]:
    """The same, with no more evaluations than the shortest has."""
    lengths = [len(state["history"].get("step", ())) for state in states]
    if len(set(lengths)) == 1:
        return states

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cut(each) for name, each in value.items()}
        return value[: min(lengths)]

    return [
        {name: cut(v) if name in ("history", "watch") else v for name, v in state.items()}
        for state in states
    ]


def _joined(values: list[Any], counts: list[int], place: tuple[str, ...]) -> Any:
    one = values[0]
    if place == ATTRIBUTES or (place == OPTIMIZER and _by_replica(one)):
        starts = np.cumsum([0, *counts])
        return {
            str(int(start) + int(name)): kept
            for start, value in zip(starts, values, strict=False)
            for name, kept in value.items()
        }
    if isinstance(one, dict):
        names = dict.fromkeys(name for value in values for name in value)
        if place != ("trainer", "cohort") and any(value.keys() != one.keys() for value in values):
            raise Unjoinable(".".join(place))
        each = {name: [value.get(name) for value in values] for name in names}
        return {
            n: _joined(_told(n, found, counts), counts, (*place, n)) for n, found in each.items()
        }
    axis = _axis(place)
    if axis is None and place[:2] == OPTIMIZER and _stacked(one, counts[0]):
        axis = 0
    if axis is None or not isinstance(one, Tensor | np.ndarray):
        return one
    return torch.cat(values, axis) if isinstance(one, Tensor) else np.concatenate(values, axis)


def _told(name: str, found: list[Any], counts: list[int]) -> list[Any]:
    """What replicas of a learner told, as wide in each as in the widest; of those that did not tell it, unknown."""
    if name.partition("/")[0] != TOLD:
        return found
    most = max(each.shape[1] for each in found if each is not None)
    wide = []
    for each, count in zip(found, counts, strict=True):
        whole = torch.full((count, most), math.nan, dtype=torch.float64)
        if each is not None:
            whole[:, : each.shape[1]] = each
        wide.append(whole)
    return wide


def _axis(place: tuple[str, ...]) -> int | None:
    return next((AXES[place[:n]] for n in (1, 2) if place[:n] in AXES), None)


def _by_replica(value: Any) -> bool:
    """Whether an optimizer's state is that of one optimizer for each replica: named by numbers alone."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(
            str(name).isdigit() and isinstance(v, dict) and "state" not in v
            for name, v in value.items()
        )
    )


def _stacked(value: Any, count: int) -> bool:
    """Whether a tensor of an optimizer has a row for each replica. Its count of steps has none."""
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == count


def _same(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
