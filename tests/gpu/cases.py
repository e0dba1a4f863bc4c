"""What is tried on a device: every family and way, optimizer, schedule, loss, augmentation and measure, some at once.

Each case is a small trial. On a device that computes nothing it is run by fake_device.py, on a real one by
test_on_a_gpu.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engram.data.config import AUGMENTATION_KINDS
from engram.data.dataset import Dataset, assemble
from engram.models.families import TABLE
from engram.models.pieces import OPTIMIZERS, SCHEDULES
from engram.sweeps.study.configuration import Configuration

OWN = "tests.gpu.own"
# Three steps an epoch, the last of five examples; and an evaluation after each.
TRAINING = {"epochs": 2, "batch_size": 10, "evaluate_every": 1}
SECTIONS: dict[str, dict[str, Any]] = {
    "data": {"train_size": 25, "validation": 20},
    "model": {"width": 8},
    "training": TRAINING,
    "replicas": {"count": 4},
}


def _case(**sections: Any) -> dict[str, Any]:
    """Sections of a configuration; beside them data_kind, classes, wanted (MeasuresConfig)."""
    return sections


FAST = ("feedforward", "convolutional")
CASES: dict[str, dict[str, Any]] = {}
for _family in TABLE:
    for _stack, _precision in ((4, "float32"), (2, "bfloat16")):
        CASES[f"{_family} in stacks of {_stack}"] = _case(
            model={"family": _family, "depth": 2 if _family in FAST else 1},
            replicas={"stack": _stack},
            training={"precision": _precision},
        )
    if not TABLE[_family].over_time:  # fused recurrent kernels have no fake form
        CASES[f"{_family} one by one"] = _case(
            model={"family": _family, "depth": 1}, replicas={"stack": 1}
        )
_schedules = [*SCHEDULES, f"{OWN}:schedule"]
for _number, _optimizer in enumerate(OPTIMIZERS):
    CASES[_optimizer] = _case(
        training={
            "optimizer": _optimizer,
            "schedule": _schedules[_number % len(_schedules)],
            "warmup": 0.2 * (_number % 2),
            "precision": ("float32", "bfloat16")[_number // 2 % 2],
            "weight_decay": 0.01,
        },
        model={"family": "convolutional", "depth": 1} if _number % 2 else {},
    )
for _augmentation, _kinds in AUGMENTATION_KINDS.items():
    if _augmentation != "none":
        CASES[_augmentation] = _case(
            data_kind="image" if "image" in _kinds else "sequence",
            data={"augmentation": _augmentation},
        )
CASES |= {
    "sgd without momentum, in stacks of 2": _case(
        training={"optimizer": "sgd", "momentum": 0.0}, replicas={"stack": 2}
    ),
    "sgd with options": _case(training={"optimizer": "sgd", "options": {"nesterov": True}}),
    "images, average of weights": _case(
        data_kind="image", model={"family": "convolutional"}, training={"ema": 0.9}
    ),
    "values": _case(classes=None),
    "batch statistics": _case(
        data_kind="image",
        model={"family": "residual", "depth": 1, "options": {"norm": "batch"}},
        way="plain",
    ),
    "causal, of images": _case(
        data_kind="image",
        model={"family": "transformer", "depth": 1, "options": {"causal": True, "patch": 4}},
    ),
    "clipping, L1 and dropout": _case(
        training={"clip": 1.0, "l1": 1e-4}, model={"dropout": 0.3}, replicas={"stack": 4}
    ),
    "the same in stacks of 2, accumulated": _case(
        training={"clip": 1.0, "l1": 1e-4, "batch_size": 5, "accumulate": 2},
        model={"dropout": 0.3},
        replicas={"stack": 2},
    ),
    "dropout of everything": _case(model={"dropout": 1.0}),
    "early stopping, average of weights": _case(training={"early_stopping": 1, "ema": 0.9}),
    "smoothed and balanced": _case(
        training={"label_smoothing": 0.1, "class_weights": "balanced"}, data={"label_noise": 0.2}
    ),
    "focal, weights, mixed": _case(
        training={"loss": "focal", "class_weights": [1.0, 2.0, 1.0, 0.5]},
        data={"augmentation": "mixup"},
    ),
    "an own loss, metric, augmentation": _case(
        training={"loss": f"{OWN}:loss"},
        data={"augmentation": f"{OWN}:augment"},
        wanted={"own": (f"{OWN}:confidence", "balanced_error")},
    ),
    "an own class, stacked": _case(
        model={"family": f"{OWN}:Normed", "freeze": ("first.*",)}, way="vmapped"
    ),
    "an own class, plain": _case(
        model={"family": f"{OWN}:Counting"}, training={"ema": 0.9, "clip": 1.0}, way="plain"
    ),
    "started and frozen": _case(start=True, model={"freeze": ("layers.0.*",)}),
    "forgetting and noise": _case(data={"label_noise": 0.2}, wanted={"forgetting": True}),
    "layers taken back": _case(wanted={"layers": True}),
    "a second task": _case(wanted={"retention": True}),
}


def dataset(case: dict[str, Any]) -> Dataset:
    """80 made-up examples and 20 to test on."""
    kind, classes = case.get("data_kind", "sequence"), case.get("classes", 4)
    shapes = {"vector": (12,), "sequence": (6,), "image": (1, 8, 8)}
    numbers = np.random.default_rng(0)

    def some(count: int) -> tuple[np.ndarray, np.ndarray]:
        inputs = numbers.normal(size=(count, *shapes[kind])).astype(np.float32)
        targets = np.arange(count) % classes if classes else inputs.reshape(count, -1).sum(1)
        return inputs, targets.astype(np.int64 if classes else np.float32)

    return assemble("made", some(80), some(20), classes=classes, kind=kind)


def configuration(case: dict[str, Any], folder: str) -> Configuration:
    """The case as a study would have it; folder: for the weights that it starts from."""
    sections = {k: v | case.get(k, {}) for k, v in SECTIONS.items()}
    if case.get("start"):
        sections["model"]["start"] = _weights(folder)
    return Configuration(**sections)


def _weights(folder: str) -> str:
    """A file of a first layer and another head, as PATH@DIGEST."""
    from pathlib import Path

    from engram.models import start
    from engram.models.feedforward import Feedforward

    path = Path(folder) / "start.pt"
    torch.save(Feedforward((6,), 7, width=8).state_dict(), path)
    return f"{path}@{start.digest(path)}"
