"""Measures that need more than a trained cohort: what training passes through, and what becomes of it after.

Watch        at each evaluation: which examples each replica has right (forgetting, wrong labels fitted)
layers       takes one layer at a time back, without retraining
retention    trains on a second task, alone and with the first one among it
Each leaves the cohort as it found it. Classification only: all of them count right and wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from measures import arrays, forgetting, intervals, noise
from measures import layers as layer_measures
from measures.convergence import Convergence
from measures.intervals import Interval
from models.cohort import Cohort, State
from models.training import Examples, Trainer
from sweeps.trial.notes import Notes

if TYPE_CHECKING:
    from sweeps.trial.trial import Trial

# Examples that measures per example look at: all of a pool up to this, a random choice of a larger one.
MOST_MEASURED = 20_000
PIECE = 4096  # examples predicted at once: bounds the memory for logits


def measured(
    members: np.ndarray, pool_ids: np.ndarray, seed: int, most: int = MOST_MEASURED
) -> np.ndarray:
    """The pool examples that measures per example look at, sorted.

    members: [R, m]. Of a pool larger than `most`, a random choice among those that some replica was
    trained on and some was not: the others have no memorization. Where there are none (one replica, or
    m = n), among those that any was trained on."""
    if len(pool_ids) <= most:
        return pool_ids
    inside = np.zeros(int(pool_ids.max()) + 1, np.uint16)
    for row in members:
        seen = np.zeros(len(inside), bool)
        seen[row] = True
        inside += seen
    count = inside[pool_ids]
    chosen = pool_ids[(count > 0) & (count < len(members))]
    chosen = chosen if len(chosen) else pool_ids[count > 0]
    generator = np.random.Generator(np.random.PCG64([seed, len(pool_ids)]))
    return np.sort(generator.choice(chosen, min(most, len(chosen)), replace=False))


def predicted(trainer: Trainer, inputs: Tensor) -> np.ndarray:
    """Classes [R, N], in eval mode."""
    blank = trainer.pool.targets[:1].expand(PIECE)
    pieces = []
    for start in range(0, len(inputs), PIECE):
        piece = inputs[start : start + PIECE]
        pieces.append(trainer.predict(Examples(piece, blank[: len(piece)])).argmax(-1))
    return torch.cat(pieces, 1).numpy()


# -- while training ---------------------------------------------------------------------------------


class Watch:
    """Right or wrong of each measured example in each replica, at every evaluation.

    ids: [N] pool examples; given: their labels as trained on; true: before noise, or None where there is
    none. Memory: R·N/8 bytes an evaluation, twice that with noise."""

    def __init__(self, ids: np.ndarray, given: np.ndarray, true: np.ndarray | None):
        self.ids, self.given, self.true = ids, given, true
        self.given_right: list[np.ndarray] = []  # bits [R, N / 8] each
        self.true_right: list[np.ndarray] = []

    def look(self, trainer: Trainer) -> None:
        """One evaluation."""
        classes = predicted(trainer, trainer.pool.inputs[torch.from_numpy(self.ids)])
        self.given_right.append(np.packbits(classes == self.given, axis=1))
        if self.true is not None:
            self.true_right.append(np.packbits(classes == self.true, axis=1))

    def right(self, replica: int, true: bool = False) -> np.ndarray:
        """One replica's history: bool [E, N], by the given labels or by the true ones."""
        rows = [seen[replica] for seen in (self.true_right if true else self.given_right)]
        return np.unpackbits(np.stack(rows), axis=1, count=len(self.ids)).astype(bool)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen, for a checkpoint."""
        kept = {"given_right": self.given_right, "true_right": self.true_right}
        return {name: np.stack(seen) for name, seen in kept.items() if seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state made by `state_dict`."""
        for name in ("given_right", "true_right"):
            setattr(self, name, [np.asarray(seen) for seen in state.get(name, ())])


def forgetting_events(watch: Watch, member: np.ndarray, alive: np.ndarray, note: Notes) -> None:
    """Events per training example, and the share that is never forgotten once learned; member: [R, N]."""
    counts, shares = [], []
    total = np.zeros(len(watch.ids))
    for replica, inside in zip(np.nonzero(alive)[0], member, strict=True):
        seen = np.where(inside, watch.right(int(replica)), math.nan)
        found = forgetting.events(seen)
        counts.append(found.forgotten[inside].mean())
        shares.append(found.unforgettable_share)
        total += found.forgotten
    note.values("forgetting_events", np.array(counts))
    note.values("unforgettable_share", np.array(shares))
    with np.errstate(invalid="ignore"):
        note.keep("forgetting", (total / member.sum(axis=0)).astype(np.float32))


def noise_fitting(
    watch: Watch,
    wrong: np.ndarray,
    member: np.ndarray,
    alive: np.ndarray,
    epochs: np.ndarray,
    note: Notes,
) -> None:
    """When wrong and clean labels are fitted; wrong: bool [N], member: [R, N], epochs: [E]."""
    assert watch.true is not None, "only a watch with true labels sees wrong ones fitted"
    curves: dict[str, list[np.ndarray]] = {"wrong": [], "clean": [], "true": []}
    for replica, inside in zip(np.nonzero(alive)[0], member, strict=True):
        given, true = watch.right(int(replica)), watch.right(int(replica), true=True)
        # Which class it was, as far as it matters: the given one, the true one, or another.
        classes = np.where(given, watch.given, np.where(true, watch.true, -1))
        shares = noise.fitted(classes[None], watch.given, wrong, inside[None], watch.true)
        for name, rows in curves.items():
            rows.append(getattr(shares, name)[0])
    fitted = noise.Fitted(*(np.stack(curves[name]) for name in ("wrong", "clean", "true")))
    found = noise.delay(fitted, epochs)
    note.interval("noise_delay", found.interval, found.per_replica)
    for name, times in (("wrong", found.wrong), ("clean", found.clean)):
        note.interval(f"epochs_to_fit_{name}", median(times), times.per_replica)
        note.values(f"fitted_{name}", getattr(fitted, name)[:, -1])
        note.keep(f"fitted_{name}_curve", getattr(fitted, name).T.astype(np.float32))
    note.keep("fitted_true_curve", fitted.true.T.astype(np.float32))  # type: ignore[union-attr]
    note.record["noise_order"] = {
        "later": found.later,
        "sooner": found.sooner,
        "p_value": found.p_value,
    }


