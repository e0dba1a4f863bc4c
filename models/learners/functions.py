"""A person's training function, called as `train(task)`; what it returns predicts."""

from __future__ import annotations

from typing import Any

from engram.models.families import ModelError
from engram.models.learners.task import Task


def train(task: Task, thing: Any, given: dict[str, Any], training: Any) -> Any:
    """What the function returns."""
    found = thing(task)
    if found is None:
        raise ModelError(
            "the training function returns nothing: return what predicts, a function of inputs, a torch module, or "
            "an object with predict"
        )
    return found


def built_with(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The options that it finds in task.options."""
    return dict(given)


def checked(thing: Any, given: dict[str, Any], chosen: str | None) -> None:
    """Nothing: only a call would tell, and that may take hours."""
