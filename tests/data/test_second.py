"""A second file as the test set, for every source that reads files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from engram.data.catalog import load
from engram.data.config import DataConfig
from engram.data.dataset import DataError

POOL, TEST = 60, 24
GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.integers(0, 256, (POOL + TEST, 4, 4)).astype(np.uint8), np.arange(POOL + TEST) % 3


def npz(folder: Path, rows: slice, **more) -> tuple[str, Path]:
    path = folder / f"{rows.start}.npz"
    np.savez(path, x=X[rows], y=Y[rows], ids=np.arange(POOL + TEST)[rows], **more)
    return "npz", path


def npy(folder: Path, rows: slice) -> tuple[str, Path]:
    path = folder / str(rows.start)
    path.mkdir(exist_ok=True)
    np.save(path / "x.npy", X[rows])
    np.save(path / "y.npy", Y[rows])
    return "npy", path


def idx(folder: Path, rows: slice) -> tuple[str, Path]:
    path = folder / str(rows.start)
    path.mkdir(exist_ok=True)
    for name, array in (("images-idx3", X[rows]), ("labels-idx1", Y[rows].astype(np.uint8))):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (path / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    return "idx", path


def images(folder: Path, rows: slice) -> tuple[str, Path]:
    pillow = pytest.importorskip("PIL.Image")
    path = folder / str(rows.start)
    for row in range(rows.start, rows.stop):
        (path / f"class{Y[row]}").mkdir(parents=True, exist_ok=True)
        pillow.fromarray(X[row]).save(path / f"class{Y[row]}" / f"{row}.png")
    return "images", path


def parquet(folder: Path, rows: slice) -> tuple[str, Path]:
    pytest.importorskip("pyarrow")
    path = folder / f"{rows.start}.parquet"
    pd.DataFrame({"x": [row.tolist() for row in X[rows] / 255], "y": Y[rows]}).to_parquet(path)
    return "parquet", path


FORMS = [npz, npy, idx, images, parquet]
FIRST, SECOND = slice(0, POOL), slice(POOL, POOL + TEST)


def said(form, first: Path, second: Path, **keys) -> DataError:
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=f"{form}:{first}", test=str(second), **keys))
    return caught.value


@pytest.mark.parametrize("make", FORMS)
def test_the_second_file_is_the_test_set_and_nothing_of_the_first_is(tmp_path, make):
    form, first = make(tmp_path, FIRST)
    _, second = make(tmp_path, SECOND)
    made = load(DataConfig(name=f"{form}:{first}", test=str(second)))
    assert (len(made.inputs), len(made.test_inputs)) == (POOL, TEST)
    scaled = X.reshape(len(X), -1) / np.float32(255)
    pool, test = made.inputs.reshape(POOL, -1), made.test_inputs.reshape(TEST, -1)
    order = np.lexsort(scaled[:POOL].T)
    np.testing.assert_allclose(pool[np.lexsort(pool.T)], scaled[:POOL][order], atol=1e-6)
    order = np.lexsort(scaled[POOL:].T)
    found = np.lexsort(test.T)
    np.testing.assert_allclose(test[found], scaled[POOL:][order], atol=1e-6)
    np.testing.assert_array_equal(made.test_targets[found], Y[POOL:][order])


@pytest.mark.parametrize("make", FORMS)
def test_a_second_file_that_is_not_there_is_refused_at_its_key(tmp_path, make):
    form, first = make(tmp_path, FIRST)
    error = said(form, first, tmp_path / "none")
    assert (error.key, error.value) == ("data.test", str(tmp_path / "none"))


def test_ids_and_groups_of_the_second_file_come_along(tmp_path):
    sites = np.arange(POOL + TEST) // 6
    form, first = npz(tmp_path, FIRST, site=sites[FIRST])
    _, second = npz(tmp_path, SECOND, site=sites[SECOND])
    made = load(DataConfig(name=f"{form}:{first}", test=str(second), groups="site"))
    np.testing.assert_array_equal(Y[made.test_ids], made.test_targets)
    assert made.test_ids.min() == POOL
    npz(tmp_path, SECOND, site=sites[:TEST])
    error = said(form, first, second, groups="site")
    assert "groups are in both pool and test set" in error.rule


def test_two_test_sets_and_other_shapes_are_refused(tmp_path):
    form, first = npz(tmp_path, FIRST)
    both = tmp_path / "both.npz"
    np.savez(both, x=X[FIRST], y=Y[FIRST], x_test=X[SECOND], y_test=Y[SECOND])
    np.savez(first, x=X[FIRST], y=Y[FIRST])
    for one, other in ((both, first), (first, both)):
        error = said(form, one, other)
        assert (error.key, "has one of its own" in error.rule) == ("data.test", True)
    wide = tmp_path / "wide.npz"
    np.savez(wide, x=X[SECOND][:, :2], y=Y[SECOND])
    assert "examples of shape (2, 4)" in said(form, first, wide).rule
