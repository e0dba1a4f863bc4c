"""Error and loss of what was predicted, and the learning curves of those who train epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from engram.models.config import TrainingConfig
from engram.models.learners import answers
from engram.models.learners.task import Rows, Task


def score(outputs: np.ndarray, targets: np.ndarray, classification: bool) -> tuple[float, float]:
    """(share of wrong classes or labels, cross-entropy in nats), or the mean squared error twice.

    outputs: [N, C] logarithms of probabilities with labels [N], or values [N, K] with [N, K], or logits [N, L] with
    bool [N, L]."""
    if targets.dtype == np.bool_:
        loss = np.logaddexp(0, np.where(targets, -outputs, outputs)).mean()
        return float(((outputs > 0) != targets).mean()), float(loss)
    if not classification:
        square = np.square(outputs - targets.reshape(outputs.shape)).mean()
        return float(square), float(square)
    right = outputs[np.arange(len(targets)), targets]
    return float((outputs.argmax(1) != targets).mean()), float(-right.mean())


def report(task: Task, epoch: int, predictor: Any) -> None:
    """Tell error and loss on the task's training and validation rows after an epoch."""
    found: dict[str, float] = {}
    for name, rows in (("train", task.train), ("validation", task.validation)):
        if rows:
            error, loss = score(
                _outputs(task, predictor, rows), rows.targets, task.classes is not None
            )
            found |= {f"{name}_error": error, f"{name}_loss": loss}
    task.report(epoch, **found)


def _outputs(task: Task, predictor: Any, rows: Rows) -> np.ndarray:
    raw = answers.ask(predictor, rows.inputs, task.classes is not None or task.labels)
    if task.labels:
        return answers.label_logits(raw, task.outputs, answers.gives_labels([raw], task.outputs))
    if task.classes is None:
        return answers.values(raw, task.outputs)
    return answers.log_probabilities(raw, task.classes, answers.gives([raw], task.classes))


def due(training: TrainingConfig, epoch: int, epochs: int) -> bool:
    """Whether an epoch, counted from 1, is one to report: the last one, and about twenty in all."""
    every = training.evaluate_every or max(1, round(epochs / 20))
    return epoch == epochs or epoch % every == 0


def epochs_of(training: TrainingConfig, examples: int) -> int:
    """Passes over the examples, the last one begun included where steps are counted."""
    if training.steps is None:
        return training.epochs
    return math.ceil(training.steps / math.ceil(examples / training.step_size))


def with_training(
    thing: Callable[..., Any], given: dict[str, Any], training: TrainingConfig
) -> dict[str, Any]:
    """What a class is called with, lr, weight_decay and momentum of `training` among it where it takes and the
    study says them."""
    import inspect

    names = inspect.signature(thing).parameters
    said: dict[str, Any] = {
        name: getattr(training, name)
        for name in ("lr", "weight_decay", "momentum")
        if name in names and name in training.model_fields_set
    }
    return {**said, **given}


def made(thing: Callable[..., Any], shape: Any, outputs: int, given: dict[str, Any]) -> Any:
    """A model: called with shape and outputs where it names them first, and with what the study says."""
    import inspect

    names = [n for n in inspect.signature(thing).parameters if n not in given]
    lead = (shape, outputs) if names[:2] == ["shape", "outputs"] else ()
    return thing(*lead, **given)
