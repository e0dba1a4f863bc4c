"""A Keras model on its torch backend, compiled by its maker and trained by its own `fit`.

Of `training` it is told epochs, batch_size and, by name, lr, weight_decay and momentum. Images come with their
channels last, as Keras has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.models.config import TrainingConfig
from engram.models.families import ModelError
from engram.models.learners import scores
from engram.models.learners.task import Said, Task


def train(task: Task, thing: Any, given: dict[str, Any], training: TrainingConfig) -> Said:
    """Fit it; the model predicts."""
    import keras

    if keras.config.backend() != "torch":
        raise ModelError(
            f"Keras runs on {keras.config.backend()} here, and this project on torch: set KERAS_BACKEND=torch"
        )
    keras.utils.set_random_seed(task.seed)
    last = task.image and len(task.shape) == 3
    shape = (*task.shape[1:], task.shape[0]) if last else task.shape
    model = scores.made(thing, shape, task.outputs, scores.with_training(thing, given, training))
    if not getattr(model, "compiled", False):
        raise ModelError(
            "model.family: the Keras model is not compiled; call model.compile(optimizer, loss) before it is returned, "
            "or in __init__"
        )
    epochs = scores.epochs_of(training, len(task.train))

    def seen(inputs: Any) -> Any:
        return inputs.transpose(0, 2, 3, 1) if last else inputs

    def predict(inputs: Any) -> np.ndarray:
        found: np.ndarray = model.predict(seen(inputs), batch_size=training.batch_size, verbose=0)
        return found

    class Reporter(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if scores.due(training, epoch + 1, epochs):
                scores.report(task, epoch + 1, predict)

    model.fit(
        seen(task.train.inputs),
        task.train.targets,
        batch_size=training.batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=[Reporter()],
    )
    return Said(predict, parameters=model.count_params())


def built_with(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What it is called with."""
    return dict(given)


def checked(thing: Any, given: dict[str, Any], chosen: str | None) -> None:
    """Nothing: it is compiled once it is built, with the shape of the data."""
