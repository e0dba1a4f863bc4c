"""The loss of each example, by name or a person's own function.

What training minimises; what is reported is `example_losses`, whatever the training loss, so that trials with
different ones can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engram.models.config import TrainingConfig
from engram.models.explain import in_their_code
from engram.models.families import ModelError
from engram.models.named import named

NONE = -1  # the target of a position that has none
# (outputs [R, B, C], targets [R, B, ...], which replicas) -> losses [R, B], and their weights [R, B] or None: equal ones
Loss = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor | None]]


def by_token(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs [R, B, T, C] and targets [R, B, T] of tokens as those of B * T examples; others as they are."""
    if outputs.dim() == 3:
        return outputs, targets
    return outputs.flatten(1, 2), targets.flatten(1, 2)


def example_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each example [R, B]: cross-entropy of logits [R, B, C]; squared error averaged over values; binary
    cross-entropy of logits averaged over labels (targets bool)."""
    if targets.dtype == torch.bool:
        each = F.binary_cross_entropy_with_logits(outputs, targets.to(outputs), reduction="none")
        return each.mean(2)
    if targets.is_floating_point():
        return (outputs - targets).square().flatten(2).mean(2)
    # Along the last axis, a softmax of few classes takes a CPU three to nine times as long.
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")


def ordinal_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss [R, B] of logits [R, B, C] of ordered classes: mean over the C - 1 ranks k of the binary cross-entropy of
    "above k", with P(rank > k) cumulated from the softmax, so that these can never contradict one another.

    A proper score, and for two classes the cross-entropy. After the binary tasks of Cao et al. 2020, arXiv:1901.07884."""
    likely = torch.log_softmax(outputs, -1)
    rank = torch.arange(outputs.shape[-1], device=outputs.device)
    above = (
        rank > rank[:-1, None]
    )  # [C - 1, C]; logsumexp over each side, since cumulated sums are not deterministic
    spread = likely[..., None, :]
    upper = spread.masked_fill(~above, -torch.inf).logsumexp(-1)  # [R, B, C - 1]
    lower = spread.masked_fill(above, -torch.inf).logsumexp(-1)
    return -torch.where(targets[..., None] > rank[:-1], upper, lower).mean(-1)


def training_loss(config: TrainingConfig, targets: Tensor, members: Tensor) -> Loss:
    """The loss that a configuration asks for. targets: of the pool; members: [R, m] each replica's own of them.

    ModelError where the loss is not for such targets."""
    if ":" in config.loss:
        return _own(config.loss)
    values, labels = targets.is_floating_point(), targets.dtype == torch.bool
    if labels and config.loss != "auto":
        raise ModelError(
            f"training.loss = {config.loss} is not for several labels an example: leave it at auto, binary cross-entropy"
        )
    if values and config.loss in ("cross_entropy", "focal", "ordinal"):
        raise ModelError(
            f"training.loss = {config.loss} is for classes, and the targets are values"
        )
    if not values and config.loss == "squared":
        raise ModelError("training.loss = squared is for values, and the targets are classes")
    plain = config.loss in ("auto", "cross_entropy", "squared")
    if plain and config.class_weights is None and config.label_smoothing == 0.0:
        return example_loss
    if labels:
        raise ModelError(
            "training.label_smoothing and class_weights are for one class an example, and here it has several labels"
        )
    if values:
        raise ModelError(
            "training.label_smoothing and class_weights are for classes, and the targets are values"
        )
    ordinal = config.loss == "ordinal"
    if ordinal and config.label_smoothing:
        raise ModelError(
            "training.label_smoothing spreads evenly over classes, which training.loss = ordinal puts in an order: set it to 0"
        )
    weights = None if config.class_weights is None else _weights(config, targets, members)

    def loss(outputs: Tensor, targets: Tensor, replicas: slice) -> tuple[Tensor, Tensor | None]:
        own = None
        if weights is None:
            smoothing = config.label_smoothing
            each = (
                ordinal_losses(outputs, targets)
                if ordinal
                else F.cross_entropy(
                    outputs.transpose(1, 2), targets, label_smoothing=smoothing, reduction="none"
                )
            )
        else:
            of_classes = _fitting(weights[replicas], config, outputs.shape[-1])
            own = of_classes.gather(1, targets)
            each = (
                own * ordinal_losses(outputs, targets)
                if ordinal
                else _weighted(outputs, targets, of_classes, own, config.label_smoothing)
            )
        if config.loss == "focal":
            likely = torch.log_softmax(outputs, -1).gather(-1, targets[..., None])[..., 0].exp()
            each = each * (1 - likely).clamp(min=0) ** config.focal_gamma
        return each, own

    return loss


