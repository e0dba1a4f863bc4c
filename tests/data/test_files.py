"""A person's own data: what is read, and what each unusable file is told."""

import gzip
import struct

import numpy as np
import pandas as pd
import pytest

from engram.data.catalog import DataError, Dataset, load
from engram.data.config import DataConfig

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (60, 4))
Y = np.arange(60) % 3


def write_idx(path, array, kind=8):
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_pair(folder, part, count, suffix=""):
    folder.mkdir(exist_ok=True)
    images = RNG.integers(0, 256, (count, 6, 5)).astype(np.uint8)
    labels = (np.arange(count) % 4).astype(np.uint8)
    write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images, labels


def same_rows(ours, theirs):
    """The same rows, in whatever order."""
    ours, theirs = (np.asarray(a, np.float32).reshape(len(a), -1) for a in (ours, theirs))
    np.testing.assert_allclose(
        ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], rtol=1e-4, atol=1e-5
    )


def refused(name, **keys):
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=str(name), **keys))
    return caught.value


# IDX


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_with_both_pairs(tmp_path, suffix):
    images, _ = write_pair(tmp_path, "train", 24, suffix)
    tests, _ = write_pair(tmp_path, "t10k", 8, suffix)
    dataset = load(DataConfig(name=f"idx:{tmp_path}"))
    assert dataset.kind == "image"
    assert dataset.classes == 4
    same_rows(dataset.inputs, images / 255)
    same_rows(dataset.test_inputs, tests / 255)


def test_idx_labels_stay_with_their_images(tmp_path):
    images, labels = write_pair(tmp_path, "train", 24)
    dataset = load(DataConfig(name=f"idx:{tmp_path}", test_size=4))
    assert dataset.facts.pool == 20
    by_image = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for inputs, target in zip(dataset.inputs, dataset.targets, strict=True):
        assert by_image[np.rint(inputs * 255).astype(np.uint8).tobytes()] == target


def test_idx_faults(tmp_path):
    assert "no folder" in refused(f"idx:{tmp_path / 'none'}").rule
    assert "no IDX files" in refused(f"idx:{tmp_path}").rule
    write_pair(tmp_path, "train", 9)
    images = tmp_path / "train-images-idx3-ubyte"
    labels = tmp_path / "train-labels-idx1-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1])
    assert "announces shape (9, 6, 5)" in refused(f"idx:{tmp_path}").rule
    images.write_bytes(b"PNG!" + whole)
    assert "no IDX file" in refused(f"idx:{tmp_path}").rule
    images.write_bytes(gzip.compress(whole)[:-9])
    assert "cannot be read" in refused(f"idx:{tmp_path}").rule
    images.write_bytes(b"")
    assert "no IDX file" in refused(f"idx:{tmp_path}").rule
    images.write_bytes(whole)
    write_idx(labels, np.zeros(8, np.uint8))
    assert "x has 9 rows and y 8" in refused(f"idx:{tmp_path}").rule
    write_idx(labels, np.zeros(9, np.uint8))
    assert "one class, 0" in refused(f"idx:{tmp_path}").rule
    labels.unlink()
    error = refused(f"idx:{tmp_path}")
    assert "without its labels" in error.rule
    assert "train-labels" in error.fix
    write_pair(tmp_path, "train", 9)
    write_pair(tmp_path, "emnist-train", 9)
    assert "several files" in refused(f"idx:{tmp_path}").rule


# NPZ


def npz(path, **arrays):
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_npz_vectors_are_taken_as_they_are(tmp_path):
    dataset = load(DataConfig(name=npz(tmp_path / "a.npz", x=X, y=Y)))
    assert (dataset.kind, dataset.classes) == ("vector", 3)
    assert (len(dataset.inputs), len(dataset.test_inputs)) == (50, 10)
    same_rows(np.concatenate([dataset.inputs, dataset.test_inputs]), X)


def test_npz_with_a_test_set_kind_and_values(tmp_path):
    name = npz(tmp_path / "a.npz", x=X, y=X[:, 0], x_test=X[:9], y_test=X[:9, 0], kind="sequence")
    dataset = load(DataConfig(name=name))
    assert (dataset.kind, dataset.classes) == ("sequence", None)
    assert dataset.targets.dtype == np.float32
    np.testing.assert_array_equal(dataset.targets, dataset.inputs[:, 0])
    np.testing.assert_array_equal(dataset.test_targets, dataset.test_inputs[:, 0])
    same_rows(dataset.test_inputs, X[:9])


