"""Examples as training and evaluation see them: inputs and targets, of whatever data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """inputs [N, ...] float32 (or int64 tokens) and targets [N] int64 (classes), [N, K] float32 (values) or [N, L]
    bool (which of L labels each has).

    int64 targets [N, T] are of tokens: each position has one."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classification(self) -> bool:
        return not (self.targets.is_floating_point() or self.labels)

    @property
    def labels(self) -> bool:
        """Whether an example may have any number of labels."""
        return self.targets.dtype == torch.bool

    @property
    def every_step(self) -> bool:
        """Whether each position of an example has a target of its own."""
        return self.classification and self.targets.dim() > 1

    def to(self, device: torch.device) -> Examples:
        return Examples(self.inputs.to(device), self.targets.to(device))
