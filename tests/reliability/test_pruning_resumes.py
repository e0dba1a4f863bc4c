"""A scheduler that is told again what trials reported decides as if it had never been away."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from engram.sweeps.cluster import pruning
from engram.sweeps.cluster.trainable import EPOCH
from engram.sweeps.study.loading import load

EPOCHS = 27


def study(tmp_path, name: str):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ntraining: {epochs: 27}\nsweep: {dropout: {uniform: [0, 1]}}\n"
        f"search: {{sampler: random, trials: 40}}\nscheduler: {{name: {name}, grace: 2}}\n"
    )
    return load(path)


def trial(number: int) -> SimpleNamespace:
    return SimpleNamespace(config={"trial": number}, trial_id=f"tune-{random.random()}")


@pytest.mark.parametrize("name", ["asha", "median"])
def test_decisions_are_those_of_an_undisturbed_scheduler(tmp_path, name):
    """Interrupted before every report: each time a new scheduler is told what is in the ledger."""
    asked = study(tmp_path, name)
    chance = random.Random(name)
    values = {n: [chance.random() + n / 10 * (-1) ** n for _ in range(EPOCHS)] for n in range(12)}
    order = [(epoch, n) for epoch in range(1, EPOCHS + 1) for n in chance.sample(range(12), 12)]
    undisturbed = pruning.scheduler(asked, {})
    ledger: dict[int, tuple[dict[int, float], bool]] = {}
    stopped = set()
    for epoch, n in order:
        if n in stopped:
            continue
        result = {EPOCH: epoch, "validation_error": values[n][epoch - 1]}
        again = pruning.scheduler(asked, ledger)
        expected = undisturbed.on_trial_result(None, trial(n), dict(result))
        assert again.on_trial_result(None, trial(n), dict(result)) == expected
        reports = ledger.setdefault(n, ({}, False))[0]
        reports[epoch] = result["validation_error"]
        if expected == TrialScheduler.STOP or epoch == EPOCHS:
            stopped.add(n)
            undisturbed.on_trial_complete(None, trial(n), result)
            ledger[n] = (reports, True)
    assert len(stopped) == 12
    assert any(len(reports) < EPOCHS for reports, _ in ledger.values()), "some were pruned"


def test_a_report_that_was_judged_before_is_not_judged_again(tmp_path):
    asked = study(tmp_path, "asha")
    ledger = {n: ({2: 0.1}, True) for n in range(8)} | {9: ({2: 0.9}, False)}
    again = pruning.scheduler(asked, ledger)
    report = {EPOCH: 2, "validation_error": 0.9}
    assert again.on_trial_result(None, trial(9), report) == TrialScheduler.CONTINUE
    assert again.on_trial_result(None, trial(10), report) == TrialScheduler.STOP


def test_a_trial_that_has_trained_to_its_end_is_measured(tmp_path):
    asked = study(tmp_path, "asha")
    again = pruning.scheduler(asked, {n: ({2: 0.1}, True) for n in range(8)})
    report = {EPOCH: 18, "validation_error": 0.9, "last": True}
    assert again.on_trial_result(None, trial(10), report) == TrialScheduler.CONTINUE
