"""Hashes last: a trial of an earlier version is recognised by a later one that has more keys."""

import pytest

from engram.sweeps.study import study_file
from engram.sweeps.study.configuration import FIRST_KEYS, Configuration
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import Values

# Of the first trial of each shipped study, as the first version computed them. A study that is changed gets a
# new hash here; a key that is added must not.
FIRST_TRIALS = {
    "activations": "53f209970675",
    "architectures": "d7ebbc7e8bfe",
    "augmentation": "7d87a949095f",
    "capacity": "bd972772146b",
    "dataset_size": "8a861958faf2",
    "double_descent": "626f19ded109",
    "dropout": "e74b492c0f78",
    "early_stopping": "0b2ccf52bdcf",
    "ensembles": "a428d49b10bf",
    "families": "da1a8bca538b",
    "individual_examples": "6fc2c02da6e1",
    "layers": "d53a41beaf14",
    "leakage": "6fc2c02da6e1",
    "learning_rate": "4934254527a4",
    "memorization_time": "34c82147f4b0",
    "nightly": "e4d235e73701",
    "quickstart": "d4463e14e01a",
    "reference": "496dfa462070",
    "retention": "f003a0096ccd",
    "search": "a3eb4c3034f8",
    "signal_before_noise": "0a80c9bdb53b",
    "ten_million": "7a5c8c0c5a10",
    "weight_decay": "e74b492c0f78",
}


def first(name: str) -> Configuration:
    study = load(name)
    if study.search.sampler == "grid":
        return study.configure(study.grid()[0])
    lowest = {k: a.values[0] if isinstance(a, Values) else a.low for k, a in study.sweep.items()}
    return study.configure(lowest)


@pytest.mark.parametrize("name", FIRST_TRIALS)
def test_the_first_trial_of_a_shipped_study_keeps_its_hash(name):
    assert first(name).hash == FIRST_TRIALS[name]


def test_every_shipped_study_has_its_hash_here():
    assert set(FIRST_TRIALS) <= set(study_file.shipped())


def test_every_key_but_how_replicas_are_executed_changes_the_hash():
    base = Configuration()
    known = {"replicas.stack"}
    for key, value in base.dotted().items():
        if key in known or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        section, _, name = key.partition(".")
        part = getattr(base, section).model_copy(update={name: value + 1})
        changed = base.model_copy(update={section: part})
        assert changed.hash != base.hash, key
    assert base.dotted().keys() >= FIRST_KEYS
