"""The metrics a study asks for, tried before anything trains: do they fit the task, do functions work?

Imports the person's code. A function is called once, on invented predictions of the study's own shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engram.measures import catalog
from engram.problems import Problem
from engram.sweeps.state.names import Wrong
from engram.sweeps.study import own_code
from engram.sweeps.study.configuration import Study

if TYPE_CHECKING:
    from engram.data.dataset import Facts

EXAMPLES, EACH = 60, 4  # invented examples, and of each class at least


def problems(study: Study, facts: Facts | None) -> Iterator[Problem]:
    """What is wrong with `measures.own`, and with metrics that the objective names."""
    objectives = [n for n in study.search.objective if (m := catalog.find(n)) and m.of is not None]
    for name in dict.fromkeys((*study.measured.own, *objectives)):
        key = "measures.own" if name in study.measures.own else "search.objective"
        wrong = _function_misfit(name, facts) if ":" in name else _task_misfit(name, facts)
        if (
            not wrong
            and (m := catalog.find(name))
            and m.positive
            and None in study.taken("data.positive")
        ):
            wrong = (
                "is of a positive class, and none is said",
                "write which one it is as data.positive",
            )
        if wrong:
            rule, fix = wrong
            yield Problem(study.place(key), f"{key}: {name} {rule}", fix)


def _task_misfit(name: str, facts: Facts | None) -> Wrong:
    if facts is None or catalog.get(name).fits(facts.task):
        return None
    fitting = [n for n in catalog.askable() if catalog.get(n).fits(facts.task)]
    return (
        f"means nothing for {facts.task}, which this data is",
        f"for it there are {', '.join(fitting)}",
    )


def _function_misfit(path: str, facts: Facts | None) -> Wrong:
    found, wrong = own_code.find(path)
    if wrong is not None:
        return wrong
    fix = "it is called as function(predictions [N, C], targets [N]) for one replica and returns one number"
    if not callable(found):
        return f"is {type(found).__name__}, not a function", fix
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        return f"does not take two arguments: {error}", fix
    except ValueError:
        pass  # built in, without a signature that can be read
    return None if facts is None or facts.classes is None else _call_misfit(found, facts.classes)


def _call_misfit(function: Any, classes: int) -> Wrong:
    """What one call of it says; every class is among the targets, and no prediction is certain."""
    import numpy as np

    from engram.measures import metrics

    generator = np.random.default_rng(0)
    targets = np.arange(max(EXAMPLES, EACH * classes)) % classes
    predictions = generator.dirichlet(np.ones(classes), size=(1, len(targets)))
    try:
        metrics.own(function, predictions, generator.permutation(targets))
    except metrics.OwnMetricError as error:
        said = str(error).partition(" ")[2]
        fix = f"it got probabilities {predictions.shape[1:]} and labels ({len(targets)},), and has to return one finite number"
        return f"{said}, when tried", fix
    return None
