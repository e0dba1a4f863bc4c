"""Datasets by name: the pool and test set that each row of `data.sources` gives.

Readers turn a name into arrays; `data.tidy` checks, orders and splits them. Nothing here knows of
replicas or trials.
"""

from __future__ import annotations

from pathlib import Path

from engram.data import sources
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset, Facts
from engram.data.tidy import cut, tidy


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
    source = _source(config)
    found = sources.function(source.reader)(config, sources.Asked(size, seed, cache))
    if not isinstance(found, Dataset):
        return tidy(found, config, size)
    return found if found.generated else cut(found, size, config.test_size)


def describe(config: DataConfig, *, cache: Path | None = None) -> Facts:
    """Sizes and kind: at once where the source knows them, otherwise by loading the data.

    Raises the DataError that load would raise. Facts.pool is the pool after data.pool_size.
    """
    known = _source(config).facts
    facts: Facts = sources.function(known)(config) if known else load(config, cache=cache).facts
    return facts


def _source(config: DataConfig) -> sources.Source:
    try:
        return sources.find(config.name)
    except sources.UnknownDataset as error:
        raise DataError("data.name", config.name, error.rule, error.fix) from error
