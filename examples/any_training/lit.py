"""A LightningModule as one has it: its own step, loss and optimizer. Lightning's Trainer trains it."""

import lightning
import torch
from torch.nn import functional as F


class Lit(lightning.LightningModule):
    """One hidden layer. Made as Lit(shape, outputs, ...) with what the study sets."""

    def __init__(self, shape, outputs, width=64, lr=0.01):
        super().__init__()
        self.lr = lr
        self.net = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(int(torch.tensor(shape).prod()), width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, outputs),
        )

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, index):
        inputs, targets = batch
        return F.cross_entropy(self(inputs), targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)
