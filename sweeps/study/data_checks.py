"""What the data and the model class themselves object to: sizes, files, imports.

The one check that opens files and imports the user's code; still writes nothing but a download.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram.data.config import DataConfig
from engram.problems import Problem
from engram.sweeps.state import paths
from engram.sweeps.study import metric_checks, own_code
from engram.sweeps.study.configuration import LARGEST_GRID, Configuration, Study
from engram.sweeps.study.sections import Scalar, Values

if TYPE_CHECKING:
    from engram.data.dataset import DataError, Facts
    from engram.models.config import ModelConfig
    from engram.models.learners.kinds import Kind

# How a dataset is used, which leaves its files and shapes alone.
NOT_THE_SOURCE = {
    "train_size": 1,
    "validation": 0,
    "label_noise": 0.0,
    "random_labels": False,
    "augmentation": "none",
    "canaries": (),
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
    unread = _check_inputs(study, facts) + _check_right_or_wrong(study, facts)
    unread += _check_loss(study, facts)
    problems += unread or _check_family(study, facts)
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


def _check_inputs(study: Study, facts: Facts | None) -> list[Problem]:
    """Families that cannot read tokens, or several inputs an example."""
    if facts is None or (facts.tokens is None and facts.kind != "several"):
        return []
    from engram.models import family
    from engram.models.learners import kinds
    from engram.sweeps.study.trying import configurations

    found: dict[str, Problem] = {}
    for configuration in configurations(study):
        model = configuration.model
        try:
            kind = kinds.of(model.family)
            if kind is None:
                family.for_several(family.for_tokens(model, facts.tokens), facts.shape)
            elif facts.kind == "several" and not kind.several:
                raise family.ModelError(
                    f"model.family = {model.family} takes one input, and an example has several: take a network of your own "
                    "or a training function"
                )
            elif facts.every_step:
                raise family.ModelError(
                    f"model.family = {model.family} gives one answer an example, and here each position has a "
                    "target: take a network"
                )
        except family.ModelError as error:
            key, _, rest = str(error).partition(" = ")
            rule, _, fix = rest.partition(" ")[2].rpartition(": ")
            value = {"model.family": model.family, **_options(model)}[key]
            found.setdefault(str(error), Problem(study.place(key, value), rule, fix, key, value))
    return list(found.values())


def _check_right_or_wrong(study: Study, facts: Facts | None) -> list[Problem]:
    """Measures that ask whether an example is right or wrong, where it has more than one answer."""
    if facts is None or not (facts.every_step or facts.labels):
        return []
    why = "each position has a target" if facts.every_step else "each may have several labels"
    found = []
    for name in ("forgetting", "layers", "retention"):
        if getattr(study.measures, name):
            key = f"measures.{name}"
            rule = f"counts examples as right or wrong, and here {why}"
            found.append(Problem(study.place(key), rule, "set it to false", key, True))
    return found


def _check_loss(study: Study, facts: Facts | None) -> list[Problem]:
    """The loss of ordered classes, where classes have no order."""
    if (
        facts is None
        or facts.task != "classification"
        or "ordinal" not in study.taken("training.loss")
    ):
        return []
    key, rule = "training.loss", "is for ordered classes, and these have no order"
    fix = (
        "write data.task: ordinal (and data.levels, where classes are words), or take another loss"
    )
    return [Problem(study.place(key, "ordinal"), rule, fix, key, "ordinal")]


def _options(model: ModelConfig) -> dict[str, Any]:
    return {f"model.options.{name}": value for name, value in model.options.items()}


def _check_family(study: Study, facts: Facts | None) -> Iterator[Problem]:
    fine = True
    for path in _families(study):
        wrong = _class_misfit(study, path, facts)
        if wrong is not None:
            fine = False
            (rule, fix), key = wrong
            if key == "model.family":
                yield Problem(study.place(key, path), rule, fix, key, path)
            else:
                yield Problem(study.place(key), f"{key} {rule}", fix)
    if fine and facts is not None and own_pieces(study):
        from engram.sweeps.study import trying

        yield from trying.problems(study)


def own_pieces(study: Study) -> bool:
    """Whether a study trains with anything besides the families and optimizers that need no trying."""
    from engram.models.config import TrainingConfig

    default = TrainingConfig()
    plain = ("options", "loss", "label_smoothing", "class_weights", "schedule")
    changed = [
        name for name in plain if study.taken(f"training.{name}") != (getattr(default, name),)
    ]
    options = any(key.startswith(("model.options.", "training.options.")) for key in study.sweep)
    optimizers = set(study.taken("training.optimizer")) - {"sgd", "adam", "adamw"}
    model = study.model
    functions = any(":" in str(name) for name in study.taken("data.augmentation"))
    started = functions or any(value is not None for value in study.taken("model.start"))
    return bool(
        _families(study)
        or changed
        or options
        or optimizers
        or model.options
        or model.freeze
        or started
    )


def _families(study: Study) -> list[str]:
    """The import paths among the families of the study."""
    axis = study.sweep.get("model.family")
    families = axis.values if isinstance(axis, Values) else (study.model.family,)
    return [str(family) for family in families if ":" in str(family)]


def _class_misfit(
    study: Study, path: str, facts: Facts | None
) -> tuple[tuple[str, str], str] | None:
    """((rule, fix), key) of what stands between a study and the person's class; None where it can be called."""
    from engram.models import family
    from engram.models.config import SHAPE_KEYS
    from engram.models.learners import kinds

    _, wrong = own_code.find(path)
    if wrong is not None:
        return wrong, "model.family"
    try:
        kind = kinds.of(path)
    except family.ModelError as error:
        return _said(error)
    if kind is not None:
        return _learner_misfit(study, path, kind, facts)
    try:
        cls = family.user_class(path)
    except family.ModelError as error:
        first, _, fix = str(error).partition(": ")
        said = first.partition(" is ")[2] or first
        return (f"is {said}", fix or "name a subclass of torch.nn.Module"), "model.family"
    own = study.model.model_copy(update={"family": path})
    given = own.given()
    if facts is not None:
        given = family.for_several(family.for_tokens(own, facts.tokens), facts.shape).given()
    swept: dict[str, tuple[Scalar, ...]] = {}
    for key, axis in study.sweep.items():
        section, _, name = key.partition(".")
        name = name.removeprefix("options.")
        if section == "model" and (key.startswith("model.options.") or name in SHAPE_KEYS):
            swept[name] = axis.values if isinstance(axis, Values) else (axis.low, axis.high)
            given[name] = swept[name][0]
    families = study.taken("model.family")
    if any(":" not in str(other) for other in families):  # these may be said for the others
        takes = family.arguments_of(cls)
        given = {k: v for k, v in given.items() if k not in SHAPE_KEYS or k in takes}
    others = [
        {**given, name: value}
        for name, values in swept.items()
        if name in given
        for value in values
    ]
    misfit = next(filter(None, (family.misfit(cls, some) for some in [given, *others])), None)
    if misfit is None:
        return None
    name, rule, fix = misfit
    return (rule, fix), f"model.{name}" if name in SHAPE_KEYS else f"model.options.{name}"


