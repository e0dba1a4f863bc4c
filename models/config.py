"""The `model:` and `training:` sections of a study, as frozen and validated values. Light: imports no numerics."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from engram.models import families

FAMILIES = tuple(families.TABLE)
Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid"]


class ModelConfig(BaseModel):
    """One network's shape."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = Field(
        "feedforward",
        min_length=1,
        description=f"{', '.join(FAMILIES)}, or package.module:Class",
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


class TrainingConfig(BaseModel):
    """How each replica is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["sgd", "adam", "adamw"] = Field(
        "adamw",
        description="sgd, adam (weight decay as L2 in the gradient) or adamw (decoupled weight decay)",
    )
    lr: float = Field(1e-2, gt=0, le=1e6, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(0.0, ge=0, description="weight decay, as the optimizer defines it")
    l1: float = Field(
        0.0, ge=0, description="coefficient of the sum of absolute weights added to the loss"
    )
    batch_size: StrictInt = Field(100, ge=1, description="examples per step and replica")
    epochs: StrictInt = Field(40, ge=1, description="passes over the training subset")
    steps: StrictInt | None = Field(
        None,
        ge=1,
        description="optimizer steps in place of epochs: the same number whatever the train_size",
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant",
        description="learning rate over the run: constant, or falling to 0 as a half cosine or a line",
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
