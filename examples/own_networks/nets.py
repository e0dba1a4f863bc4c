"""Two networks of one's own: what a study sets is passed, the rest is left to the defaults here."""

from typing import Literal

import torch
from torch import nn


class Attention(nn.Module):
    """Self-attention over the positions of a sequence."""

    def __init__(
        self,
        shape: tuple[int, ...],
        outputs: int,
        width: int = 16,
        heads: int = 2,
        norm: Literal["layer", "none"] = "layer",
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.place = nn.Parameter(torch.randn(shape[0], width) * 0.1)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width) if norm == "layer" else nn.Identity()
        self.head = nn.Linear(width * shape[0], outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, T] -> [B, outputs]
        h = self.embed(x[..., None]) + self.place
        h = self.norm(h + self.attention(h, h, h, need_weights=False)[0])
        return self.head(h.flatten(1))


class Backbone(nn.Module):
    """Convolutions that a first study trains, and a head that a second one begins anew."""

    def __init__(self, shape: tuple[int, ...], outputs: int, width: int = 16) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv1d(1, width, 5, stride=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        size = self.backbone(torch.zeros(1, 1, shape[0])).shape[1]
        self.head = nn.Linear(size, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, T] -> [B, outputs]
        return self.head(self.backbone(x[:, None]))
