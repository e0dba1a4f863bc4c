"""Estimators with scikit-learn's interface, fitted on a replica's subset: scikit-learn's own, XGBoost, LightGBM, yours.

Inputs are handed over as float32 [N, features], images and sequences flattened.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from engram.models.families import ModelError
from engram.models.learners.task import Said, Task


def train(
    task: Task, thing: Any, given: dict[str, Any], training: Any
) -> Callable[..., Any] | Said:
    """Build it, seed it, fit it; the predictor gives probabilities of all classes where it can, else classes."""
    estimator = seeded(made(thing, given), task.seed)
    rows, labels = _flat(task.train.inputs), task.train.targets
    if task.labels:
        return _of_labels(estimator.fit(rows, labels.astype(np.int64)))
    estimator.fit(rows, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)
    if task.classes is None or not hasattr(estimator, "predict_proba"):
        return lambda inputs: estimator.predict(_flat(inputs))
    known = np.asarray(estimator.classes_, np.int64)
    classes = task.classes

    def predict(inputs: np.ndarray) -> np.ndarray:
        found = np.asarray(estimator.predict_proba(_flat(inputs)))
        whole = np.zeros((len(found), classes), found.dtype)  # a class that the subset lacks has 0
        whole[:, known] = found
        return whole

    return predict


def _of_labels(estimator: Any) -> Callable[..., Any] | Said:
    """The probability of each label [N, L], where it gives one, else 0 and 1.

    scikit-learn gives [N, L], or a list of [N, 1 or 2], one a label."""
    if not hasattr(estimator, "predict_proba"):
        return lambda inputs: np.asarray(estimator.predict(_flat(inputs)))

    def predict(inputs: np.ndarray) -> np.ndarray:
        found = estimator.predict_proba(_flat(inputs))
        if not isinstance(found, list):
            return np.asarray(found)
        columns = []
        for each, classes in zip(found, _classes_of(estimator, len(found)), strict=True):
            known = np.flatnonzero(np.asarray(classes) == 1)  # empty: no row of the subset has it
            columns.append(each[:, known[0]] if len(known) else np.zeros(len(each)))
        return np.column_stack(columns)

    return Said(predict, "probabilities")


def _classes_of(estimator: Any, labels: int) -> list[Any]:
    """What each label of the subset was: 0, 1 or both."""
    found = getattr(estimator, "classes_", None)
    if not isinstance(found, list) or len(found) != labels:
        name = type(estimator).__name__
        raise ModelError(f"{name} gives a list of probabilities, and no list classes_ of as many")
    return found


def made(thing: Any, given: dict[str, Any]) -> Any:
    """A fresh estimator: of a class, of a function that makes one, or a clone of one with these options set."""
    if inspect.isclass(thing) or not hasattr(thing, "fit"):
        return thing(**given)
    from sklearn.base import clone

    return clone(thing).set_params(**given)


def seeded(estimator: Any, seed: int) -> Any:
    """Set every `random_state` that nobody set, those of a pipeline's steps too; one that was set stays."""
    if hasattr(estimator, "get_params"):
        parameters = estimator.get_params(deep=True)
        own = {
            name: seed
            for name, value in parameters.items()
            if (name == "random_state" or name.endswith("__random_state")) and value is None
        }
        if own:
            estimator.set_params(**own)
    return estimator


def built_with(thing: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Every parameter, its own defaults included."""
    estimator = made(thing, given)
    found = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else dict(given)
    return {
        key: value if isinstance(value, bool | int | float | str | None) else repr(value)
        for key, value in found.items()
        if key != "random_state" or value is not None
    }


def checked(thing: Any, given: dict[str, Any], chosen: str | None) -> None:
    """ModelError where it cannot be built like this, or is for another task."""
    known = _parameters(thing)
    # XGBoost and LightGBM take any name, and only warn of it after the fit.
    unknown = [name for name in given if known is not None and name not in known]
    if unknown:
        from engram.problems import nearest

        name = getattr(thing, "__name__", type(thing).__name__)
        close = nearest(unknown[0], list(known or ()))
        hint = f"did you mean '{close}'? " if close else ""
        raise ModelError(
            f"model.options.{unknown[0]} is no parameter of {name}\n    {hint}it has {', '.join(sorted(known or ()))}"
        )
    try:
        estimator = made(thing, given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model.family: cannot be built: {_first(error)}") from None
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise ModelError(
            f"model.family: makes {type(estimator).__name__}, which has no fit and predict"
        )
    kind = _task(estimator)
    if kind == "regressor" and chosen is not None:
        raise ModelError(f"model.family: is for values, and the targets are {chosen}")
    if kind == "classifier" and chosen is None:
        raise ModelError("model.family: is for classes, and the targets are values")


def _parameters(thing: Any) -> set[str] | None:
    """What it can be given by name; None where that cannot be told."""
    if not inspect.isclass(thing):  # an estimator, or a function that makes one
        if hasattr(thing, "fit"):
            return set(thing.get_params(deep=True)) if hasattr(thing, "get_params") else None
        return set(inspect.signature(thing).parameters)
    names = set(inspect.signature(thing).parameters)
    make: Any = thing
    try:
        return names | set(make().get_params(deep=False))
    except (
        TypeError,
        AttributeError,
    ):  # it needs something, or is no estimator of scikit-learn's own
        return names


def _task(estimator: Any) -> str | None:
    """ "classifier" or "regressor", where it says so."""
    from sklearn.base import is_classifier, is_regressor

    try:
        if is_classifier(estimator):
            return "classifier"
        return "regressor" if is_regressor(estimator) else None
    except Exception:  # no estimator of scikit-learn's own
        return getattr(estimator, "_estimator_type", None)


def _first(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return said[0] if said else type(error).__name__


def _flat(inputs: np.ndarray) -> np.ndarray:
    return inputs.reshape(len(inputs), -1)
