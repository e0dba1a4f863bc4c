"""A model of Hugging Face's transformers, trained by its Trainer from a fresh start, or from where a function loads it.

A class is built from its own configuration with model.options; a function (shape, outputs) -> PreTrainedModel may
load one. Of `training` it is told epochs or steps, batch_size, accumulate, lr, weight_decay, clip, schedule (constant,
linear, cosine), warmup, optimizer (adamw, sgd) and precision.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from engram.models.config import TrainingConfig
from engram.models.families import ModelError
from engram.models.learners import scores
from engram.models.learners.task import Said, Task
from engram.models.several import to_torch

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}


def train(task: Task, thing: Any, given: dict[str, Any], training: TrainingConfig) -> Said:
    """Train it; returns the model, whose logits are what it predicts."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = _made(task, thing, given)
    epochs = scores.epochs_of(training, len(task.train))
    arguments = transformers.TrainingArguments(
        output_dir=str(task.folder),
        num_train_epochs=epochs,
        max_steps=training.steps or -1,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.accumulate,
        learning_rate=training.lr,
        weight_decay=training.weight_decay,
        max_grad_norm=training.clip or 0.0,
        lr_scheduler_type=_of(SCHEDULES, training.schedule, "training.schedule"),
        warmup_steps=training.warmup,  # below 1 a share of all steps
        optim=_of(OPTIMIZERS, training.optimizer, "training.optimizer"),
        bf16=training.precision == "bfloat16",
        use_cpu=task.device == "cpu",
        seed=task.seed,
        data_seed=task.seed,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )

    class Reporter(transformers.TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            epoch = round(state.epoch)
            if scores.due(training, epoch, epochs):
                scores.report(task, epoch, _predictor(model, training.batch_size))
                model.train()

    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=_Rows(task, model), callbacks=[Reporter()]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    count = sum(p.numel() for p in model.parameters())
    return Said(_predictor(model, training.batch_size), parameters=count)


def _of(table: dict[str, str], name: str, key: str) -> str:
    if name not in table:
        raise ModelError(f"{key} = {name}: Hugging Face's Trainer is told {', '.join(table)} here")
    return table[name]


def _made(task: Task, thing: Any, given: dict[str, Any]) -> Any:
    if not inspect.isclass(thing):
        return scores.made(thing, task.shape, task.outputs, given)
    kind: Any = thing
    problem = {} if task.classes else {"problem_type": "regression"}
    return kind(kind.config_class(**{"num_labels": task.outputs, **problem, **given}))


class _Rows(torch.utils.data.Dataset):
    """A task's training rows as its model names them."""

    def __init__(self, task: Task, model: Any):
        self.inputs = _inputs(model, task.train.inputs)
        targets = torch.from_numpy(np.array(task.train.targets))
        self.targets = targets[:, 0] if targets.dim() == 2 and targets.shape[1] == 1 else targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        own = {name: each[index] for name, each in self.inputs.items()}
        return {**own, "labels": self.targets[index]}


def _inputs(model: Any, rows: Any) -> dict[str, torch.Tensor]:
    """Inputs as the model wants them: whole numbers where they are tokens, a channel where images have none; several
    by the names that the data give them."""
    if isinstance(rows, dict):
        found: dict[str, torch.Tensor] = to_torch(rows)
        return found
    inputs, name = to_torch(rows), model.main_input_name
    if name == "pixel_values" and inputs.dim() == 3:
        inputs = inputs[:, None]
    return {name: inputs.long() if name == "input_ids" else inputs}


def _predictor(model: Any, size: int) -> Any:
    def predict(inputs: Any) -> np.ndarray:
        model.eval()
        rows, pieces = _inputs(model, inputs), []
        count = len(next(iter(rows.values())))
        with torch.no_grad():
            for start in range(0, count, max(size, 64)):
                piece = {n: each[start : start + max(size, 64)] for n, each in rows.items()}
                said = model(**{n: each.to(model.device) for n, each in piece.items()})
                pieces.append(said.logits.float().cpu())
        return torch.cat(pieces).numpy()

    return predict


def built_with(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What it is called with, or its configuration is made of."""
    return dict(given)


def checked(thing: Any, given: dict[str, Any], chosen: str | None) -> None:
    """ModelError for a class that is not to be built by itself."""
    if inspect.isclass(thing) and getattr(thing, "config_class", None) is None:
        raise ModelError(
            f"model.family: {thing.__name__} has no configuration of its own; name a class such as "
            "transformers:BertForSequenceClassification"
        )
