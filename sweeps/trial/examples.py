"""Measures per example of the pool: memorization, membership, and what the probes find.

An example is inside the subsets of some replicas and outside those of others; that difference is measured.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from engram.data import subsets
from engram.measures import intervals, left_out, membership, memorization
from engram.measures.intervals import Interval
from engram.measures.left_out import Groups
from engram.models import several
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import landscape, probes, tokens
from engram.sweeps.trial.record_writer import RecordWriter
from engram.sweeps.trial.trial import Trial

MOST_MEMORIZED = 20
# Per-example memorization needs dozens of replicas; below this only means are told.
ENOUGH_REPLICAS = 24
MEMORIZED = 0.5  # an example counts as memorized from here on
SMALLEST_SQUARE = 1e-12  # keeps the logarithm of a squared error finite


def measure_examples(
    trial: Trial, wanted: MeasuresConfig, alive: np.ndarray, note: RecordWriter
) -> None:
    """Over the pool, where examples are inside for some replicas and outside for others."""
    ids, classes = trial.measured_ids, trial.trainer.classification
    member = subsets.members(trial.members[alive], len(trial.targets))[:, ids]
    if len(ids) < len(trial.pool_ids):
        note.warn(
            f"measures per example look at {len(ids)} of the pool's {len(trial.pool_ids)} examples, chosen at random"
        )
    if wanted.memorization or wanted.membership:
        _memorization_and_membership(trial, wanted, member, alive, note)
    if trial.watch is not None:
        epochs = np.array([r.epoch for r in trial.history])
        wrong = trial.wrong[ids]
        if wanted.forgetting:
            probes.forgetting_events(trial.watch, member, alive, note)
        if trial.watch.true is not None and wrong.any() and not wrong.all():
            probes.noise_fitting(trial.watch, wrong, member, alive, epochs, note)
    if trial.trainer.cohort.way == "learner":
        return
    if wanted.flatness:
        landscape.flatness(trial, alive, note)
    if classes and wanted.layers:
        probes.layers(trial, ids, member, alive, note)
    if classes and wanted.retention:
        probes.retention(trial, alive, note)


def _memorization_and_membership(
    trial: Trial, wanted: MeasuresConfig, member: np.ndarray, alive: np.ndarray, note: RecordWriter
) -> None:
    ids = trial.measured_ids
    if alive.sum() < 2:
        return
    if not (member.any(axis=0) & ~member.all(axis=0)).any():
        what = "the whole pool" if member.all() else "the same examples"
        note.warn(f"every replica saw {what}: memorization and membership are undefined")
        return
    if trial.dataset.every_step:
        score, confidence = (values[alive] for values in tokens.windows(trial))
        _keep_and_measure(trial, wanted, score, confidence, member, note)
        return
    outputs = trial.outputs("measured")
    if not alive.all():
        outputs = outputs[torch.from_numpy(alive)]
    if trial.trainer.classification:
        score = (outputs.argmax(-1) == torch.from_numpy(trial.targets[ids])).numpy()
        confidence = np.stack(
            [membership.phi(each.double(), trial.targets[ids]) for each in outputs]
        )
        note.keep("correct", np.packbits(score, axis=1))
    elif trial.dataset.labels:
        logits, right = outputs.double().numpy(), trial.targets[ids]
        score = ((logits > 0) == right).mean(-1)
        confidence = np.where(right, logits, -logits).mean(-1)  # log p/(1-p) of what is right
    else:
        targets = trial.targets[ids].reshape(len(ids), -1)
        square = np.square(outputs.double().numpy() - targets).mean(-1)
        score, confidence = -square, -np.log(np.maximum(square, SMALLEST_SQUARE))
    _keep_and_measure(trial, wanted, score, confidence, member, note)


def _keep_and_measure(
    trial: Trial,
    wanted: MeasuresConfig,
    score: np.ndarray,
    confidence: np.ndarray,
    member: np.ndarray,
    note: RecordWriter,
) -> None:
    """score: how right each replica is on each example [R, N]; confidence: what an attacker goes by."""
    note.keep("member", np.packbits(member, axis=1))
    if wanted.memorization:
        _memorization(trial, score, member, note)
    if wanted.membership and len(member) >= 4:
        _membership(confidence, member, note)


def _memorization(trial: Trial, score: np.ndarray, member: np.ndarray, note: RecordWriter) -> None:
    """The mean over the pool, the share of memorized examples, wrong labels and right ones apart."""
    unit = note.unit_of(len(member))
    found = memorization.summary(score, member, inits=unit)
    wrong = trial.wrong[trial.measured_ids]
    _mean_memorization("memorization", found, unit, note)
    _keep_memorization(trial, found, note)
    if not trial.trainer.classification:
        return
    if len(member) >= ENOUGH_REPLICAS:
        groups = Groups.of(len(member), unit)
        note.statistic("memorized_share", _memorized_share(score, member, groups), groups)
    if wrong.any() and not wrong.all():
        for name, some in (("wrong", wrong), ("clean", ~wrong)):
            part = memorization.summary(score[:, some], member[:, some], inits=unit)
            _mean_memorization(f"memorization_{name}", part, unit, note)


def _mean_memorization(
    name: str, found: memorization.Memorization, unit: int, note: RecordWriter
) -> None:
    known = found.mean.known
    note.interval(name, found.mean, intervals.units(found.per_replica, unit) if known else None)


def _memorized_share(score: np.ndarray, member: np.ndarray, groups: Groups) -> np.ndarray:
    """Share of the examples with a defined memorization whose memorization is at least MEMORIZED: [1 + G]."""
    values = left_out.memorization(score, member, groups)
    return np.array([(row[~np.isnan(row)] >= MEMORIZED).mean() for row in values])


def _membership(confidence: np.ndarray, member: np.ndarray, note: RecordWriter) -> None:
    attack = membership.lira(confidence, member)
    pseudo = attack.pseudo_values(inits=note.unit_of(len(member)))
    if np.isnan(pseudo).any():
        note.interval("membership_auc", Interval(attack.auc, math.nan, math.nan, math.nan, 1))
    else:
        note.interval("membership_auc", intervals.t_interval(pseudo), pseudo)
    note.number("membership_tpr_1", attack.tpr(0.01))
    note.number("membership_tpr_01", attack.tpr(0.001))
    note.keep("confidence", confidence.astype(np.float16))


def _keep_memorization(trial: Trial, found: memorization.Memorization, note: RecordWriter) -> None:
    """Each example's memorization, and the most memorized examples themselves, for pictures."""
    ids = trial.measured_ids
    note.keep("memorization", found.per_example.astype(np.float32))
    note.keep("memorization_se", found.standard_error.astype(np.float32))
    ranked = np.argsort(-np.nan_to_num(found.per_example, nan=-np.inf), kind="stable")
    chosen = ids[ranked[:MOST_MEMORIZED]]
    note.keep("most_memorized_ids", chosen)
    note.keep("most_memorized_inputs", _shown(trial, chosen))
    note.keep("most_memorized_targets", trial.targets[chosen])
    note.keep("pool_wrong", trial.wrong[ids])


def _shown(trial: Trial, ids: np.ndarray) -> np.ndarray:
    """Examples as people look at them: arrays, or texts."""
    found, inputs = trial.dataset.tokens, trial.dataset.inputs[ids]
    if (
        trial.dataset.members is not None
    ):  # the first picture among several inputs, else all of them in a row
        each = several.arrays(inputs, trial.dataset.members).values()
        return next((one for one in each if one.ndim > 2 and one.dtype == np.float32), inputs)
    if found is None:
        return inputs
    between = "" if max(map(len, found.words[1:])) == 1 else " "
    return np.array([between.join(found.words[k] for k in row if k >= 0) for row in inputs])
