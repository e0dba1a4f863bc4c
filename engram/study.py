"""A study for Python: loaded from a file, a name or a dict; it shows its plan."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.running import estimate
from engram.sweeps.running import plan as page
from engram.sweeps.study import configuration, loading
from engram.sweeps.study.request import Request


class Plan(estimate.Plan):
    """What a study would run, as numbers: trials, seconds (of each configuration), total_s, concurrent, loads.

    str() of it is the page that the command `plan` prints.
    """

    def __str__(self) -> str:
        return "\n".join(page.lines(self, "engram.run(study)"))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class Study(configuration.Study):
    """A study, frozen and without problems. Its sections are attributes: study.training.epochs."""

    def plan(self) -> Plan:
        """What it would run: trials, replicas, steps, time, memory, disk. Starts nothing and writes nothing."""
        made = estimate.make(self)
        return Plan(**{field.name: getattr(made, field.name) for field in fields(made)})

    def __repr__(self) -> str:
        trials = self.planned_trials()
        planned = "trials until the budget is spent" if trials is None else f"{trials} trials"
        return f"<Study {self.name}: {planned} x {self.replicas.count} replicas>"

    __str__ = __repr__


def load(study: str | Path | Mapping[str, Any], values: Mapping[str, Any] | None = None) -> Study:
    """See `engram.load`."""
    sys.path[:] = program.others_first(sys.path)
    options = tuple(f"{key}={_text(key, value)}" for key, value in (values or {}).items())
    asked: Any = study
    if isinstance(study, Mapping):
        asked = {key: _plain(value) for key, value in study.items()}
        made = loading.load(asked, options, data=True)
    else:
        made = loading.load(Request(str(study), options), data=True)
    return _as_study(made)


def _as_study(made: configuration.Study) -> Study:
    """The same study, which also knows its plan; nothing is validated twice."""
    values = {name: getattr(made, name) for name in configuration.Study.model_fields}
    study = Study.model_construct(made.model_fields_set, **values)
    for name in configuration.Study.__private_attributes__:
        setattr(study, name, getattr(made, name))
    return study


def _text(key: str, value: Any) -> str:
    """A value as --set takes it: JSON is YAML."""
    try:
        return json.dumps(_plain(value))
    except (TypeError, ValueError):
        rule = f"holds a {type(value).__name__}, which a study file cannot"
        fix = "give plain numbers, text, lists and dicts"
        raise StudyError([Problem(Place("set"), rule, fix, key)]) from None


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays, tuples and paths as a study file would hold them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value
