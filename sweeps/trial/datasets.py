"""The datasets of a study: each loaded once, large enough for every trial."""

from __future__ import annotations

from engram.data import catalog, sources, subsets
from engram.data.config import DataConfig
from engram.data.dataset import Dataset
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import Values

Unsuitable = catalog.DataError
# The keys that make two datasets of one name differ.
SOURCE = tuple(key for key in DataConfig.model_fields if key not in ("name", *catalog.USE))


def key(config: DataConfig) -> str:
    """What tells one dataset of a study from another: where it is from, not how it is used."""
    plain = DataConfig(name=config.name)
    parts = [f"{k}={getattr(config, k)}" for k in SOURCE if getattr(config, k) != getattr(plain, k)]
    return " ".join([config.name, *parts])


def load(study: Study) -> dict[str, Dataset]:
    """{key: dataset} for every data source in the study, generated ones at the largest size it sweeps to."""
    found: dict[str, Dataset] = {}
    for config in _sources(study):
        if key(config) not in found:
            found[key(config)] = catalog.load(
                config,
                pool_size=_pool_size(study, config),
                seed=study.replicas.seed,
                cache=paths.cache_dir(),
            )
    return found


def _sources(study: Study) -> list[DataConfig]:
    """The data sections that differ in their source."""
    configs = [study.data]
    for name in ("name", *SOURCE):
        axis = study.sweep.get(f"data.{name}")
        if isinstance(axis, Values):
            configs = [c.model_copy(update={name: value}) for c in configs for value in axis.values]
    return configs


def _pool_size(study: Study, config: DataConfig) -> int | None:
    """Examples to generate: as the study says, or as many as its largest trial needs; None: all there are."""
    if config.pool_size is not None or not sources.find(config.name).generated:
        return config.pool_size
    largest, validation = int(study.largest("data.train_size")), study.largest("data.validation")  # type: ignore[arg-type]
    return subsets.pool_needed(largest, validation, study.replicas)  # type: ignore[arg-type]
