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

# How a dataset is used, which leaves alone what is read.
USE = ("train_size", "validation", "label_noise", "random_labels", "augmentation", "canaries")
_Key = tuple[DataConfig, int | None, tuple[tuple[str, int, int], ...]]
# A study is described before it is loaded, and decoding 60,000 pictures twice takes its time: what
# was read last from files waits here until it is asked for, and its facts stay.
_waiting: dict[_Key, Dataset] = {}
_known: dict[_Key, Facts] = {}


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
    key = _key(config, source, size)
    if key is not None and key in _waiting:
        return _waiting.pop(key)
    found = sources.function(source.reader)(config, sources.Asked(size, seed, cache))
    if not isinstance(found, Dataset):
        return tidy(found, config, size)
    return found if found.generated else cut(found, size, config.test_size)


def describe(config: DataConfig, *, cache: Path | None = None) -> Facts:
    """Sizes and kind: at once where the source knows them, otherwise by loading the data.

    Raises the DataError that load would raise. Facts.pool is the pool after data.pool_size.
    """
    source = _source(config)
    if source.facts:
        facts: Facts = sources.function(source.facts)(config)
        return facts
    key = _key(config, source, config.pool_size)
    if key is not None and key in _known:
        return _known[key]
    found = load(config, cache=cache)
    if key is not None:
        _waiting.clear()
        _waiting[key] = found
        _known[key] = found.facts
    return found.facts


def _key(config: DataConfig, source: sources.Source, size: int | None) -> _Key | None:
    """What was read, and from which state of the files; None for what is not from files."""
    if not source.files:
        return None
    paths = [Path(config.name.partition(":")[2]).expanduser()]
    if config.test is not None:
        paths.append(Path(config.test).expanduser())
    if config.indices is not None:
        paths.append(Path(config.indices).expanduser())
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
    ]
    states = []
    for file in files:
        if not file.exists():
            return None
        state = file.stat()
        states.append((str(file.absolute()), state.st_mtime_ns, state.st_size))
    plain = {name: DataConfig.model_fields[name].default for name in USE}
    return config.model_copy(update={**plain, "pool_size": None}), size, tuple(states)


def _source(config: DataConfig) -> sources.Source:
    try:
        source = sources.find(config.name)
    except sources.UnknownDataset as error:
        raise DataError("data.name", config.name, error.rule, error.fix) from error
    for key in sources.SPECIAL:
        value = getattr(config, key)
        if value != DataConfig.model_fields[key].default and key not in source.takes:
            forms = [s.form for s in (*sources.SOURCES, sources.OWN) if key in s.takes]
            raise DataError(
                f"data.{key}",
                value,
                f"means nothing to {source.form}",
                f"leave it out; it is for {', '.join(forms)}",
            )
    return source
