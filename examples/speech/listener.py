"""A network of one's own: convolutions along time, with the bands of pitch as channels."""

from torch import nn


class Listener(nn.Module):
    def __init__(self, shape, outputs, width=32, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(shape[0], width, 5, padding=2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.readout = nn.Linear(width, outputs)

    def forward(self, inputs):
        return self.readout(self.layers(inputs).amax(-1))
