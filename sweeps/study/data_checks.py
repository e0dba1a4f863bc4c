"""What the data and the model class themselves object to: sizes, files, imports.

The one check that opens files and imports the user's code; still writes nothing but a download.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engram.data.config import DataConfig
from engram.problems import Problem
from engram.sweeps.state import paths
from engram.sweeps.study import metric_checks, own_code
from engram.sweeps.study.configuration import LARGEST_GRID, Study
from engram.sweeps.study.sections import Scalar, Values

if TYPE_CHECKING:
    from engram.data.dataset import DataError, Facts

# How a dataset is used, which leaves its files and shapes alone.
NOT_THE_SOURCE = {
    "train_size": 1,
    "validation": 0,
    "label_noise": 0.0,
    "random_labels": False,
    "augmentation": "none",
}


def check_data(study: Study) -> list[Problem]:
    """The problems of every distinct data section of the study, then those of its model classes."""
    from engram.data import catalog, subsets

    own_code.make_importable(study)
    problems: list[Problem] = []
    described: dict[DataConfig, Facts | None] = {}
    for config in _data_configurations(study):
        source = config.model_copy(update=NOT_THE_SOURCE)
        try:
            if source not in described:
                described[source] = None
                described[source] = catalog.describe(source, cache=_download_cache(source))
            facts = described[source]
            if facts is not None:  # else reported already
                subsets.check(config, study.replicas, facts)
        except catalog.DataError as error:
            problems.append(_problem(study, config, error))
    facts = next((facts for facts in described.values() if facts is not None), None)
    problems += _check_family(study, facts)
    return problems + list(metric_checks.problems(study, facts))


def _problem(study: Study, config: DataConfig, error: DataError) -> Problem:
    section, _, name = error.key.partition(".")
    value = getattr(config, name, None) if section == "data" else error.value
    rule = f"cannot be used: {error.rule}"
    return Problem(study.place(error.key, value), rule, error.fix, error.key, error.value)


def _download_cache(config: DataConfig) -> Path | None:
    """Downloads are kept, or the run would fetch them once more; nothing else is written here."""
    return paths.cache_dir() if config.name.startswith("openml:") else None


def _data_configurations(study: Study) -> Iterator[DataConfig]:
    """Each distinct data section of the study; of a distribution, its two ends."""
    axes: dict[str, tuple[Scalar, ...]] = {
        key: axis.values if isinstance(axis, Values) else (axis.low, axis.high)
        for key, axis in study.sweep.items()
        if key.startswith("data.")
    }
    chosen: Iterable[tuple[Scalar, ...]] = itertools.product(*axes.values())
    if study.cases:
        chosen = (tuple(point[key] for key in axes) for point in study.grid())
    base = study.data.model_dump()
    names = [key.removeprefix("data.") for key in axes]
    for values in dict.fromkeys(itertools.islice(chosen, LARGEST_GRID)):
        yield DataConfig(**{**base, **dict(zip(names, values, strict=True))})


def _check_family(study: Study, facts: Facts | None) -> Iterator[Problem]:
    for family in _families(study):
        wrong = _class_misfit(family)
        if wrong is None and facts is not None:
            wrong = _build_misfit(study, family, facts)
        if wrong:
            yield Problem(study.place("model.family", family), *wrong, "model.family", family)


def _families(study: Study) -> list[str]:
    """The import paths among the families of the study."""
    axis = study.sweep.get("model.family")
    families = axis.values if isinstance(axis, Values) else (study.model.family,)
    return [str(family) for family in families if ":" in str(family)]


def _build_misfit(study: Study, family: str, facts: Facts) -> tuple[str, str] | None:
    from engram.models.family import build

    config = study.model.model_copy(update={"family": family})
    try:
        build(config, facts.shape, facts.classes or 1, facts.kind == "image")
    except Exception as error:  # whatever the user's class raises
        fix = f"it is called as Class({facts.shape}, {facts.classes or 1}) and as much of width, depth, activation, dropout as it takes"
        return f"cannot be built: {type(error).__name__}: {error}", fix
    return None


def _class_misfit(path: str) -> tuple[str, str] | None:
    from torch import nn

    found, wrong = own_code.find(path)
    if wrong is not None:
        return wrong
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        return "is no class of modules", "name a subclass of torch.nn.Module"
    return None
