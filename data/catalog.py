"""Datasets by name: what `data.name` may say, and the pool and test set that each name gives.

Sources turn a name into arrays; `data.tidy` checks, orders and splits them. Nothing here knows of
replicas or trials.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engram.data import mnist1d
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import DataError, Dataset, Facts, assemble
from engram.data.subsets import pool_needed
from engram.data.tidy import Raw, check_size, cut, tidy

STREAM_TEST = 1000  # test examples of a stream, unless data.test_size says otherwise


def load(
    config: DataConfig,
    *,
    pool_size: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> Dataset:
    """The pool, with validation not yet held out, and the test set. Raises DataError.

    pool_size: examples in the pool, instead of config.pool_size (a study asks once for the most
    that any trial needs). The order is fixed, so a smaller pool is a prefix of a larger one.
    seed: of generated data; files and published sets do not depend on it.
    cache: folder for what was downloaded or built; None keeps nothing.
    """
    size = config.pool_size if pool_size is None else pool_size
    if config.name == "mnist1d":
        x, y, x_test, y_test = mnist1d.canonical(cache)
        whole = assemble(
            "mnist1d", (x, y), (x_test, y_test), classes=mnist1d.CLASSES, kind="sequence"
        )
        return cut(whole, size, config.test_size)
    if config.name == "mnist1d_stream":
        if size is None:
            size = pool_needed(config.train_size, config.validation, ReplicasConfig())
        pool = mnist1d.stream(size, seed)
        test = mnist1d.stream(config.test_size or STREAM_TEST, seed, mnist1d.TEST_STREAM)
        return assemble(
            config.name, pool, test, classes=mnist1d.CLASSES, kind="sequence", generated=True
        )
    found = _source(config)(config, cache)
    if isinstance(found, Dataset):
        return cut(found, size, config.test_size)
    return tidy(found, config, size)


def describe(config: DataConfig, *, cache: Path | None = None) -> Facts:
    """Sizes and kind: at once for mnist1d and its stream, otherwise by loading the data.

    Raises the DataError that load would raise. Facts.pool is the pool after data.pool_size.
    """
    if config.name == "mnist1d_stream":
        test = config.test_size or STREAM_TEST
        return Facts(None, test, (mnist1d.LENGTH,), mnist1d.CLASSES, "sequence", True)
    if config.name == "mnist1d":
        pool, test = mnist1d.POOL, mnist1d.TEST
        check_size("data.pool_size", config.pool_size, pool, "mnist1d")
        check_size("data.test_size", config.test_size, test, "mnist1d")
        pool, test = config.pool_size or pool, config.test_size or test
        return Facts(pool, test, (mnist1d.LENGTH,), mnist1d.CLASSES, "sequence", False)
    return load(config, cache=cache).facts


Source = Callable[[DataConfig, Path | None], Raw | Dataset]


def _source(config: DataConfig) -> Source:
    """The function behind data.name; its imports wait until then."""
    prefix, colon, rest = config.name.partition(":")
    if config.name == "digits":
        return _digits
    if not (prefix and colon and rest):
        names = ["mnist1d", "mnist1d_stream", "digits"]
        near = difflib.get_close_matches(config.name, names, 1)
        raise DataError(
            "data.name",
            config.name,
            "is no dataset" if not (prefix and colon) else f"names nothing after {prefix}:",
            (f"did you mean {near[0]}? " if near else "")
            + "Write mnist1d, mnist1d_stream, digits, openml:NAME, idx:DIR, npz:FILE, csv:FILE, "
            "parquet:FILE or package.module:function",
        )
    if prefix == "openml":
        from engram.data import openml

        return openml.source
    from engram.data import files

    by_prefix: dict[str, Any] = {
        "idx": files.idx,
        "npz": files.npz,
        "csv": files.csv,
        "parquet": files.parquet,
    }
    return by_prefix.get(prefix, files.function)


def _digits(config: DataConfig, cache: Path | None) -> Raw:
    """scikit-learn's 1797 digits of 8x8 pixels in 0..16, brought to [0, 1]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Raw(found.images / 16, found.target, kind="image")