def _said(error: Exception) -> tuple[tuple[str, str], str]:
    """A model's own complaint as a problem at the key that it begins with."""
    first, _, fix = str(error).partition("\n")
    key, _, rest = first.partition(" ")
    key = key.rstrip(":")
    if key.startswith("model.options."):
        return (rest, fix.strip()), key
    said = rest if first.startswith("model.family:") else _after_value(rest)
    return (said, fix.strip()), "model.family"


def _after_value(text: str) -> str:
    """The rule of `= 'package.module:thing' takes (a, b)`."""
    return text.split("' ", 1)[-1]


def _learner_misfit(
    study: Study, path: str, kind: Kind, facts: Facts | None
) -> tuple[tuple[str, str], str] | None:
    """The same for a learner, in every setting that the study has for it."""
    from engram.models.config import SHAPE_KEYS
    from engram.models.families import ModelError
    from engram.models.learners import kinds
    from engram.models.named import imported

    thing = imported(path, "model.family")
    seen: set[str] = set()
    for configuration in learners_of(study):
        model = configuration.model
        if model.family != path or model.model_dump_json() in seen:
            continue
        seen.add(model.model_dump_json())
        if model.start is not None or model.freeze:
            rule = "start from given weights, or freeze any, as a network does"
            return (f"cannot {rule}", "take model.start and model.freeze away"), "model.family"
        if configuration.data.augmentation != "none":
            fix = "set data.augmentation: none, or augment in your own code"
            return ("is given examples as they are, without augmentation", fix), "model.family"
        said = {k: v for k, v in model.given().items() if k in SHAPE_KEYS}
        given = kinds.given(thing, said, model.options)
        try:
            if facts is not None:
                kinds.checked(kind, thing, given, facts.classes, facts.labels)
        except ModelError as error:
            return _said(error)
    return _without_effect(study, path, kind)


def _without_effect(study: Study, path: str, kind: Kind) -> tuple[tuple[str, str], str] | None:
    """A swept key that a learner does not heed would train the same thing again and again."""
    cased = {key for case in study.cases for key in case}
    for key in study.sweep:
        section = key.partition(".")[0]
        free = key not in cased and key != "model.family" and ".options." not in key
        if free and section in ("model", "training") and section not in kind.takes:
            fix = "sweep model.options.NAME, or pair it with the families that it is for under sweep.cases"
            return (f"changes nothing for {path}, and is swept", fix), key
    return None


def learners_of(study: Study) -> Iterator[Configuration]:
    """The configurations of the study whose family is a person's own; of a distribution, its ends."""
    from engram.sweeps.study.trying import configurations

    for configuration in configurations(study):
        if ":" in configuration.model.family:
            yield configuration
