"""A network that sees a point's distance from the middle beside its two coordinates."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Polar(nn.Module):
    """Fully connected layers on x, y and the radius. shape: (2,), of one point; outputs: classes."""

    def __init__(
        self, shape: tuple[int, ...], outputs: int, width: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(shape[0] + 1, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )

    def forward(self, points: Tensor) -> Tensor:
        radius = points.square().sum(-1, keepdim=True).sqrt()
        return self.layers(torch.cat([points, radius], dim=-1))