def median(times: Convergence) -> Interval:
    """The median as an interval whose unreached ends are unknown."""
    low, high = (x if math.isfinite(x) else math.nan for x in (times.low, times.high))
    return Interval(times.median, low, high, math.nan, len(times.per_replica), times.level)


# -- afterwards -------------------------------------------------------------------------------------


def layers(
    trial: Trial, ids: np.ndarray, member: np.ndarray, alive: np.ndarray, note: Notes
) -> None:
    """Accuracy on the given labels lost when one layer is set back to its start, or drawn anew.

    ids: [N] measured examples; member: [R, N] of the replicas alive. Measures, from the input's layer 1
    on: reinit_layer1_clean (and _noisy, _excess with wrong labels), reinit_trend; the same for rerandom."""
    trainer, cohort = trial.trainer, trial.trainer.cohort
    inputs = trainer.pool.inputs[torch.from_numpy(ids)]
    given, wrong = trial.targets[ids], trial.wrong[ids]
    intact = (predicted(trainer, inputs) == given)[alive]
    groups = _layers(cohort)
    note.record["layers"] = list(groups)
    for kind, purpose in (("reinit", "init"), ("rerandom", "rerandomize")):
        fresh = trial.untrained(purpose).state_dict()
        taken_back = []
        for names in groups.values():
            with _replaced(cohort, {name: fresh[name] for name in names}):
                taken_back.append((predicted(trainer, inputs) == given)[alive])
        found = layer_measures.drops(intact, np.stack(taken_back, axis=1), wrong, member)
        for number in range(len(groups)):
            note.values(f"{kind}_layer{number + 1}_clean", found.clean[:, number])
            if not np.isnan(found.noisy).any():
                note.values(f"{kind}_layer{number + 1}_noisy", found.noisy[:, number])
                note.values(f"{kind}_layer{number + 1}_excess", found.excess[:, number])
        note.interval(f"{kind}_trend", found.trend)


def _layers(cohort: Cohort) -> dict[str, list[str]]:
    """Parameters by the module that owns them, from the input to the output."""
    groups: dict[str, list[str]] = {}
    for name in cohort.parameters:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return groups


@contextmanager
def _replaced(cohort: Cohort, state: State) -> Iterator[None]:
    """Other values for some parameters, for a while; in place, since parts are views of the storage."""
    kept = {name: cohort.parameters[name].detach().clone() for name in state}
    try:
        _put(cohort, state)
        yield
    finally:
        _put(cohort, kept)


@torch.no_grad()
def _put(cohort: Cohort, state: State) -> None:
    for name, value in state.items():
        cohort.parameters[name].copy_(value)


def retention(trial: Trial, alive: np.ndarray, note: Notes) -> None:
    """What training on a second task does to the first, with a rehearsal of the first as control.

    Task B is task A with the positions of its inputs in another order, the same for all examples: as
    hard for a network without a sense of order, and in no conflict with A. Each replica goes on with B
    for as many epochs as it had A; the control has A's examples among B's, and as many of B's.
    Measures: retention_lost (share of what was right on A's test set that is wrong after B),
    retention_drop (accuracy on it before - after), second_task_error, each with `rehearsed_` in the
    control."""
    trainer = trial.trainer
    order = torch.from_numpy(
        np.random.Generator(
            np.random.PCG64([trial.configuration.replicas.seed, len(trial.pool_ids)])
        ).permutation(trainer.pool.inputs[0].numel())
    )
    first, test = trainer.pool, trainer.sets["test"]
    second = Examples(_reordered(first.inputs, order), first.targets)
    both = Examples(
        torch.cat([first.inputs, second.inputs]), torch.cat([first.targets, second.targets])
    )
    rehearsed = torch.cat([trainer.members, trainer.members + len(first)], 1)
    before = _right(trainer, test)[alive]
    second_test = Examples(_reordered(test.inputs, order), test.targets)
    trained = trainer.cohort.state_dict()
    for prefix, pool, members in (
        ("", second, trainer.members),
        ("rehearsed_", both, rehearsed),
    ):
        after = trial.train_on(pool, members, "retention")
        found = forgetting.retention(before, _right(after, test)[alive])
        note.values(f"{prefix}retention_drop", found.drop)
        unit = note.unit_of(len(found.lost))
        note.interval(
            f"{prefix}retention_lost",
            intervals.t_interval(found.lost, inits=unit, omit_nan=True),
            intervals.units(found.lost, unit),
        )
        error = 1 - _right(after, second_test)[alive].mean(axis=1)
        note.values(f"{prefix}second_task_error", error)
        trainer.cohort.load_state_dict(trained)


def _reordered(inputs: Tensor, order: Tensor) -> Tensor:
    return inputs.flatten(1)[:, order.to(inputs.device)].view(inputs.shape)


def _right(trainer: Trainer, examples: Examples) -> np.ndarray:
    """Right or wrong [R, N]."""
    return predicted(trainer, examples.inputs) == arrays.plain(examples.targets)