def mean_loss(
    loss: Loss,
    outputs: Tensor,
    targets: Tensor,
    replicas: slice,
    mixed: tuple[Tensor, Tensor] | None = None,
    alone: bool = False,
    gaps: bool = False,
) -> Tensor:
    """Mean loss of each replica [R]; of weighted examples as torch's CrossEntropyLoss(weight) averages them.

    gaps: some targets are -1 and count nowhere, as torch's ignore_index has it. replicas: whose they are; mixed: where examples are mixed, the share [R, B] of each one's own target, and the other's targets.
    alone: of one replica, as a plain loop computes it."""
    if alone and mixed is None and loss is example_loss:
        # As a plain loop has it: the same sum, to the last bit.
        if targets.is_floating_point():
            return F.mse_loss(outputs[0], targets[0])[None]
        if targets.dtype == torch.bool:
            return F.binary_cross_entropy_with_logits(outputs[0], targets[0].to(outputs))[None]
        return F.cross_entropy(outputs[0], targets[0], ignore_index=NONE)[None]
    if gaps:
        there = targets != NONE
        each, weights = loss(outputs, targets.clamp(min=0), replicas)
        weights = there.to(each) if weights is None else weights.where(there, 0)
        return each.where(there, 0).sum(1) / weights.sum(1)
    each, weights = loss(outputs, targets, replicas)
    if mixed is not None:
        shares, partners = mixed
        other, others = loss(outputs, partners, replicas)
        each = shares * each + (1 - shares) * other
        if weights is not None and others is not None:
            weights = shares * weights + (1 - shares) * others
    return each.mean(1) if weights is None else each.sum(1) / weights.sum(1)


def example_loss(outputs: Tensor, targets: Tensor, replicas: slice) -> tuple[Tensor, None]:
    """`example_losses`, equally weighted: the loss where a study says nothing else."""
    return example_losses(outputs, targets), None


def with_named_weights(config: TrainingConfig, names: Sequence[str]) -> TrainingConfig:
    """The same with class weights that are given by name as a list; names: of the classes in their order, none for values."""
    given = config.class_weights
    if not isinstance(given, dict):
        return config
    unknown = [name for name in given if name not in names]
    if unknown:
        there = f"the classes are {', '.join(names)}" if names else "there are no classes"
        raise ModelError(f"training.class_weights names {unknown[0]!r}, and {there}")
    listed = tuple(given.get(name, 1.0) for name in names)
    return config.model_copy(update={"class_weights": listed})


def _weights(config: TrainingConfig, targets: Tensor, members: Tensor) -> Tensor:
    """Of each class for each replica, [R, C]: as given, or by what the replica's own examples have."""
    classes = int(targets.max()) + 1
    if config.class_weights != "balanced":
        given = config.class_weights or ()
        assert not isinstance(given, dict)  # see with_named_weights
        if len(given) < classes:
            raise ModelError(
                f"training.class_weights lists {len(given)} weights, and there are {classes} classes"
            )
        return torch.tensor(given, dtype=torch.float32, device=targets.device).expand(
            len(members), len(given)
        )
    held = targets.cpu()  # sizes that a device could not foresee
    each = [held[own] for own in members.cpu()]
    counts = torch.stack([torch.bincount(own[own != NONE], minlength=classes) for own in each])
    there = (counts > 0).sum(1, keepdim=True)  # as scikit-learn's: over the classes that are there
    weights = (counts > 0) * counts.sum(1, keepdim=True) / (there * counts.clamp(min=1))
    return weights.float().to(targets.device)


def _fitting(weights: Tensor, config: TrainingConfig, classes: int) -> Tensor:
    """The same for as many classes as the network has outputs: a class without examples has no weight."""
    missing = classes - weights.shape[1]
    if missing and config.class_weights != "balanced":
        raise ModelError(
            f"training.class_weights lists {weights.shape[1]} weights, and there are {classes} classes"
        )
    return F.pad(weights, (0, max(0, missing)))


def _weighted(
    outputs: Tensor, targets: Tensor, weights: Tensor, own: Tensor, smoothing: float
) -> Tensor:
    """Weighted cross-entropy [R, B] as torch has it, with weights [R, C] of each replica's own; own: those of targets."""
    likely = torch.log_softmax(outputs, -1)
    each = -own * likely.gather(-1, targets[..., None])[..., 0]
    if smoothing == 0.0:
        return each
    spread = -(weights[:, None] * likely).mean(-1)
    return (1 - smoothing) * each + smoothing * spread


def _own(path: str) -> Loss:
    """A person's function(outputs [B, C], targets [B, ...]) -> [B], called replica by replica."""
    function: Any = named(path, "training.loss")

    def loss(outputs: Tensor, targets: Tensor, replicas: slice) -> tuple[Tensor, Tensor | None]:
        found = []
        if targets.dtype == torch.bool:
            targets = targets.to(outputs)  # what binary cross-entropies take
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
