"""Splits by a file of row ids: read in three forms, and refused with the place of what is wrong."""

import json

import numpy as np
import pytest

from engram.data import catalog, subsets
from engram.data.catalog import DataError, load
from engram.data.config import DataConfig

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 3))
Y = np.arange(ROWS) % 2
PARTS = {
    "train": list(range(0, 30)),
    "validation": list(range(30, 40)),
    "test": list(range(45, 60)),
}


def written(folder, parts, form):
    path = folder / f"split.{form}"
    if form == "npz":
        np.savez(path, **{name: np.array(rows) for name, rows in parts.items()})
    elif form == "json":
        path.write_text(json.dumps(parts))
    else:
        rows = [f"{row},{part}" for part, rows in parts.items() for row in rows]
        path.write_text("\n".join(["id,part", *rows]) + "\n")
    return str(path)


@pytest.fixture
def arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    return f"npz:{tmp_path / 'a.npz'}"


@pytest.mark.parametrize("form", ["npz", "json", "csv"])
def test_rows_go_where_the_file_says(arrays, tmp_path, form):
    config = DataConfig(name=arrays, indices=written(tmp_path, PARTS, form))
    made = load(config)
    assert set(made.test_ids) == set(PARTS["test"])
    assert set(made.ids) == {*PARTS["train"], *PARTS["validation"]}
    np.testing.assert_array_equal(made.inputs, X[made.ids].astype(np.float32))
    kept, held = subsets.holdout(len(made.ids), 0.2, 0, made.division)
    assert set(made.ids[held]) == set(PARTS["validation"])
    assert set(made.ids[kept]) == set(PARTS["train"])
    assert f"split by split.{form}: 40 and 15 for test; 5 rows are in no part" in made.notes


def test_rows_that_are_not_named_are_trained_on_where_no_train_rows_are(arrays, tmp_path):
    path = written(tmp_path, {"test": [3, 4, 5]}, "json")
    made = load(DataConfig(name=arrays, indices=path))
    assert set(made.test_ids) == {3, 4, 5}
    assert len(made.ids) == ROWS - 3


def test_masks_and_other_names_of_parts(arrays, tmp_path):
    masks = {name: np.isin(np.arange(ROWS), rows) for name, rows in PARTS.items()}
    masks["val"] = masks.pop("validation")
    made = load(DataConfig(name=arrays, indices=written(tmp_path, masks, "npz")))
    assert set(made.test_ids) == set(PARTS["test"])
    assert made.division.validation.sum() == 10


@pytest.mark.parametrize("form", ["npz", "json", "csv"])
def test_rows_are_called_by_their_own_ids(tmp_path, form):
    table = tmp_path / "t.csv"
    rows = [f"p{i},{a},{b},{c},{y}" for i, ((a, b, c), y) in enumerate(zip(X, Y, strict=True))]
    table.write_text("\n".join(["id,a,b,c,y", *rows]) + "\n")
    named = {part: [f"p{i}" for i in ids] for part, ids in PARTS.items()}
    config = DataConfig(name=f"csv:{table}", index="id", indices=written(tmp_path, named, form))
    assert set(load(config).test_ids) == set(named["test"])
    wrong = written(tmp_path, PARTS, form)
    with pytest.raises(DataError, match=r"no row has that id .they are as 'p0', 'p1', 'p2'"):
        load(config.model_copy(update={"indices": wrong}))


def test_a_test_set_of_its_own_stays_and_unused_rows_go(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, x_test=X, y_test=Y)
    name = f"npz:{tmp_path / 'a.npz'}"
    parts = {"train": PARTS["train"], "validation": PARTS["validation"]}
    made = load(DataConfig(name=name, indices=written(tmp_path, parts, "json")))
    assert len(made.test_ids) == ROWS
    assert len(made.ids) == 40
    with pytest.raises(DataError, match="names test rows, and the data have a test set"):
        load(DataConfig(name=name, indices=written(tmp_path, PARTS, "json")))


def test_the_digits_and_a_changed_file(tmp_path):
    path = written(tmp_path, {"test": [0, 1, 2]}, "json")
    config = DataConfig(name="digits", indices=path)
    assert set(load(config).test_ids) == {0, 1, 2}
    arrays = tmp_path / "b.npz"
    np.savez(arrays, x=X, y=Y)
    config = config.model_copy(update={"name": f"npz:{arrays}"})
    assert catalog.describe(config).test == 3
    written(tmp_path, {"test": [0, 1, 2, 3]}, "json")
    assert catalog.describe(config).test == 4  # what was read before is not taken for it


def test_a_group_is_not_parted_between_train_and_validation(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, who=np.arange(ROWS) // 4)
    config = DataConfig(name=f"npz:{tmp_path / 'a.npz'}", groups="who")
    indices = written(tmp_path, PARTS, "json")
    with pytest.raises(DataError, match="1 groups are in both train and validation"):
        load(config.model_copy(update={"indices": indices}))


@pytest.mark.parametrize(
    ("parts", "form", "rule"),
    [
        ({"train": [1, 2], "test": [2, 3]}, "json", r"test\[0\] is 2, which train\[1\] has already: it is train and test"),
        ({"train": [1, 2], "test": [3, 3]}, "csv", "line 5 is '3', which line 4 has already"),
        ({"train": [1, 2], "test": [60]}, "npz", r"test\[0\] is 60, and rows are numbered from 0 to 59"),
        ({"train": [1, 2], "test": [-1]}, "csv", "line 4 is '-1', and rows are numbered from 0 to 59"),
        ({"train": [1, 2], "holdout": [3]}, "json", "'holdout' is no part of a split"),
        ({"train": [1, 2], "holdout": [3]}, "csv", "line 4: 'holdout' is no part of a split"),
        ({"train": [1, 2]}, "json", "names no test rows"),
        ({"train": [1], "test": [3]}, "json", "leaves 1 rows to train on"),
        ({"train": [1, 2.5], "test": [3]}, "json", r"train\[1\] is 2.5"),
        ({"train": [1.5], "test": [3]}, "npz", "train is float64"),
        ([1, 2], "json", "is no object of lists"),
        ({}, "json", "names no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(arrays, tmp_path, parts, form, rule):
    with pytest.raises(DataError, match=rule) as caught:
        load(DataConfig(name=arrays, indices=written(tmp_path, parts, form)))
    assert caught.value.key == "data.indices"


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("split.json", '{"train": [1,\n2', "line 2: "),
        ("split.csv", "id,part\n1,train\n2\n", "line 3 has 1 fields"),
        ("split.npz", "nothing", "cannot be read"),
        ("split.txt", "1", "is of no known form"),
        ("none.csv", None, "there is no such file"),
    ],
)
def test_files_that_cannot_be_read(arrays, tmp_path, name, text, rule):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=rule):
        load(DataConfig(name=arrays, indices=str(path)))


def test_two_splits_are_refused(arrays, tmp_path):
    path = written(tmp_path, PARTS, "json")
    np.savez(tmp_path / "b.npz", x=X, y=Y, part=np.full(ROWS, "train"))
    with pytest.raises(DataError, match=r"and data.split both say"):
        load(DataConfig(name=f"npz:{tmp_path / 'b.npz'}", indices=path, split="part"))
    with pytest.raises(DataError, match=r"and data.test both say"):
        load(DataConfig(name=arrays, indices=path, test=arrays.partition(":")[2]))
    with pytest.raises(DataError, match="means nothing to mnist1d"):
        load(DataConfig(name="mnist1d", indices=path))
