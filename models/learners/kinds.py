"""What `package.module:thing` of `model.family` is: a network of the cohort's, or a learner, and of which kind.

Imports the person's code, and none of the packages that a kind belongs to: a class is known by what it derives from.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engram.models.families import ModelError, is_own
from engram.models.named import imported

# Before anybody imports Keras, which would look for TensorFlow: the rest of the house runs on torch.
os.environ.setdefault("KERAS_BACKEND", "torch")


@dataclass(frozen=True)
class Kind:
    """How a learner of one kind is trained.

    about: for the plan, after "your"; module: below engram.models.learners, with `train(task, thing, given, training)`
    and `checked(thing, given, chosen)`: "10 classes", "3 labels" or, of values, None; takes: sections besides model.options whose keys it heeds; labels: whether it
    is trained where an example may have several labels; several: whether it takes several inputs an example.
    """

    name: str
    about: str
    module: str
    takes: tuple[str, ...] = ()
    labels: bool = False
    several: bool = False


ESTIMATOR = Kind("estimator", "estimator", "estimators", labels=True)
FUNCTION = Kind("function", "function", "functions", ("model", "training"), True, True)
LIGHTNING = Kind("lightning", "LightningModule", "lightning", ("model", "training"), several=True)
HUGGINGFACE = Kind("huggingface", "Hugging Face model", "huggingface", ("training",), several=True)
KERAS = Kind("keras", "Keras model", "keras_models", ("model", "training"), several=True)


def of(family: str) -> Kind | None:
    """The kind of learner that a family is; None for networks, the house's and a person's own.

    ModelError where it can be neither."""
    if not is_own(family):
        return None
    thing = imported(family, "model.family")
    if inspect.isclass(thing):
        return _of_class(thing, family)
    if hasattr(thing, "fit") and hasattr(thing, "predict"):
        return ESTIMATOR  # an estimator as it is, or a pipeline: it is cloned
    if callable(thing):
        return _of_function(thing, family)
    raise ModelError(
        f"model.family = {family!r} is {type(thing).__name__}: name a class, an estimator or a function"
    )


def _of_class(thing: type, family: str) -> Kind | None:
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in thing.__mro__}
    if any(name == "LightningModule" for _, name in bases):
        return LIGHTNING
    if ("transformers", "PreTrainedModel") in bases:
        return HUGGINGFACE
    if ("keras", "Model") in bases:
        return KERAS
    if ("torch", "Module") in bases:
        return None
    if hasattr(thing, "fit") and hasattr(thing, "predict"):
        return ESTIMATOR
    raise ModelError(
        f"model.family = {family!r} is neither a torch.nn.Module nor an estimator with fit and predict"
    )


def _of_function(thing: Callable[..., Any], family: str) -> Kind:
    """By what it has to be called with: a task, (shape, outputs) to make a model, or nothing to make an estimator."""
    needed = [
        p.name
        for p in inspect.signature(thing).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 1:
        return FUNCTION
    if needed[:2] == ["shape", "outputs"]:
        return _of_factory(thing, family)
    if not needed:
        return ESTIMATOR
    raise ModelError(
        f"model.family = {family!r} takes ({', '.join(needed)}): a training function takes (task), a function that "
        "makes a model (shape, outputs), one that makes an estimator nothing without a default"
    )


def _of_factory(thing: Callable[..., Any], family: str) -> Kind:
    """By the class that it says it returns."""
    hint = inspect.signature(thing).return_annotation
    words = str(getattr(hint, "__name__", hint)) + str(getattr(hint, "__module__", ""))
    if inspect.isclass(hint) and (kind := _of_class(hint, family)) is not None:
        return kind
    for word, kind in (
        ("LightningModule", LIGHTNING),
        ("PreTrainedModel", HUGGINGFACE),
        ("keras", KERAS),
    ):
        if word in words:
            return kind
    raise ModelError(
        f"model.family = {family!r} makes a model of no known kind: write what it returns, as in "
        "`def build(shape, outputs) -> keras.Model`, or name the class of a network itself"
    )


def implementation(kind: Kind) -> Any:
    """The module that trains a kind."""
    return importlib.import_module(f"engram.models.learners.{kind.module}")


def checked(
    kind: Kind, thing: Any, given: dict[str, Any], classes: int | None, labels: int | None
) -> None:
    """ModelError where a learner cannot be built like this, or is for another task."""
    if labels is not None and not kind.labels:
        raise ModelError(
            "model.family: is not trained on several labels an example here: take a network, an estimator or a training function"
        )
    chosen = f"{labels} labels" if labels is not None else classes and f"{classes} classes"
    implementation(kind).checked(thing, given, chosen)


def given(thing: Any, said: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What a class or function is called with: every option, and of the other keys of `model` those that it takes."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):  # an instance, or built in
        return dict(options)
    names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return {**{k: v for k, v in said.items() if k in names}, **options}
