"""What is asked next follows from the data: beyond an end, between neighbours, more replicas, without what does nothing."""

from __future__ import annotations

import pytest
import yaml

from engram.problems import StudyError
from engram.sweeps.results import followup
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import AsksConfig
from tests import fake_records
from tests.command_line import engram
from tests.test_answers import grid_study, planted


def proposed(level, **axes):
    return followup.follow_up(fake_records.evidence(axes, level, with_arrays=False))


def test_an_optimum_at_an_end_is_followed_past_it_within_the_bounds_of_the_key():
    study = load({"name": "a", "sweep": {"model.dropout": [0.0, 0.4, 0.8]}})
    found = followup.follow_up(planted(study, lambda p, m: 0.9 - p["model.dropout"]))
    assert "0.8, is the largest that was tried" in found.sentences[0]
    assert found.study["sweep"]["model.dropout"] == [0.8, 1.0]  # a share is 1 at most
    assert load(found.study).grid()


def test_dataset_sizes_go_on_in_ratios_and_stay_below_the_pool():
    study = load({"name": "a", "sweep": {"data.train_size": [20, 40, 160]}})
    evidence = planted(study, lambda p, m: 0.5 - p["data.train_size"] / 1000)
    found = followup.follow_up(evidence)
    assert fake_records.POOL == 300
    assert found.study["sweep"]["data.train_size"] == [160, 270]  # not 640


def test_the_largest_size_is_not_followed_by_a_smaller_one():
    """Of a pool of 300 examples 270 are what may be asked for; 290 were tried."""
    study = load({"name": "a", "sweep": {"data.train_size": [20, 40, 290]}})
    found = followup.follow_up(planted(study, lambda p, m: 0.5 - p["data.train_size"] / 1000))
    assert not any("largest that was tried" in sentence for sentence in found.sentences)


def test_an_optimum_inside_is_narrowed_down_to_its_neighbours():
    study = load({"name": "a", "sweep": {"training.lr": [0.001, 0.01, 0.1]}})
    best = {0.001: 0.5, 0.01: 0.4, 0.1: 0.6}
    found = followup.follow_up(planted(study, lambda p, m: best[p["training.lr"]]))
    assert found.study["sweep"]["training.lr"] == [0.00316, 0.01, 0.0316]


def test_a_setting_that_changes_nothing_is_fixed():
    study = load(
        {
            "name": "a",
            "sweep": {"model.dropout": [0.0, 0.2, 0.5], "training.weight_decay": [0.0, 0.1]},
        }
    )
    found = followup.follow_up(planted(study, lambda p, m: 0.5 - p["model.dropout"] / 5))
    assert any("Weight decay leaves the validation error unchanged" in s for s in found.sentences)
    assert list(found.study["sweep"]) == ["model.dropout"]


def test_a_tie_gets_the_replicas_that_would_tell_it():
    study = load({"name": "a", "sweep": {"model.activation": ["relu", "tanh"]}})
    found = followup.follow_up(planted(study, lambda p, m: 0.5, noise=0.05))
    assert "cannot be told apart by the validation error" in found.sentences[0]
    assert found.study["replicas"]["count"] == 16
    assert found.study["sweep"]["cases"] == [
        {"model.activation": "relu"},
        {"model.activation": "tanh"},
    ]
    assert len(load(found.study).grid()) == 2


def test_what_is_drawn_from_a_distribution_is_drawn_from_its_best_part():
    study = load("search")
    found = followup.follow_up(planted(study, lambda p, m: 0.4 + abs(p["model.dropout"] - 0.3)))
    ((kind, (low, high)),) = found.study["sweep"]["model.dropout"].items()
    assert kind == "uniform"
    assert 0.1 < low < 0.3 < high < 0.5
    assert load(found.study).search.sampler == "tpe"


def test_nothing_open_is_said():
    study = load({"name": "a", "sweep": {"model.activation": ["relu", "tanh"]}})
    level = {"relu": 0.3, "tanh": 0.6}
    found = followup.follow_up(planted(study, lambda p, m: level[p["model.activation"]]))
    assert found.study is None
    assert "Nothing is left open" in found.sentences[-1]


def test_without_a_result_nothing_follows():
    lost = fake_records.evidence({"model.dropout": [0.0]}, statuses={0: "failed"})
    with pytest.raises(StudyError, match="has no completed trial"):
        followup.follow_up(lost)


def test_a_file_says_why_and_is_read_again(tmp_path):
    study = grid_study(measure="variance")
    found = followup.follow_up(planted(study, lambda p, m: 0.9 - p["model.dropout"]))
    path = tmp_path / "next.yaml"
    path.write_text(found.text)
    assert found.text.startswith("# ")
    assert load(path).name == yaml.safe_load(found.text)["name"] == "planted-next"
    assert load(path).asks == AsksConfig(measure="variance")  # of what is swept then


def test_the_command_writes_a_study_that_can_be_planned(finished_study, tmp_path):
    out = tmp_path / "small-next.yaml"
    done = engram("next", finished_study.name, "--out", str(out), home=finished_study.home)
    assert done.returncode == 0, done.stderr
    if "written:" in done.stdout:
        assert load(out).planned_trials() > 0
        again = engram("next", finished_study.name, "--out", str(out), home=finished_study.home)
        assert again.returncode == 2
        assert "is there already" in again.stderr
