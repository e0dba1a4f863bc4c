"""Names that are private to the packages we stand on: each is used in one file, and a release that moves it fails here."""

from __future__ import annotations

from optuna.storages.journal import _storage as journal_storage
from ray._private import ray_constants
from ray._private.state import state
from ray.tune.execution import class_cache

from engram.sweeps.cluster import loopback, tune_workers
from engram.sweeps.search import operations


def test_optunas_codes_of_journal_lines():
    theirs = journal_storage.JournalOperation
    ours = {
        "CREATE_STUDY": operations.CREATE_STUDY,
        "SET_STUDY_USER_ATTR": operations.STUDY_ATTRIBUTE,
        "CREATE_TRIAL": operations.CREATE_TRIAL,
        "SET_TRIAL_PARAM": operations.TRIAL_PARAMETER,
        "SET_TRIAL_STATE_VALUES": operations.TRIAL_STATE,
        "SET_TRIAL_INTERMEDIATE_VALUE": operations.TRIAL_REPORT,
        "SET_TRIAL_USER_ATTR": operations.TRIAL_ATTRIBUTE,
    }
    assert {name: int(theirs[name]) for name in ours} == ours


def test_rays_setting_of_one_machine(monkeypatch):
    """tests/reliability/test_secrets.py looks at the ports that it leads to."""
    assert hasattr(ray_constants, "ENABLE_RAY_CLUSTER")
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.delenv(loopback.SETTING, raising=False)
    loopback.bind()
    assert ray_constants.ENABLE_RAY_CLUSTER is False


def test_tunes_environment_of_actors_comes_back():
    before = dict(class_cache.DEFAULT_ENV_VARS), set(class_cache.ENV_VARS_TO_PROPAGATE)
    assert before[0] or before[1], "Tune sets none any more: tune_workers.py can go"
    with tune_workers.as_they_are():
        assert class_cache.DEFAULT_ENV_VARS == {}
        assert set() == class_cache.ENV_VARS_TO_PROPAGATE
    assert (dict(class_cache.DEFAULT_ENV_VARS), set(class_cache.ENV_VARS_TO_PROPAGATE)) == before


def test_rays_table_of_an_autoscaler():
    assert callable(state.get_cluster_config)
