"""Train on some numbers, and translate whole ones that were not among them: `python translate.py`."""

from types import SimpleNamespace

import numpy as np
import torch
from number_words import CLASSES, TEXTS, pairs
from translator import train, translated

torch.manual_seed(0)
torch.set_num_threads(1)
known = np.random.default_rng(0).permutation(len(TEXTS))[:150]
data = pairs()
inside = np.isin(data["number"], known)
rows = SimpleNamespace(inputs=data["x"][inside], targets=data["y"][inside])
task = SimpleNamespace(
    train=rows,
    validation=rows,
    outputs=len(CLASSES),
    device="cpu",
    options={"width": 64},
    config={"training.epochs": 10, "training.batch_size": 50, "training.lr": 0.005},
    report=lambda epoch, **said: print(f"epoch {epoch}: train error {said['train_error']:.4f}"),
)
net = train(task)
others = np.setdiff1d(np.arange(len(TEXTS)), known)[::8]
right = 0
for n in others:
    english, german = TEXTS[n]
    said = translated(net, english)
    right += said == german
    if n % 10 == 0 or said != german:
        print(f"{english} -> {said}{'' if said == german else f', and is {german}'}")
print(f"{right} of {len(others)} numbers it never saw are right as a whole")