def test_several_values_are_each_brought_to_their_own_spread(tmp_path):
    y = X[:, :2] * [1, 1000] + [0, 5]
    name = npz(tmp_path / "a.npz", x=X, y=y, x_test=X[:9], y_test=y[:9])
    dataset = load(DataConfig(name=name))
    np.testing.assert_allclose(dataset.targets.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.targets.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(
        dataset.in_own_unit(dataset.test_targets), y[:9][dataset.test_ids], rtol=1e-4, atol=1e-3
    )
    assert "2 values to predict, each brought to mean 0 and sd 1 over the pool" in dataset.notes


@pytest.mark.parametrize("shape", [(24, 6, 6), (24, 3, 6, 6)])
def test_npz_images_of_bytes_become_zero_to_one(tmp_path, shape):
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    dataset = load(DataConfig(name=npz(tmp_path / "a.npz", x=x, y=Y[:24])))
    assert dataset.kind == "image"
    assert dataset.facts.shape == shape[1:]
    same_rows(np.concatenate([dataset.inputs, dataset.test_inputs]), x / 255)


def test_labels_of_any_sort_are_numbered_in_order(tmp_path):
    for y in (Y * 10 - 5, Y.astype(float), np.array(["a", "b", "c"])[Y], Y[:, None]):
        dataset = load(DataConfig(name=npz(tmp_path / "a.npz", x=X, y=y)))
        where = {row.tobytes(): label for row, label in zip(X.astype(np.float32), Y, strict=True)}
        assert [where[row.tobytes()] for row in dataset.inputs] == dataset.targets.tolist()
    dataset = load(DataConfig(name=npz(tmp_path / "a.npz", x=X, y=Y > 0)))
    assert dataset.classes == 2


def test_task_decides_between_classes_and_values(tmp_path):
    name = npz(tmp_path / "a.npz", x=X, y=Y)
    assert load(DataConfig(name=name, task="regression")).classes is None
    name = npz(tmp_path / "a.npz", x=X, y=Y + 0.5)
    assert load(DataConfig(name=name)).classes is None
    assert load(DataConfig(name=name, task="classification")).classes == 3


def with_value(value, row=7, column=2):
    x = X.copy()
    x[row, column] = value
    return x


BAD_ARRAYS = {
    "NaN": ({"x": with_value(np.nan), "y": Y}, "x[7, 2] is no number"),
    "inf": ({"x": with_value(np.inf), "y": Y}, "x[7, 2] is infinite"),
    "beyond float32": ({"x": with_value(1e39), "y": Y}, "x[7, 2] is infinite, or beyond float32"),
    "NaN target": ({"x": X, "y": np.where(Y == 1, np.nan, 0.5)}, "y[1] is no number (NaN); 20"),
    "NaN in test": (
        {"x": X, "y": Y, "x_test": with_value(np.nan), "y_test": Y},
        "x_test[7, 2] is no number",
    ),
    "one class": ({"x": X, "y": Y * 0}, "one class, 0"),
    "one value": ({"x": X, "y": Y * 0 + 0.5}, "all targets are the same"),
    "multi-hot": ({"x": X, "y": np.ones((60, 3)), "task": "classification"}, "one per row"),
    "lengths": ({"x": X, "y": Y[:-1]}, "x has 60 rows and y 59"),
    "test lengths": ({"x": X, "y": Y, "x_test": X, "y_test": Y[:3]}, "x_test has 60 rows"),
    "test shape": ({"x": X, "y": Y, "x_test": X[:, :3], "y_test": Y}, "shape (3,), x of (4,)"),
    "test class": ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "class 3, which y never has"),
    "half a test set": ({"x": X, "y": Y, "x_test": X}, "lacks y_test"),
    "no y": ({"x": X}, "lacks y"),
    "unknown array": ({"x": X, "y": Y, "z": Y}, "has also z"),
    "one axis": ({"x": X[:, 0], "y": Y}, "shape (60,)"),
    "five axes": ({"x": X.reshape(60, 1, 1, 2, 2), "y": Y}, "shape (60, 1, 1, 2, 2)"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, "shape (0, 4)"),
    "no features": ({"x": X[:, :0], "y": Y}, "shape (60, 0)"),
    "one target for all": ({"x": X, "y": np.float64(1)}, "y no rows"),
    "text": ({"x": X.astype(str), "y": Y}, "not numbers"),
    "complex": ({"x": X + 1j, "y": Y}, "not numbers"),
    "dates": ({"x": X, "y": Y.astype("M8[D]")}, "of type datetime64"),
    "objects": ({"x": X, "y": np.array([{}] * 60)}, "cannot be read"),
    "kind": ({"x": X, "y": Y, "kind": "audio"}, "kind is 'audio'"),
    "kind and axes": ({"x": X, "y": Y, "kind": "image"}, "image data with inputs of 2 axes"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_unusable_arrays(tmp_path, name):
    arrays, rule = BAD_ARRAYS[name]
    arrays = dict(arrays)
    task = arrays.pop("task", "auto")
    error = refused(npz(tmp_path / "a.npz", **arrays), task=task)
    assert rule in error.rule
    assert error.key == "data.name"
    assert error.fix


def test_unusable_npz_files(tmp_path):
    path = tmp_path / "a.npz"
    assert "does not exist" in refused(f"npz:{path}").rule
    assert "is a folder" in refused(f"npz:{tmp_path}").rule
    path.write_bytes(b"")
    assert "is empty" in refused(f"npz:{path}").rule
    path.write_bytes(b"no zip at all")
    assert "cannot be read" in refused(f"npz:{path}").rule
    np.savez(path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:200])
    assert "cannot be read" in refused(f"npz:{path}").rule
    with path.open("wb") as out:
        np.save(out, X)  # a single array, not an archive
    assert "cannot be read" in refused(f"npz:{path}").rule


def test_sizes_that_leave_nothing(tmp_path):
    name = npz(tmp_path / "a.npz", x=X, y=Y)
    error = refused(name, test_size=59)
    assert (error.key, error.fix) == ("data.test_size", "write at most 58")
    assert refused(name, pool_size=51).key == "data.pool_size"
    name = npz(tmp_path / "a.npz", x=X, y=(np.arange(60) < 2).astype(int))
    assert "one class" in refused(name, pool_size=2).rule


def test_whole_numbers_that_look_like_values(tmp_path):
    error = refused(npz(tmp_path / "a.npz", x=X, y=np.arange(60) * 1000))
    assert error.key == "data.task"
    assert "task: regression" in error.fix


# CSV, Parquet and Arrow


def frame(**more):
    columns = {f"f{i}": X[:, i] for i in range(4)}
    return pd.DataFrame({**columns, **more})


def test_tables_are_standardized_over_the_pool(save):
    dataset = load(DataConfig(name=save(frame(label=np.array(["no", "yes"])[Y % 2]))))
    assert (dataset.kind, dataset.classes) == ("vector", 2)
    np.testing.assert_allclose(dataset.inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(dataset.inputs.std(0), 1, atol=1e-5)
    again = load(DataConfig(name=dataset.name, pool_size=20))
    np.testing.assert_array_equal(again.inputs, dataset.inputs[:20])
    scaled = np.concatenate([dataset.inputs, dataset.test_inputs])
    raw = X[np.argsort(X[:, 0])]
    scaled = scaled[np.argsort(scaled[:, 0])]
    for j in range(4):
        assert abs(np.corrcoef(raw[:, j], scaled[:, j])[0, 1]) == pytest.approx(1, abs=1e-6)


def test_tables_of_values_and_a_named_target(save):
    name = save(frame(label=Y))
    dataset = load(DataConfig(name=name, target="f1"))
    assert dataset.classes is None
    assert dataset.targets.std() == pytest.approx(1, abs=1e-5)
    assert dataset.inputs.shape[1] == 4
    assert load(DataConfig(name=name)).classes == 3


def test_a_constant_column_becomes_zero(save):
    dataset = load(DataConfig(name=save(frame(same=np.full(60, 7.1), label=Y))))
    np.testing.assert_array_equal(dataset.inputs[:, 4], 0)


def test_truth_values_and_nullable_numbers(tmp_path):
    table = frame(flag=Y > 0, label=pd.array(Y, dtype="Int64"))
    table.to_parquet(tmp_path / "a.parquet")
    dataset = load(DataConfig(name=f"parquet:{tmp_path / 'a.parquet'}"))
    assert dataset.classes == 3
    assert len(np.unique(dataset.inputs[:, 4])) == 2


def test_unusable_tables(save):
    csv = "csv:" in save(frame(label=Y))
    first, fifth = ("line 2", "line 7") if csv else ("row 0", "row 5")
    row = 5
    holed = frame(label=Y)
    holed.loc[row, "f2"] = np.nan
    assert f"{fifth}, column 'f2' is no number" in refused(save(holed)).rule
    holed.loc[row, "f2"] = -np.inf
    assert f"{fifth}, column 'f2' is infinite" in refused(save(holed)).rule
    text = refused(save(frame(word=["a"] * 60, label=Y)), categories="none")
    assert text.rule == f"column 'word' is not numeric: 'a' in {first}"
    targetless = frame(label=Y.astype(float))
    targetless.loc[row, "label"] = np.nan
    assert f"{fifth} has no target" in refused(save(targetless)).rule
    error = refused(save(frame(label=Y)), target="price")
    assert error.key == "data.target"
    assert "f0, f1, f2, f3, label" in error.fix
    assert "one class" in refused(save(frame(label=[1] * 60))).rule
    assert "0 rows" in refused(save(frame(label=Y)[:0])).rule
    assert "1 columns" in refused(save(frame()[["f0"]])).rule
    error = refused(save(frame(label=["x", "y"] * 30)), task="regression")
    assert error.key == "data.task"
    assert "text such as" in error.rule


def test_unusable_csv_files(tmp_path):
    path = tmp_path / "a.csv"
    assert "does not exist" in refused(f"csv:{path}").rule
    path.write_bytes(b"")
    assert "is empty" in refused(f"csv:{path}").rule
    path.write_text("a,b\n1,2\n1,2,3,4\n")
    assert "line 3 has 4 fields, and the names are 2; 1 such row" in refused(f"csv:{path}").rule
    path.write_bytes(b"a,b\n\xff\xfe,2\n")
    assert "cannot be read" in refused(f"csv:{path}").rule
    np.savetxt(path, np.column_stack([X, Y]), delimiter=",")
    assert "first line is numbers" in refused(f"csv:{path}").rule


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_unusable_file_of_columns(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"PAR1 and nothing more")
    error = refused(f"{kind}:{path}")
    assert "cannot be read" in error.rule
    assert error.fix == f"save it as {kind.capitalize()}"


# package.module:function

MODULE = """
import numpy as np
from PIL import Image
from engram.data.dataset import Dataset, assemble

x, y = np.arange(80.0).reshape(20, 4), np.arange(20) % 2

def pair(): return x, y
def four(): return x, y, x + 1, y
def mapping(): return {"x": x, "y": y, "kind": "sequence"}
rows = np.arange(20)

class Items:
    # As torch's Dataset and that of Hugging Face: a length, and item i.
    def __init__(self, item, count=20): self.item, self.count = item, count
    def __len__(self): return self.count
    def __getitem__(self, i): return self.item(i)

def torch_dataset():
    import torch
    return torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
def hub_dataset(): return Items(lambda i: {"image": Image.fromarray(pictures[i]), "label": y[i]})
def hub_parts(): return {"train": Items(lambda i: (x[i], y[i])), "test": Items(lambda i: (x[i], y[i]), 6)}
def triples(): return Items(lambda i: (x[i], y[i], 0))
def ragged(): return Items(lambda i: (x[i][:4 - i % 2], y[i]))
def columns(): return Items(lambda i: {"a": x[i], "b": x[i], "label": y[i]})
pictures = (np.arange(20 * 6 * 5 * 3) % 251).reshape(20, 6, 5, 3).astype(np.uint8)
def both(i): return {"image": pictures[i], "meta": x[i]}
def inputs(): return Items(lambda i: (both(i), y[i]))
def mapped(): return {"x": both(rows), "y": y}
def ahead():
    from dataclasses import replace
    from engram.data.dataset import Tokens
    made = assemble("mine", (steps, steps), (steps, steps), classes=9, kind="tokens")
    return replace(made, targets=np.where(steps > 7, -1, steps), tokens=Tokens(tuple("abcdefghi"), every_step=True))
steps = np.arange(80).reshape(20, 4) % 9
def grouped(): return {"x": x, "y": y, "ids": rows + 7, "patient": rows // 4}
def timed(): return {"x": x, "y": y, "day": -rows}
def visits(): return {**grouped(), **timed()}
def lists(): return x.tolist(), y.tolist()
def dataset(): return assemble("mine", (x, y), (x, y), classes=2, kind="vector")
def untrue(): return Dataset("mine", x, y, x, y, 1, "vector", "", False)
def oneclass(): return Dataset("mine", x, y * 0, x, y, 2, "vector", "", False)
def hidden(y): return Dataset("mine", x, y, x, y, None, "vector", "")
def whole(): return hidden(y)
def onehot(): return hidden(np.eye(2)[y])
def shares(): return hidden(np.full((20, 2), 0.5))
def single(): return x
def three(): return x, y, x
def failing(): raise RuntimeError("no luck")
constant = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "brought_data.py").write_text(MODULE)
    (tmp_path / "broken_data.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    return "brought_data"


@pytest.mark.parametrize("name", ["whole", "onehot", "shares"])
def test_a_dataset_whose_values_look_like_classes_is_refused_unless_asked_for(module, name):
    with pytest.raises(DataError, match=r"data.task = auto: y "):
        load(DataConfig(name=f"{module}:{name}"))
    assert load(DataConfig(name=f"{module}:{name}", task="regression")).classes is None


@pytest.mark.parametrize("name", ["pair", "four", "mapping", "lists", "dataset"])
def test_a_persons_function(module, name):
    dataset = load(DataConfig(name=f"{module}:{name}"))
    assert isinstance(dataset, Dataset)
    assert dataset.classes == 2
    assert len(dataset.digest) == 64
    assert dataset.kind == ("sequence" if name == "mapping" else "vector")


def test_map_style_datasets_are_taken_as_they_are(module):
    x, y = np.arange(80.0).reshape(20, 4), np.arange(20) % 2
    made = load(DataConfig(name=f"{module}:torch_dataset"))
    np.testing.assert_array_equal(made.inputs, x[made.ids])
    np.testing.assert_array_equal(made.targets, y[made.ids])
    made = load(DataConfig(name=f"{module}:hub_dataset"))
    assert made.facts.shape == (3, 6, 5)
    assert made.inputs.max() <= 1
    np.testing.assert_array_equal(made.targets, y[made.ids])
    made = load(DataConfig(name=f"{module}:hub_parts"))
    assert (len(made.inputs), len(made.test_inputs)) == (20, 6)
    assert "item 0 of the dataset is tuple, no pair" in refused(f"{module}:triples").rule
    assert "item 1 of the dataset has shape (3,)" in refused(f"{module}:ragged").rule
    assert "has the columns a, b, label" in refused(f"{module}:columns").rule


def test_several_inputs_are_given_by_name(module):
    for name in ("inputs", "mapped"):
        made = load(DataConfig(name=f"{module}:{name}"))
        assert [member.name for member in made.members] == ["image", "meta"]
    assert "({name: input, ...}, target)" in refused(f"{module}:columns").fix


def test_positions_of_a_dataset_may_have_no_target(module):
    made = load(DataConfig(name=f"{module}:ahead"))
    assert made.every_step
    assert (made.targets == -1).sum() == 8  # those above 7, of 80
    assert not made.tokens.padded


def test_arrays_of_a_function_name_ids_groups_and_times(module):
    assert "has also patient, day" in refused(f"{module}:visits").rule
    name = f"{module}:visits"
    with pytest.raises(DataError, match="has no such array"):
        load(DataConfig(name=name, groups="person"))
    with pytest.raises(DataError, match="has also day"):
        load(DataConfig(name=name, groups="patient"))
    parted = load(DataConfig(name=name.replace("visits", "grouped"), groups="patient"))
    rows, tested = (part[:, 0].astype(int) // 4 for part in (parted.inputs, parted.test_inputs))
    assert not set(rows // 4) & set(tested // 4)
    np.testing.assert_array_equal(parted.ids, rows + 7)
    ordered = load(DataConfig(name=name.replace("visits", "timed"), order="day"))
    assert ordered.test_inputs.max() < ordered.inputs.min()  # the first rows are the latest


def test_a_persons_dataset_keeps_its_order(module):
    dataset = load(DataConfig(name=f"{module}:dataset", pool_size=6))
    np.testing.assert_array_equal(dataset.inputs, np.arange(24.0).reshape(6, 4))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("untrue", "labels from 0 to 1; classes = 1"),
        ("oneclass", "all rows are of class 0"),
        ("single", "returned ndarray"),
        ("three", "returned tuple"),
        ("failing", "RuntimeError('no luck')"),
        ("constant", "is int, no function"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_unusable_functions(module, name, rule):
    assert rule in refused(f"{module}:{name}").rule


def test_unusable_modules(module):
    assert "no module nowhere" in refused("nowhere.at_all:f").rule
    assert "ZeroDivisionError" in refused("broken_data:f").rule
