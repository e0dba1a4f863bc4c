"""The loss of each example, by name or a person's own function.

What training minimises; what is reported is `example_losses`, whatever the training loss, so that trials with
different ones can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engram.models.config import TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError
from engram.models.named import named

# (outputs [R, B, C], targets [R, B, ...]) -> losses [R, B], and their weights [R, B] or None: equal ones
Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


def example_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each example [R, B]: cross-entropy of logits [R, B, C], or squared error averaged over values."""
    if targets.is_floating_point():
        return (outputs - targets).square().flatten(2).mean(2)
    # Along the last axis, a softmax of few classes takes a CPU three to nine times as long.
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")


def training_loss(config: TrainingConfig, targets: Tensor) -> Loss:
    """The loss that a configuration asks for. targets: of all training examples, for the weights of classes.

    ModelError where the loss is not for such targets."""
    if ":" in config.loss:
        return _own(config.loss)
    values = targets.is_floating_point()
    if values and config.loss in ("cross_entropy", "focal"):
        raise ModelError(
            f"training.loss = {config.loss} is for classes, and the targets are values"
        )
    if not values and config.loss == "squared":
        raise ModelError("training.loss = squared is for values, and the targets are classes")
    weights = _weights(config, targets)
    plain = config.loss in ("auto", "cross_entropy", "squared")
    if plain and weights is None and config.label_smoothing == 0.0:
        return example_loss
    if values:
        raise ModelError(
            "training.label_smoothing and class_weights are for classes, and the targets are values"
        )

    def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        each = F.cross_entropy(
            outputs.transpose(1, 2),
            targets,
            weight=weights,
            label_smoothing=config.label_smoothing,
            reduction="none",
        )
        if config.loss == "focal":
            likely = torch.log_softmax(outputs, -1).gather(-1, targets[..., None])[..., 0].exp()
            each = each * (1 - likely).clamp(min=0) ** config.focal_gamma
        return each, None if weights is None else weights[targets]

    return loss


def mean_loss(
    loss: Loss,
    outputs: Tensor,
    targets: Tensor,
    mixed: tuple[Tensor, Tensor] | None = None,
    alone: bool = False,
) -> Tensor:
    """Mean loss of each replica [R]; of weighted examples as torch's CrossEntropyLoss(weight) averages them.

    mixed: where examples are mixed, the share [R, B] of each one's own target, and the other's targets.
    alone: of one replica, as a plain loop computes it."""
    if alone and mixed is None and loss is example_loss:
        # As a plain loop has it: the same sum, to the last bit.
        if targets.is_floating_point():
            return F.mse_loss(outputs[0], targets[0])[None]
        return F.cross_entropy(outputs[0], targets[0])[None]
    each, weights = loss(outputs, targets)
    if mixed is not None:
        shares, partners = mixed
        other, others = loss(outputs, partners)
        each = shares * each + (1 - shares) * other
        if weights is not None and others is not None:
            weights = shares * weights + (1 - shares) * others
    return each.mean(1) if weights is None else each.sum(1) / weights.sum(1)


def example_loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    """`example_losses`, equally weighted: the loss where a study says nothing else."""
    return example_losses(outputs, targets), None


def _weights(config: TrainingConfig, targets: Tensor) -> Tensor | None:
    if config.class_weights is None:
        return None
    if targets.is_floating_point():
        raise ModelError("training.class_weights are for classes, and the targets are values")
    counts = torch.bincount(targets.flatten().cpu())  # of a size that a device could not foresee
    if config.class_weights == "balanced":
        weights = (counts.sum() / (len(counts) * counts.clamp(min=1))).float()
        return weights.to(targets.device)
    if len(config.class_weights) < len(counts):
        raise ModelError(
            f"training.class_weights lists {len(config.class_weights)} weights, and there are {len(counts)} classes"
        )
    return torch.tensor(config.class_weights, dtype=torch.float32, device=targets.device)


def _own(path: str) -> Loss:
    """A person's function(outputs [B, C], targets [B, ...]) -> [B], called replica by replica."""
    function: Any = named(path, "training.loss")

    def loss(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        found = []
        for own, wanted in zip(outputs, targets, strict=True):
            with in_their_code(
                function, f"loss(outputs {list(own.shape)}, targets {list(wanted.shape)})"
            ):
                each = function(own, wanted)
            if not isinstance(each, Tensor) or each.shape != wanted.shape[:1]:
                shape = list(each.shape) if isinstance(each, Tensor) else type(each).__name__
                raise ModelError(
                    f"training.loss = {path} gives {shape}, and is to give one loss an example, [{len(wanted)}]: "
                    "write reduction='none'"
                )
            found.append(each)
        return torch.stack(found), None

    return loss
