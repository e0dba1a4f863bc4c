"""Optuna's fANOVA on trials as records hold them, and null settings under each sampler."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import optuna
import pytest

from engram.measures import importance
from engram.sweeps.search import shares, space


def test_shares_add_up_to_one_at_most_and_find_what_matters():
    random = np.random.default_rng(0)
    lr, decay = 10 ** random.uniform(-4, -1, 40), random.random(40)
    kind = random.choice(["relu", "tanh", None], 40).tolist()
    values = (np.log10(lr) + 2.5) ** 2 + 0.05 * random.normal(size=40)
    found = shares.shares({"lr": lr.tolist(), "decay": decay.tolist(), "kind": kind}, values)
    assert found["lr"].mean > 0.6
    assert found["decay"].mean < 0.15 > found["kind"].mean
    assert 0.7 < sum(share.mean for share in found.values()) <= 1
    assert all(0 <= s.low <= s.mean <= s.high <= 1 for s in found.values())


def test_listed_values_weigh_alike():
    values = [0.0, 1.0, 1.0] * 6
    found = shares.shares({"size": [10, 20, 1000] * 6, "other": [1, 2] * 9}, values)
    assert found["size"].mean == pytest.approx(1.0)
    assert found["other"].mean == pytest.approx(0.0)


def test_forests_see_so_many_trials_at_most(monkeypatch):
    """A random choice of many trials explains what all of them do."""
    random = np.random.default_rng(6)
    settings = {name: random.random(3000).tolist() for name in "ab"}
    values = (np.array(settings["a"]) + 0.1 * random.normal(size=3000)).tolist()
    seen = []
    add = optuna.study.Study.add_trial
    monkeypatch.setattr(
        optuna.study.Study, "add_trial", lambda self, one: seen.append(one) or add(self, one)
    )
    monkeypatch.setattr(shares, "MOST", 300)
    found = shares.shares(settings, values)
    assert len(seen) == 300 * (1 + shares.FORESTS)
    assert found["a"].mean > 0.7
    assert found["b"].mean < 0.1


def test_nothing_differs():
    same = {"a": shares.Share(0.0, 0.0, 0.0)}
    assert shares.shares({"a": [1, 2, 3, 4]}, [0.5] * 4) == same
    assert shares.shares({"a": [1, 1, 1, 1]}, [0.1, 0.2, 0.3, 0.4]) == same
    with pytest.raises(ValueError, match="3 trials; importance needs at least 4"):
        shares.shares({"a": [1, 2, 3]}, [0.1, 0.2, 0.3])


def test_a_search_that_adapts_tells_no_setting_that_does_nothing():
    """TPE on a slope: three settings, one of which matters; twelve studies of thirty trials."""
    told = []
    for seed in range(12):
        settings: dict[str, list[float]] = {key: [] for key in "abc"}
        values, random = [], np.random.default_rng(seed)
        study = optuna.create_study()
        for number in range(30):
            study.sampler = space.SAMPLERS["tpe"](seed * 1000 + number)
            trial = study.ask()
            for key, list_ in settings.items():
                list_.append(trial.suggest_float(key, 0, 1))
            values.append(settings["a"][-1] + 0.05 * random.normal())
            study.tell(trial, values[-1])
        found = importance.effects(settings, values)
        assert found["a"].word == "told"
        told += [key for key in "bc" if found[key].word == "told"]
    assert len(told) <= 3  # of 24; 2.5 % each


def test_nothing_is_said_of_the_forests():
    """In a process of its own: `report` alone imports no part of the search that would have silenced Optuna."""
    code = (
        "from engram.sweeps.search.shares import shares\n"
        "shares({'a': [1, 2, 3, 4], 'b': [1, 1, 2, 2]}, [0.1, 0.2, 0.3, 0.5])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
