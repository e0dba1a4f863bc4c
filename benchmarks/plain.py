"""What people write without Engram: plain networks, a plain loop, and a DataLoader for the stock recipe.

One replica at a time, stock torch throughout. The bare loop is as good as such a loop gets on a CPU: tensors
in memory, batches by index, a fused optimizer, one thread a process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH, EPOCHS, TRAIN_SIZE = 100, 20, 4000
LR, DROPOUT = (1e-3, 3e-3, 1e-2, 3e-2), (0.0, 0.5)
CONFIGURATIONS = [{"lr": lr, "dropout": dropout} for lr in LR for dropout in DROPOUT]
REPLICAS = 8
Data = dict[str, np.ndarray]  # x, y: the pool; x_test, y_test


class Sequence(nn.Module):
    """One LSTM layer whose states at all time steps are read out."""

    def __init__(self, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(40 * 16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.dropout(self.lstm(inputs[:, :, None])[0]).flatten(1))


def network(family: str, dropout: float) -> nn.Module:
    """The networks of the study, as in MNIST-1D's own examples."""
    if family == "lstm":
        return Sequence(dropout)
    if family == "convolutional":
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 40))]
        channels, size = 1, 40
        for kernel in (5, 3, 3):
            layers += [
                nn.Conv1d(channels, 25, kernel, 2, padding=1),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            channels, size = 25, (size + 2 - kernel) // 2 + 1
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(25 * size, 10))
    layers = []
    for inputs in (40, 100):
        layers += [nn.Linear(inputs, 100), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(100, 10))


def subset(data: Data, replica: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids that replica trains on, ids held out for validation)."""
    validation = np.arange(len(data["y"]) - 1000, len(data["y"]))
    chosen = np.random.default_rng(replica).permutation(len(data["y"]) - 1000)[:TRAIN_SIZE]
    return chosen, validation


@torch.no_grad()
def scores(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """(error, loss) in eval mode."""
    model.eval()
    outputs = model(inputs)
    model.train()
    error = (outputs.argmax(-1) != targets).float().mean()
    return float(error), float(F.cross_entropy(outputs, targets))


def train(
    family: str, config: dict[str, Any], replica: int, data: Data, loader: bool = False
) -> Iterator[dict[str, float]]:
    """Train one network, yielding after each epoch what an evaluation tells; loader: by a DataLoader."""
    torch.set_num_threads(1)
    torch.manual_seed(replica)
    inside, outside = (torch.from_numpy(ids) for ids in subset(data, replica))
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    sets = {
        "train": (x[inside], y[inside]),
        "validation": (x[outside], y[outside]),
        "test": (torch.from_numpy(data["x_test"]), torch.from_numpy(data["y_test"])),
    }
    model = network(family, config["dropout"])
    optimizer = torch.optim.AdamW(
        model.parameters(), config["lr"], weight_decay=0.0, fused=not loader
    )
    for _ in range(EPOCHS):
        for inputs, targets in _loaded(*sets["train"]) if loader else _indexed(*sets["train"]):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        told = {name: scores(model, *examples) for name, examples in sets.items()}
        yield {
            f"{name}_{kind}": value
            for name, both in told.items()
            for kind, value in zip(("error", "loss"), both, strict=True)
        }


def _indexed(inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for ids in torch.randperm(len(targets)).split(BATCH):
        yield inputs[ids], targets[ids]


def _loaded(inputs: Tensor, targets: Tensor) -> Iterator[Any]:
    from torch.utils.data import DataLoader, TensorDataset

    return iter(DataLoader(TensorDataset(inputs, targets), batch_size=BATCH, shuffle=True))
