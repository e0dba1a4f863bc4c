"""Folds: every row is tested once, groups stay whole, classes keep their share, and a column may say which is which."""

from types import SimpleNamespace

import numpy as np
import pytest

from engram.data.catalog import DataError, load
from engram.data.config import DataConfig
from engram.sweeps.results import asked
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load as load_study
from engram.sweeps.study.sections import AsksConfig

ROWS = 100
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(ROWS, 3)), (np.arange(ROWS) % 10 == 0).astype(int)
WHO = np.repeat(np.arange(14), [20, 12, 9, 8, 8, 7, 7, 6, 6, 5, 4, 3, 3, 2])


@pytest.fixture
def arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=Y, who=WHO, part=np.array(["a", "b", "c", "d"])[np.arange(ROWS) % 4])
    plain = tmp_path / "plain.npz"
    np.savez(plain, x=X, y=Y)
    return lambda **keys: DataConfig(
        name=f"npz:{path if {'groups', 'column'} & set(keys) else plain}", **keys
    )


def every(config, names):
    return [load(config.model_copy(update={"fold": name})) for name in names]


def test_every_row_is_tested_once_and_classes_keep_their_share(arrays):
    found = every(arrays(folds=5), range(1, 6))
    assert sorted(i for made in found for i in made.test_ids) == list(range(ROWS))
    for made in found:
        assert sorted([*made.ids, *made.test_ids]) == list(range(ROWS))
        np.testing.assert_array_equal(made.test_targets, Y[made.test_ids])
        assert len(made.test_ids) == 20
        assert made.test_targets.sum() == 2
    first = load(arrays(folds=5))
    assert first.digest == found[0].digest
    assert "test: fold 1 of 5, each class in proportion; 20 of 100 rows" in first.notes


def test_values_to_predict_are_dealt_in_the_fixed_order(tmp_path):
    np.savez(tmp_path / "v.npz", x=X, y=X[:, 0] * 2.5)
    found = every(DataConfig(name=f"npz:{tmp_path / 'v.npz'}", folds=3), (1, 2, 3))
    assert sorted(i for made in found for i in made.test_ids) == list(range(ROWS))
    assert sorted(len(made.test_ids) for made in found) == [33, 33, 34]


def test_groups_stay_whole_in_folds_of_about_one_size(tmp_path):
    np.savez(tmp_path / "g.npz", x=X, y=Y, who=WHO)
    config = DataConfig(name=f"npz:{tmp_path / 'g.npz'}", groups="who", folds=4)
    found = every(config, (1, 2, 3, 4))
    assert sorted(i for made in found for i in made.test_ids) == list(range(ROWS))
    for made in found:
        assert not set(WHO[made.ids]) & set(WHO[made.test_ids])
        assert 22 <= len(made.test_ids) <= 28
        assert made.test_groups is not None
    with pytest.raises(DataError, match="there are 14 groups of who"):
        load(config.model_copy(update={"folds": 15}))


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_a_column_names_the_folds(tmp_path, form):
    import pandas as pd

    part = np.arange(ROWS) % 3 + 1
    path = tmp_path / f"t.{form}"
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "part": part, "y": Y})
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    else:
        np.savez(path, x=X[:, :2], y=Y, part=part)
    config = DataConfig(name=f"{form}:{path}", folds="part")
    for fold in (1, 2, 3):
        made = load(config.model_copy(update={"fold": fold}))
        assert set(made.test_ids) == set(np.flatnonzero(part == fold))
        assert made.inputs.shape[1] == 2  # the column is no feature
    with pytest.raises(
        DataError, match=r"data.fold = 4: is none of the folds\n    write one of 1, 2, 3"
    ):
        load(config.model_copy(update={"fold": 4}))


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"fold": 2}, "names one fold, and there are none"),
        ({"folds": 5, "fold": 6}, "data.fold = 6: is none of the folds"),
        ({"folds": 101}, "there are 100 rows"),
        ({"folds": "fold"}, "has no such array"),
    ],
)
def test_folds_that_are_none_are_refused(arrays, keys, rule):
    with pytest.raises(DataError, match=rule):
        load(arrays(**keys))


def test_folds_beside_another_split_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=Y, x_test=X, y_test=Y)
    with pytest.raises(DataError, match="the data have a split of their own"):
        load(DataConfig(name=f"npz:{path}", folds=4))
    np.savez(path, x=X, y=Y, day=np.arange(ROWS))
    with pytest.raises(DataError, match="time has one direction"):
        load(DataConfig(name=f"npz:{path}", folds=4, order="day"))
    np.savez(path, x=X, y=Y, who=WHO, part=np.arange(ROWS) % 4)
    with pytest.raises(DataError, match="groups are in both this fold and others"):
        load(DataConfig(name=f"npz:{path}", folds="part", groups="who"))


def test_what_a_study_asks_is_asked_over_folds():
    def axes(*swept):
        return asked._axes(SimpleNamespace(study=None, axes=swept), AsksConfig())

    assert axes("data.fold", "model.dropout") == ["model.dropout"]
    assert axes("data.fold") == ["data.fold"]


def test_a_study_sweeps_folds_and_one_that_is_not_there_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    study = tmp_path / "study.yaml"
    for folds, wrong in (("[1, 2, 3]", False), ("[1, 4]", True)):
        study.write_text(
            f"name: folds\ndata: {{name: 'npz:{tmp_path / 'a.npz'}', folds: 3, train_size: 40}}\n"
            f"sweep: {{data.fold: {folds}, model.dropout: [0.0, 0.5]}}\n"
        )
        found = [str(problem) for problem in check_data(load_study(study))]
        assert bool(found) == wrong
        assert not wrong or "is none of the folds" in found[0]
