"""A LightningModule, trained by Lightning's own Trainer: its step, loss, optimizers and schedule are its own.

Of `training` it is told epochs or steps, batch_size, accumulate, clip and precision. `forward` predicts.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from engram.models.config import TrainingConfig
from engram.models.families import ModelError
from engram.models.learners import scores
from engram.models.learners.task import Rows, Said, Task
from engram.models.several import to_torch


def train(task: Task, thing: Any, given: dict[str, Any], training: TrainingConfig) -> Said:
    """Fit it; returns the module, in eval mode."""
    lightning = _package(thing)
    module = scores.made(
        thing, task.shape, task.outputs, scores.with_training(thing, given, training)
    )
    epochs = scores.epochs_of(training, len(task.train))
    logging.getLogger(lightning.__name__).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of workers for a loader whose rows are in memory, and the like
        trainer = lightning.Trainer(
            max_epochs=epochs,
            max_steps=training.steps or -1,
            accelerator="gpu" if task.device == "cuda" else "cpu",
            devices=1,
            accumulate_grad_batches=training.accumulate,
            gradient_clip_val=training.clip,
            precision="bf16-mixed" if training.precision == "bfloat16" else "32-true",
            default_root_dir=str(task.folder),
            callbacks=[_reporter(lightning, task, training, epochs)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        order = torch.Generator().manual_seed(task.seed)
        loaders = [
            DataLoader(_Pairs(task.train), training.batch_size, shuffle=True, generator=order)
        ]
        if task.validation and _overrides(lightning, thing, "validation_step"):
            loaders.append(DataLoader(_Pairs(task.validation), training.batch_size))
        trainer.fit(module, *loaders)
    count = sum(p.numel() for p in module.parameters())
    return Said(module.to(task.device).eval(), parameters=count)


def _package(thing: Any) -> Any:
    """`lightning.pytorch` or `pytorch_lightning`, whichever the class derives from."""
    base = next(c for c in _class(thing).__mro__ if c.__name__ == "LightningModule")
    name = base.__module__.partition(".")[0]
    return importlib.import_module("lightning.pytorch" if name == "lightning" else name)


def _class(thing: Any) -> type:
    import inspect
    import typing

    return thing if inspect.isclass(thing) else typing.get_type_hints(thing)["return"]


def _overrides(lightning: Any, thing: Any, name: str) -> bool:
    return getattr(_class(thing), name) is not getattr(lightning.LightningModule, name)


def _reporter(lightning: Any, task: Task, training: TrainingConfig, epochs: int) -> Any:
    class Reporter(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epoch = trainer.current_epoch + 1
            if scores.due(training, epoch, epochs):
                scores.report(task, epoch, pl_module)
                pl_module.train()

    return Reporter()


class _Pairs(Dataset):
    """Pairs of an example's inputs (several: by their names) and its target."""

    def __init__(self, rows: Rows):
        self.inputs, self.targets = to_torch(rows.inputs), to_torch(rows.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, torch.Tensor]:
        inputs = self.inputs
        some = (
            {n: each[index] for n, each in inputs.items()}
            if isinstance(inputs, dict)
            else inputs[index]
        )
        return some, self.targets[index]


def built_with(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What it is called with."""
    return dict(given)


def checked(thing: Any, given: dict[str, Any], chosen: str | None) -> None:
    """ModelError where Lightning's own parts are missing."""
    lightning = _package(thing)
    for name in ("training_step", "configure_optimizers"):
        if not _overrides(lightning, thing, name):
            raise ModelError(f"model.family: the LightningModule has no {name} of its own")
