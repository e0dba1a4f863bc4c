"""MNIST-1D: the published examples rebuilt, and the stream against the package's own functions."""

import hashlib
import random
import time

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from engram.data import mnist1d


@pytest.fixture(scope="module")
def published():
    return mnist1d.canonical()


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_canonical_is_the_published_file(published):
    inputs, labels, test_inputs, _ = published
    assert inputs.shape == (4000, 40)
    assert test_inputs.shape == (1000, 40)
    assert inputs.dtype == np.float32
    assert labels.dtype == np.int64
    assert labels[:10].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1]
    digests = [sha256(array) for array in published]
    assert digests == [
        mnist1d.INPUTS_SHA256,
        mnist1d.LABELS_SHA256,
        mnist1d.TEST_INPUTS_SHA256,
        mnist1d.TEST_LABELS_SHA256,
    ]


def test_one_changed_value_is_not_the_published_file(published):
    changed = published[0].copy()
    changed[1234, 17] += 0.01
    assert mnist1d.is_published(published)
    assert not mnist1d.is_published((changed, *published[1:]))
    assert not mnist1d.is_published((published[0][:10], *published[1:]))


def test_canonical_leaves_the_global_generators_alone(published):
    np.random.seed(5)
    random.seed(5)
    expected = np.random.rand(), random.random()
    np.random.seed(5)
    random.seed(5)
    mnist1d.canonical()
    assert (np.random.rand(), random.random()) == expected


def test_second_load_is_read_from_the_cache(tmp_path, published):
    first = mnist1d.canonical(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mnist1d.npz"]
    start = time.perf_counter()
    second = mnist1d.canonical(tmp_path / "new")
    assert time.perf_counter() - start < 0.5
    for a, b, c in zip(published, first, second, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 broken"])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    (tmp_path / "mnist1d.npz").write_bytes(damage)
    mnist1d.canonical(tmp_path)
    assert mnist1d._read(tmp_path / "mnist1d.npz") is not None


def replayed(classes, per_class):
    """The random numbers that the package draws for each example, in its order."""
    drawn = []
    for label in classes:
        for _ in range(per_class):
            padding = int(np.random.rand() * 25)
            scale = np.random.rand()
            shift = np.random.choice(48)
            correlated, iid = np.random.randn(72), np.random.randn(72)
            drawn.append((label, padding, shift, scale, np.random.rand(), correlated, iid))
    return [np.array(column) for column in zip(*drawn, strict=True)]


def test_the_transformation_reproduces_all_published_examples(published):
    """Given the package's random numbers, ours gives its 5000 examples."""
    state = np.random.get_state()
    try:
        np.random.seed(42)
        values = mnist1d.transform(*replayed(range(10), 500))
        values = values[np.random.permutation(5000)].astype(np.float64)
    finally:
        np.random.set_state(state)
    values = (values - values.mean()) / values.std()
    np.testing.assert_allclose(values[:4000], published[0], atol=5e-6)
    np.testing.assert_allclose(values[4000:], published[2], atol=5e-6)


def test_templates_are_the_packages():
    from mnist1d.data import get_templates

    np.testing.assert_allclose(mnist1d._templates(), get_templates()["x"], atol=1e-15)


def test_smoothing_is_scipys(published):
    noise = np.random.default_rng(0).standard_normal((7, 72)).astype(np.float32)
    expected = gaussian_filter1d(noise.astype(np.float64), 2, axis=1)
    np.testing.assert_allclose(mnist1d._smooth(noise), expected, atol=1e-6)


def test_mean_and_sd_are_those_of_the_whole_distribution():
    """Recomputed from the tables: the noise is Gaussian and everything else is uniform."""
    signal, padded = (table.astype(np.float64) for table in mnist1d._tables())
    smooth = gaussian_filter1d(np.eye(72), 2, axis=0)
    covariance = smooth @ smooth.T
    grid = np.stack([mnist1d._interpolate(row, 40) for row in np.eye(72)])  # [72, 40]
    noise = 0.0
    for column in grid.T:
        used = np.nonzero(column)[0]
        weights = padded[:, used] * column[used]
        noise += ((weights @ covariance[np.ix_(used, used)]) * weights).sum(1).mean()
    noise = noise / 40 + mnist1d.IID_SD**2 * (grid**2).sum() / 40
    scale = 1 + mnist1d.SCALE**2 / 12
    shear = mnist1d.SHEAR**2 / 12 * (np.linspace(-0.5, 0.5, 40) ** 2).mean()
    mean = signal.mean()
    variance = scale * (signal**2).mean() + noise + shear - mean**2
    assert mean == pytest.approx(mnist1d.MEAN, abs=1e-8)
    assert np.sqrt(variance) == pytest.approx(mnist1d.SD, abs=1e-8)


def test_the_stream_has_the_distribution_of_the_package(published):
    """Class by class and position by position, against all 5000 published examples."""
    inputs, labels = mnist1d.stream(50_000, seed=7)
    theirs = np.concatenate([published[0], published[2]])
    their_labels = np.concatenate([published[1], published[3]])
    assert inputs.mean() == pytest.approx(0, abs=0.01)
    assert inputs.std() == pytest.approx(1, abs=0.01)
    p_values = []
    for label in range(10):
        ours, other = inputs[labels == label], theirs[their_labels == label]
        z = (ours.mean(0) - other.mean(0)) / np.sqrt(ours.var(0) / len(ours) + other.var(0) / 500)
        assert np.abs(z).max() < 4.5
        assert np.abs(np.cov(ours.T) - np.cov(other.T)).max() < 0.35
        p_values += [stats.ks_2samp(ours[:, j], other[:, j]).pvalue for j in range(0, 40, 4)]
    assert min(p_values) > 1e-4  # of 100 tests
    counts = np.bincount(labels, minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 9000])
def test_a_shorter_stream_is_a_prefix(size):
    whole = mnist1d.stream(10_000, seed=3)
    part = mnist1d.stream(size, seed=3)
    np.testing.assert_array_equal(part[0], whole[0][:size])
    np.testing.assert_array_equal(part[1], whole[1][:size])


def test_streams_differ_by_seed_and_number():
    inputs = [
        mnist1d.stream(500, seed, number)[0] for seed, number in [(0, 0), (1, 0), (0, 1), (1, 1)]
    ]
    for i in range(4):
        for j in range(i):
            assert not (inputs[i] == inputs[j]).all(axis=1).any()


def test_the_stream_is_fast():
    """A million take seconds; here a twentieth of it, with room for a busy machine."""
    mnist1d.stream(1, 0)
    start = time.perf_counter()
    inputs, labels = mnist1d.stream(50_000, 1)
    assert time.perf_counter() - start < 3
    assert inputs.dtype == np.float32
    assert np.isfinite(inputs).all()
    assert labels.dtype == np.int64
