"""Datasets by name: sizes, digests, prefixes, and what describe promises."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from engram.data import catalog, sources
from engram.data.catalog import DataError, describe, load
from engram.data.config import DataConfig
from engram.data.dataset import digest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


BUILT_IN = [
    DataConfig(),
    DataConfig(pool_size=600, test_size=50),
    DataConfig(name="mnist1d_stream", pool_size=500),
    DataConfig(name="mnist1d_stream", test_size=70, pool_size=100),
    DataConfig(name="digits"),
    DataConfig(name="digits", pool_size=100, test_size=200),
]


@pytest.mark.parametrize("config", BUILT_IN, ids=str)
def test_describe_says_what_load_gives(config, cache):
    dataset, facts = load(config, cache=cache), describe(config, cache=cache)
    assert dataset.facts == facts
    assert dataset.inputs.shape[1:] == facts.shape
    assert dataset.test_inputs.shape == (facts.test, *facts.shape)
    assert facts.pool is None or facts.pool == len(dataset.inputs) == len(dataset.targets)
    assert dataset.inputs.dtype == np.float32
    assert dataset.targets.dtype == np.int64
    assert set(dataset.targets) <= set(range(10))
    assert dataset.inputs.flags.c_contiguous
    assert dataset.digest == digest(
        [dataset.inputs, dataset.targets, dataset.test_inputs, dataset.test_targets]
    )
    assert load(config, cache=cache).digest == dataset.digest


@pytest.mark.parametrize("name", ["mnist1d", "mnist1d_stream", "digits"])
def test_a_smaller_pool_is_a_prefix_and_the_test_set_stays(name, cache):
    config = DataConfig(name=name)
    large, small = (load(config, pool_size=size, cache=cache) for size in (900, 300))
    np.testing.assert_array_equal(large.inputs[:300], small.inputs)
    np.testing.assert_array_equal(large.targets[:300], small.targets)
    np.testing.assert_array_equal(large.test_inputs, small.test_inputs)
    assert large.digest != small.digest


def test_the_published_set_has_one_digest(cache):
    expected = "70116abcfe53"
    assert load(DataConfig(), cache=cache).digest.startswith(expected)


def test_the_seed_moves_generated_data_only(cache):
    stream = DataConfig(name="mnist1d_stream", pool_size=50)
    assert load(stream, seed=1).digest != load(stream, seed=2).digest
    digits = DataConfig(name="digits")
    assert load(digits, seed=1).digest == load(digits, seed=2).digest


def test_pool_and_test_stream_share_nothing():
    dataset = load(DataConfig(name="mnist1d_stream", pool_size=2000, test_size=2000))
    rows = np.concatenate([dataset.inputs, dataset.test_inputs])
    assert len(np.unique(rows, axis=0)) == 4000


def test_digits_are_all_there_once_in_zero_to_one():
    from sklearn.datasets import load_digits

    dataset = load(DataConfig(name="digits"))
    rows = np.concatenate([dataset.inputs, dataset.test_inputs])
    assert rows.shape == (1797, 8, 8)
    assert dataset.kind == "image"
    assert rows.min() == 0
    assert rows.max() == 1
    ours = np.sort(rows.reshape(1797, 64).view("S256").ravel())
    theirs = np.sort((load_digits().data / 16).astype(np.float32).view("S256").ravel())
    np.testing.assert_array_equal(ours, theirs)
    assert np.bincount(dataset.test_targets, minlength=10).min() >= 15


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("mnist1dd", "mnist1d?"),
        ("digit", "digits?"),
        ("mnist", "mnist1d"),
        ("openml:", "openml:NAME"),
        (":x", "package.module:function"),
        ("nosuchmodule:make", "package.module:function"),
    ],
)
def test_an_unknown_name_is_told_the_right_ones(name, fix):
    for ask in (load, describe):
        with pytest.raises(DataError) as caught:
            ask(DataConfig(name=name))
        assert caught.value.key == "data.name"
        assert caught.value.value == name
        assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["mnist1d", "digits"])
@pytest.mark.parametrize("key", ["pool_size", "test_size"])
def test_more_than_there_is_says_how_much_there_is(name, key, cache):
    config = DataConfig.model_validate({"name": name, key: 5000})
    with pytest.raises(DataError) as caught:
        load(config, cache=cache)
    assert caught.value.key == f"data.{key}"
    with pytest.raises(DataError):
        describe(config, cache=cache)


def test_an_error_survives_pickling():
    error = DataError("data.name", "x", "is wrong", "mend it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "data.name = x: is wrong\n    mend it"
    assert (again.key, again.value, again.rule, again.fix) == (
        "data.name",
        "x",
        "is wrong",
        "mend it",
    )


def test_digest_sees_type_shape_and_value():
    base = np.arange(6, dtype=np.float32)
    others = [base.reshape(2, 3), base.astype(np.float64), base + 1]
    assert len({digest([array]) for array in [base, *others]}) == 4
    assert digest([base[::2]]) == digest([base[::2].copy()])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside the repository")
def test_real_mnist_files():
    dataset = load(DataConfig(name=f"idx:{SHARED / 'mnist'}"))
    assert dataset.facts == catalog.Facts(8333, 1667, (28, 28), 10, "image", False)
    assert dataset.inputs.max() == 1
    counts = np.bincount(dataset.targets) + np.bincount(dataset.test_targets)
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_what_the_driver_keeps_of_a_dataset_has_its_shapes_and_no_example(cache):
    whole = load(DataConfig(pool_size=600, test_size=50), cache=cache)
    kept = whole.without_pool()
    assert kept.inputs.nbytes == kept.targets.nbytes == 0
    assert kept.inputs.base is None, "a view would hold the whole pool"
    assert kept.inputs.shape[1:] == whole.inputs.shape[1:]
    assert (kept.digest, kept.classes, kept.kind) == (whole.digest, whole.classes, whole.kind)
    assert np.array_equal(kept.test_inputs, whole.test_inputs)


@pytest.mark.parametrize("source", [*sources.SOURCES, sources.OWN], ids=lambda s: s.form)
def test_every_row_of_the_table_has_its_reader_and_is_told(source):
    assert callable(sources.function(source.reader))
    if source.facts:
        assert callable(sources.function(source.facts))
    assert source.form in str(DataConfig.model_fields["name"].description)
    documented = (ROOT / "docs" / "data.md").read_text()
    assert f"`{source.form}`" in documented


def test_what_is_not_in_the_table_is_refused():
    with pytest.raises(sources.UnknownDataset, match="did you mean csv:FILE"):
        sources.find("csv")
    assert sources.find("my.loader:make") is sources.OWN
