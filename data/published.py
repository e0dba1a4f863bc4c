"""Datasets that need no file of a person's: MNIST-1D, its endless stream, scikit-learn's digits."""

from __future__ import annotations

from engram.data import mnist1d as source
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import Dataset, Facts, assemble
from engram.data.raw import Raw
from engram.data.sources import Asked
from engram.data.subsets import pool_needed
from engram.data.tidy import check_size

STREAM_TEST = 1000  # test examples of a stream, unless data.test_size says otherwise


def mnist1d(config: DataConfig, asked: Asked) -> Dataset:
    """The 4000 and 1000 published examples, in their published order."""
    x, y, x_test, y_test = source.canonical(asked.cache)
    classes = source.CLASSES
    return assemble("mnist1d", (x, y), (x_test, y_test), classes=classes, kind="sequence")


def mnist1d_facts(config: DataConfig) -> Facts:
    """Known without building the set."""
    pool, test = source.POOL, source.TEST
    check_size("data.pool_size", config.pool_size, pool, "mnist1d")
    check_size("data.test_size", config.test_size, test, "mnist1d")
    pool, test = config.pool_size or pool, config.test_size or test
    return Facts(pool, test, (source.LENGTH,), source.CLASSES, "sequence", False)


def mnist1d_stream(config: DataConfig, asked: Asked) -> Dataset:
    """As many as asked for, or as the default draw needs."""
    size = asked.pool_size
    if size is None:
        size = pool_needed(config.train_size, config.validation, ReplicasConfig())
    pool = source.stream(size, asked.seed)
    test = source.stream(config.test_size or STREAM_TEST, asked.seed, source.TEST_STREAM)
    return assemble(
        config.name, pool, test, classes=source.CLASSES, kind="sequence", generated=True
    )


def mnist1d_stream_facts(config: DataConfig) -> Facts:
    """The pool is as large as wanted."""
    test = config.test_size or STREAM_TEST
    return Facts(None, test, (source.LENGTH,), source.CLASSES, "sequence", True)


def digits(config: DataConfig, asked: Asked) -> Raw:
    """scikit-learn's 1797 digits of 8x8 pixels in 0..16, brought to [0, 1]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Raw(found.images / 16, found.target, kind="image")
