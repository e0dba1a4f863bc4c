"""Names of what training is put together from: optimizers, losses, schedules. A row that is not here cannot be used.

Light: what the names stand for is imported where it is used (optimizer.py, losses.py, schedules.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerRow:
    """cls: package.module:Class. elementwise: on stacked parameters it *is* R independent optimizers (tested).

    A row that is not elementwise looks at a parameter as a whole, so each replica has its own.
    """

    cls: str
    elementwise: bool


OPTIMIZERS: dict[str, OptimizerRow] = {
    "sgd": OptimizerRow("torch.optim:SGD", True),
    "adam": OptimizerRow("torch.optim:Adam", True),
    "adamw": OptimizerRow("torch.optim:AdamW", True),
    "nadam": OptimizerRow("torch.optim:NAdam", True),
    "radam": OptimizerRow("torch.optim:RAdam", True),
    "rmsprop": OptimizerRow("torch.optim:RMSprop", True),
    "adagrad": OptimizerRow("torch.optim:Adagrad", True),
    "adafactor": OptimizerRow("torch.optim:Adafactor", False),
    "muon": OptimizerRow("torch.optim:Muon", False),
}
LOSSES = ("auto", "cross_entropy", "squared", "focal", "ordinal")
SCHEDULES = {
    "constant": "the same throughout",
    "cosine": "falling to 0 as a half cosine",
    "linear": "falling to 0 as a line",
    "step": "a tenth from half of the steps on, a hundredth from three quarters on",
    "exponential": "falling evenly in its logarithm to a hundredth",
    "one_cycle": "rising from a 25th over three tenths of the steps, then falling to nearly 0",
}
