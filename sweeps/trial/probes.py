"""Measures that need more than a trained cohort: what training passed through, and what becomes of it after.

layers       takes one layer at a time back, without retraining
retention    trains on a second task, alone and with the first one among it
Each leaves the cohort as it found it. Classification only: all of them count right and wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from engram.measures import arrays, forgetting, intervals, noise
from engram.measures import layers as layer_measures
from engram.measures.convergence import Convergence
from engram.measures.intervals import Interval
from engram.models.cohort import Cohort, State
from engram.models.plain import PlainCohort
from engram.models.training import Examples, Trainer
from engram.sweeps.trial.record_writer import RecordWriter
from engram.sweeps.trial.trial import Trial
from engram.sweeps.trial.watch import Watch, predicted


def forgetting_events(
    watch: Watch, member: np.ndarray, alive: np.ndarray, note: RecordWriter
) -> None:
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
    note: RecordWriter,
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


TAKEN_BACK = (
    ("reinit", "init"),
    ("rerandom", "rerandomize"),
)  # how a layer is, and the purpose of its stream

# -- afterwards -------------------------------------------------------------------------------------


def layers(
    trial: Trial, ids: np.ndarray, member: np.ndarray, alive: np.ndarray, note: RecordWriter
) -> None:
    """Accuracy on the given labels lost when one layer is set back to its start, or drawn anew.

    ids: [N] measured examples; member: [R, N] of the replicas alive. Measures, from the input's layer 1
    on: reinit_layer1_clean (and _noisy, _excess with wrong labels), reinit_trend; the same for rerandom."""
    wrong, groups = trial.wrong[ids], _layers(trial.trainer.cohort)
    note.record["layers"] = list(groups)
    intact, *each = layers_taken_back(trial)
    for (kind, _), taken_back in zip(TAKEN_BACK, each, strict=True):
        found = layer_measures.drops(
            intact[:, 0].numpy()[alive], taken_back.numpy()[alive], wrong, member
        )
        for number in range(len(groups)):
            note.values(f"{kind}_layer{number + 1}_clean", found.clean[:, number])
            if not np.isnan(found.noisy).any():
                note.values(f"{kind}_layer{number + 1}_noisy", found.noisy[:, number])
                note.values(f"{kind}_layer{number + 1}_excess", found.excess[:, number])
        note.interval(f"{kind}_trend", found.trend, found.trends)


def layers_taken_back(trial: Trial) -> tuple[Tensor, ...]:
    """Right or wrong on the measured examples: as trained [R, 1, N], and for each of TAKEN_BACK with each layer so
    [R, layers, N]."""
    given, index = trial.targets[trial.measured_ids], torch.from_numpy(trial.measured_ids)

    def right() -> Tensor:
        trainer = trial.trainer
        return torch.from_numpy(predicted(trainer, trainer.pool.inputs[index]) == given)

    def taken_back(purpose: str) -> Tensor:
        cohort, fresh = trial.trainer.cohort, trial.untrained(purpose).state_dict()
        found = []
        for names in _layers(cohort).values():
            with replaced(cohort, {name: fresh[name] for name in names}):
                found.append(right())
        return torch.stack(found, 1)

    intact = trial.told("layers", lambda: right()[:, None])
    each = [trial.told(kind, partial(taken_back, purpose)) for kind, purpose in TAKEN_BACK]
    return intact, *each


def _layers(cohort: Cohort | PlainCohort) -> dict[str, list[str]]:
    """Parameters by the module that owns them, from the input to the output."""
    groups: dict[str, list[str]] = {}
    for name in cohort.parameters:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    return groups


@contextmanager
def replaced(cohort: Cohort | PlainCohort, state: State) -> Iterator[None]:
    """Other values for some parameters, for a while; in place, since parts are views of the storage."""
    kept = {name: cohort.parameters[name].detach().clone() for name in state}
    try:
        _put(cohort, state)
        yield
    finally:
        _put(cohort, kept)


@torch.no_grad()
def _put(cohort: Cohort | PlainCohort, state: State) -> None:
    for name, value in state.items():
        cohort.parameters[name].copy_(value)


def retention(trial: Trial, alive: np.ndarray, note: RecordWriter) -> None:
    """What training on a second task does to the first, with a rehearsal of the first as control.

    Task B is task A with the positions of its inputs in another order, the same for all examples: as
    hard for a network without a sense of order, and in no conflict with A. Each replica goes on with B
    for as many epochs as it had A; the control has A's examples among B's, and as many of B's.
    Measures: retention_lost (share of what was right on A's test set that is wrong after B),
    retention_drop (accuracy on it before - after), second_task_error, each with `rehearsed_` in the
    control."""
    found = second_task(trial).numpy()[alive]
    before = found[:, 0]
    for prefix, after, second in (("", 1, 2), ("rehearsed_", 3, 4)):
        kept = forgetting.retention(before, found[:, after])
        note.values(f"{prefix}retention_drop", kept.drop)
        unit = note.unit_of(len(kept.lost))
        note.interval(
            f"{prefix}retention_lost",
            intervals.t_interval(kept.lost, inits=unit, omit_nan=True),
            intervals.units(kept.lost, unit),
        )
        note.values(f"{prefix}second_task_error", 1 - found[:, second].mean(axis=1))


def second_task(trial: Trial) -> Tensor:
    """Right or wrong [R, 5, N]: on A before B, on A and on B after B, and on both after B with A among it."""
    return trial.told("retention", lambda: _second_task(trial))


def _second_task(trial: Trial) -> Tensor:
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
    found = [_right(trainer, test)]
    second_test = Examples(_reordered(test.inputs, order), test.targets)
    trained = trainer.cohort.state_dict()
    for pool, members in ((second, trainer.members), (both, rehearsed)):
        after = trial.train_on(pool, members, "retention")
        found += [_right(after, test), _right(after, second_test)]
        trainer.cohort.load_state_dict(trained)
    return torch.from_numpy(np.stack(found, axis=1))


def _reordered(inputs: Tensor, order: Tensor) -> Tensor:
    return inputs.flatten(1)[:, order.to(inputs.device)].view(inputs.shape)


def _right(trainer: Trainer, examples: Examples) -> np.ndarray:
    """Right or wrong [R, N]."""
    return predicted(trainer, examples.inputs) == arrays.plain(examples.targets)
