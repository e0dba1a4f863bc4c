"""The `model:` and `training:` sections of a study, as frozen and validated values. Light: imports no numerics."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    model_serializer,
)

from engram.models import families, pieces

FAMILIES = tuple(families.TABLE)
OPTIMIZERS = tuple(pieces.OPTIMIZERS)
Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid"]
Option = bool | int | float | str | None | list[bool | int | float | str | None]
SHAPE_KEYS = ("width", "depth", "activation", "dropout")  # that a family or class is called with


class ModelConfig(BaseModel):
    """One network's shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = Field(
        "feedforward",
        min_length=1,
        description=f"{', '.join(FAMILIES)}, or package.module:thing: a torch.nn.Module, an estimator, a training "
        "function, a LightningModule, a Hugging Face or a Keras model (docs/learners.md)",
    )
    width: StrictInt = Field(
        100, ge=1, le=65536, description="units (or channels) of each hidden layer"
    )
    depth: StrictInt = Field(
        2, ge=0, le=100, description="hidden layers; 0: a linear model (feedforward only)"
    )
    activation: Activation = Field(
        "relu",
        description="relu, leaky_relu, tanh or sigmoid; recurrent cells keep their own gates",
    )
    dropout: float = Field(
        0.0, ge=0, le=1, description="fraction of hidden units zeroed while training"
    )
    options: dict[str, Option] = Field(
        default_factory=dict,
        description="further arguments of your own class, as {heads: 4}; swept as model.options.heads. Keys of this "
        "section that a study neither sets nor sweeps are left to the class's own defaults. Of the families, residual takes "
        "norm (group, batch, none) and stages, transformer heads, patch (side of an image's squares), vocabulary (inputs are "
        "whole numbers below it; known of text) and causal, rnn, gru and lstm vocabulary",
    )
    start: str | None = Field(
        None,
        description="file of weights that every replica starts from: a state dict saved by torch, or safetensors; "
        "a last layer of another shape, the new head, begins fresh",
    )
    fresh: tuple[str, ...] = Field(
        (),
        description="parameters that begin fresh in each replica though model.start has them, or that it lacks: by name "
        "or pattern, as [head.*]; nothing said: the last layer alone, where it does not fit",
    )
    freeze: tuple[str, ...] = Field(
        (),
        description="parameters that are not trained, by name or pattern, as [backbone.*]",
    )

    @model_serializer(mode="wrap")
    def _only_what_was_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of a person's own class, the keys that the study leaves alone stay away: its own defaults hold."""
        found: dict[str, Any] = handler(self)
        if families.is_own(self.family):
            found = {
                key: value
                for key, value in found.items()
                if key in self.model_fields_set or key not in SHAPE_KEYS
            }
        return found

    def given(self) -> dict[str, Any]:
        """The arguments that a person's own class is called with, besides shape and outputs."""
        said = {key: getattr(self, key) for key in SHAPE_KEYS if key in self.model_fields_set}
        return {**said, **self.options}


class TrainingConfig(BaseModel):
    """How each replica is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: str = Field(
        "adamw",
        min_length=1,
        description=f"{', '.join(OPTIMIZERS)}, or package.module:Class; adam takes weight decay as L2 in the gradient, "
        "adamw decouples it, muon is for matrices and leaves the rest to adamw",
    )
    options: dict[str, Option] = Field(
        default_factory=dict,
        description="further arguments of the optimizer, as {nesterov: true} or {betas: [0.9, 0.95]}; swept as training.options.NAME",
    )
    lr: float = Field(1e-2, gt=0, le=1e6, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(0.0, ge=0, description="weight decay, as the optimizer defines it")
    l1: float = Field(
        0.0, ge=0, description="coefficient of the sum of absolute weights added to the loss"
    )
    loss: str = Field(
        "auto",
        min_length=1,
        description="auto (cross-entropy of classes, squared error of values), cross_entropy, squared, focal, "
        "ordinal (ordered classes: binary cross-entropies of being above each rank), or "
        "package.module:function(outputs, targets) -> one loss an example. What is reported as loss, and early stopping, "
        "stay with auto",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target spread evenly over all classes"
    )
    class_weights: Literal["balanced"] | tuple[float, ...] | dict[str, float] | None = Field(
        None,
        description="weight of each class in the loss: balanced (by the inverse of its share among the training examples), by the names of classes ({sick: 5}; the others weigh 1), a list in their order, or null",
    )
    focal_gamma: float = Field(
        2.0, ge=0, le=20, description="focal loss: power of (1 - p) that weighs easy examples down"
    )
    batch_size: StrictInt = Field(100, ge=1, description="examples per step and replica")
    accumulate: StrictInt = Field(
        1,
        ge=1,
        le=10_000,
        description="batches whose gradients are averaged into one step: a step then sees batch_size times this many examples",
    )
    epochs: StrictInt = Field(40, ge=1, description="passes over the training subset")
    steps: StrictInt | None = Field(
        None,
        ge=1,
        description="optimizer steps in place of epochs: the same number whatever the train_size",
    )
    schedule: str = Field(
        "constant",
        min_length=1,
        description=f"learning rate over the run: {', '.join(f'{name} ({about})' for name, about in pieces.SCHEDULES.items())}, "
        "or package.module:function(step, total) -> factor",
    )
    warmup: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the steps over which the learning rate first rises from 0",
    )
    clip: float | None = Field(
        None, gt=0, description="largest norm of one replica's gradient; null: no clipping"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of an exponential average of the weights, such as 0.999, which is what is evaluated and kept; null: the weights themselves",
    )
    early_stopping: StrictInt | None = Field(
        None,
        ge=1,
        description="evaluations without a better validation loss after which a replica stops, keeping its best weights; null: off",
    )
    evaluate_every: StrictInt | None = Field(
        None, ge=1, description="epochs between evaluations; null: about 20 evaluations a run"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of the forward pass; bfloat16 is automatic mixed precision",
    )

    @property
    def step_size(self) -> int:
        """Examples that one optimizer step sees, of each replica."""
        return self.batch_size * self.accumulate
