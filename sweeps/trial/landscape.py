"""Where in the space of weights training ended: how long the weights are, how far they came, how flat the loss is there.

Leaves the cohort as it found it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engram.models import streams
from engram.models.cohort import State
from engram.models.training import Trainer
from engram.sweeps.trial.probes import replaced
from engram.sweeps.trial.record_writer import RecordWriter
from engram.sweeps.trial.trial import Trial

DRAWS = 5  # random moves of the weights
SHARE = 0.1  # of each weight's own size: the standard deviation of its move


def flatness(trial: Trial, alive: np.ndarray, note: RecordWriter) -> None:
    """Norm of the weights, their distance from where they began, and the rise of the train loss around them.

    weight_norm and weight_distance: L2, over all weights of a replica. sharpness: how much the loss on the replica's own
    training subset rises on average over DRAWS random moves of the weights, each weight by a normal number of SHARE
    times its own size, which a rescaling of layers does not change (Jiang et al. 2020, arXiv:1912.02178; Keskar et al.
    2017, arXiv:1609.04836). A replica's moves do not depend on its company."""
    norm, distance, rise = of_weights(trial).numpy().T
    note.values("weight_norm", norm[alive])
    note.values("weight_distance", distance[alive])
    found = rise[alive]
    if np.isfinite(found).all():
        note.values("sharpness", found)
    else:
        note.warn("sharpness was not taken: the loss is not finite near where training ended")


def of_weights(trial: Trial) -> Tensor:
    """[R, 3]: norm, distance from the start, and mean rise of the train loss."""

    def ask() -> Tensor:
        trainer, parameters = trial.trainer, trial.trainer.cohort.parameters
        began = trial.untrained().state_dict()
        ended = {name: p.detach().clone() for name, p in parameters.items()}
        way = {name: p - began[name].to(p.device) for name, p in ended.items()}
        intact, rises = _train_loss(trainer), []
        for draw in range(DRAWS):
            with replaced(trainer.cohort, _moved(trainer, ended, draw)):
                rises.append(_train_loss(trainer) - intact)
        rows = _norm(ended), _norm(way), np.mean(rises, axis=0)
        return torch.from_numpy(np.stack(rows, axis=1))

    return trial.told("weights", ask)


def _moved(trainer: Trainer, ended: State, draw: int) -> State:
    """Every weight moved by a share of its size; of each replica by numbers of its own."""
    generators = [streams.generator(key, "flatness", draw) for key in trainer.keys]
    moved = {}
    for name, weights in ended.items():
        numbers = torch.stack([torch.randn(weights.shape[1:], generator=g) for g in generators])
        moved[name] = weights * (1 + SHARE * numbers.to(weights.device, weights.dtype))
    return moved


def _train_loss(trainer: Trainer) -> np.ndarray:
    """[R]: each replica on its own training subset, in eval mode."""
    scores = trainer.evaluation.scores(
        trainer.pool,
        trainer.subsets,
        lambda part: streams.key(trainer.keys[part.start], "flatness"),
    )
    return scores[1].cpu().numpy()


def _norm(state: State) -> np.ndarray:
    """[R]: the L2 norm over all weights of a replica."""
    squares: list[Tensor] = [p.double().flatten(1).square().sum(1).cpu() for p in state.values()]
    return torch.stack(squares).sum(0).sqrt().numpy()
