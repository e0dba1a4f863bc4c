"""The study file's shape for editors (JSON Schema) and for people (docs/study_file.md).

`python -m engram.sweeps.study.schema` rewrites the page; a test fails where it is out of step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from engram.measures import catalog
from engram.problems import shown
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.fields import Kind, kind
from engram.sweeps.study.sections import ALIASES, SECTIONS, SWEPT_SECTIONS
from engram.sweeps.study.space import DISTRIBUTIONS, HELD_FIXED, NOT_SWEPT

PAGE = Path(__file__).parent.parent.parent / "docs" / "study_file.md"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a study file."""
    top = Study.model_fields
    properties: dict[str, Any] = {
        "name": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$",
            "description": top["name"].description,
        },
        "question": {"type": "string", "default": "", "description": top["question"].description},
    }
    for section, model in SECTIONS.items():
        properties[section] = {
            "type": ["object", "null"],
            "description": _first_line(model.__doc__),
            "additionalProperties": False,
            "properties": {
                name: _property(f"{section}.{name}", field)
                for name, field in model.model_fields.items()
            },
        }
    properties["sweep"] = _sweep(top["sweep"].description)
    # Names of the person's own functions are known to nobody here: only where there are any may
    # an objective be none of the table's.
    function = {"contains": {"type": "string", "pattern": ":"}}
    return {
        "if": _within("measures", "own", function),
        "else": _within(
            "search", "objective", {"propertyNames": {"enum": catalog.objectives()}}, required=False
        ),
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Engram study",
        "description": _first_line(Study.__doc__),
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": properties,
    }


def _within(section: str, key: str, shape: dict[str, Any], required: bool = True) -> dict[str, Any]:
    """The schema of a study whose key has this shape; required: and is there."""
    inner: dict[str, Any] = {"properties": {key: shape}}
    outer: dict[str, Any] = {"properties": {section: inner}}
    if required:
        inner["required"], outer["required"] = [key], [section]
    return outer


def _sweep(description: str | None) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for section in SWEPT_SECTIONS:
        for name, field in SECTIONS[section].model_fields.items():
            if f"{section}.{name}" not in (*HELD_FIXED, *NOT_SWEPT):
                keys[f"{section}.{name}"] = _axis(f"{section}.{name}", field)
    case = {key: keys[key]["anyOf"][0]["items"] for key in keys}
    for alias, key in ALIASES.items():
        case[alias] = case[key]
        keys[alias] = {**keys[key], "description": f"short for {key}: {keys[key]['description']}"}
    keys["cases"] = {
        "description": "values that go together: one mapping of dotted keys a case, for the grid",
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": case,
        },
    }
    return {
        "type": ["object", "null"],
        "description": description,
        "additionalProperties": False,
        "properties": keys,
        "patternProperties": {r"^(model|training)\.options\.[A-Za-z_]\w*$": _option_axis()},
    }


def _option_axis() -> dict[str, Any]:
    """A sweep of one option of a person's class, or of an optimizer."""
    pair = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
    scalar = {"type": ["number", "string", "boolean", "null"]}
    return {
        "anyOf": [
            {"type": "array", "minItems": 1, "uniqueItems": True, "items": scalar},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": dict.fromkeys(DISTRIBUTIONS, pair),
            },
        ]
    }


def _axis(key: str, field: FieldInfo) -> dict[str, Any]:
    item = _property(key, field)
    item.pop("default", None)
    description = item.pop("description", "")
    options: list[dict[str, Any]] = [
        {"type": "array", "minItems": 1, "uniqueItems": True, "items": item}
    ]
    wanted = kind(field)
    if wanted.numeric:
        bound = {"type": "integer" if wanted.whole else "number", **_limits(wanted)}
        pair = {"type": "array", "minItems": 2, "maxItems": 2, "items": bound}
        names = [name for name in DISTRIBUTIONS if name.endswith("int") or not wanted.whole]
        options.append(
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": dict.fromkeys(names, pair),
            }
        )
    return {"description": description, "anyOf": options}


def _property(key: str, field: FieldInfo) -> dict[str, Any]:
    wanted = kind(field)
    options: list[dict[str, Any]] = []
    if wanted.choices:
        options.append({"enum": list(wanted.choices)})
    if wanted.numeric:
        options.append({"type": "integer" if wanted.whole else "number", **_limits(wanted)})
    if bool in wanted.types:
        options.append({"type": "boolean"})
    if str in wanted.types:
        options.append({"type": "string", "minLength": 1})
    if type(None) in wanted.types:
        options.append({"type": "null"})
    if dict in wanted.types:
        options.append({"type": "object"})
    if wanted.items:
        item: dict[str, object] = (
            {"type": ["number", "null"]} if float in wanted.items else {"type": "string"}
        )
        if wanted.listed == "whole numbers":
            item = {"type": "integer", "minimum": 0}
        options.append({"type": "array", "minItems": 1, "items": item})
    if key == "search.objective":
        options = [_objective()]
    if key == "measures.own":
        names = [
            {"const": name, "description": catalog.get(name).sentence} for name in catalog.askable()
        ]
        own = {"type": "string", "pattern": ":", "description": "package.module:function"}
        options = [{"type": "array", "uniqueItems": True, "items": {"anyOf": [*names, own]}}]
    shape = options[0] if len(options) == 1 else {"anyOf": options}
    default = field.get_default(call_default_factory=True)
    return {**shape, "description": field.description, "default": default}


def _objective() -> dict[str, Any]:
    """Measures that may be selected by, each with what it is; names of the person's own functions too."""
    directions = {"enum": ["min", "max"]}
    return {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": directions,
        "propertyNames": {"not": {"pattern": "^test_"}},
        "properties": {
            name: {**directions, "description": catalog.get(name).sentence}
            for name in catalog.objectives()
        },
    }


def _limits(wanted: Kind) -> dict[str, float]:
    limits: dict[str, float] = {}
    if wanted.low is not None:
        limits["exclusiveMinimum" if wanted.low_open else "minimum"] = wanted.low
    if wanted.high is not None:
        limits["exclusiveMaximum" if wanted.high_open else "maximum"] = wanted.high
    return limits


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().splitlines()[0]


def page() -> str:
    """docs/study_file.md, written from the same definitions that validate a study."""
    parts = [HEAD]
    for section, model in SECTIONS.items():
        parts.append(
            f"\n## {section}\n\n{_first_line(model.__doc__)}\n\n| key | default | takes | meaning |\n|---|---|---|---|\n"
        )
        for name, field in model.model_fields.items():
            wanted = "measure: min or max" if name == "objective" else kind(field).words
            default = shown(field.get_default(call_default_factory=True)).replace("'", "")
            meaning = str(field.description).replace("|", "\\|")
            parts.append(f"| `{section}.{name}` | `{default}` | {wanted} | {meaning} |\n")
    parts.append(TAIL)
    return "".join(parts)


HEAD = """\
# The study file

A study is one YAML file: a question, a base configuration, what to sweep, and how to search.
Every key has a default but `name`. This page is written by `python -m engram.sweeps.study.schema` from the
definitions that validate a study; `python orchestrate.py schema` prints the same as JSON Schema for
editors.

```yaml
name: dropout
question: Does dropout lower the generalization gap?
data:     {train_size: 2000}
training: {epochs: 40}
replicas: {count: 8}
sweep:
  model.dropout: [0.0, 0.2, 0.5]
```

All problems of a file are reported at once, each with its line, its value, the rule, and what to
write instead; the exit code is 2 and nothing has been written. `--set key=value` changes a value
from the command line and passes the same checks: `--set training.epochs=10`,
`--set sweep.model.dropout=[0.0,0.5]`, `--set sweep.model.dropout=null` to end a sweep.
`--small` puts in the values of `claim.small` in the same way, before any `--set`: the same study in
seconds, under a name that ends in `-small`.

Numbers are read as in YAML 1.2: `1e-2` is a number, `yes` and `no` are text, `010` is ten.

## name and question

`name` becomes the experiment and its folder: letters, digits, `.`, `-` and `_`, at most 100, not
beginning with `.` or `-`. `question` is one sentence; the leaderboard answers it.

## sweep

Dotted key of `data`, `model` or `training` → a list of values, or a distribution with both bounds
included:

| written | drawn |
|---|---|
| `[0.0, 0.2, 0.5]` | each value; with `grid`, every combination with the other lists |
| `{uniform: [0.0, 0.6]}` | any number, evenly |
| `{loguniform: [1.0e-4, 1.0e-1]}` | any number, evenly in its logarithm |
| `{int: [1, 4]}` | whole numbers, evenly |
| `{logint: [16, 512]}` | whole numbers, evenly in their logarithm |

Any key may be swept, text and `null` included (`training.clip: [null, 1.0]`), except
`data.validation` (the validation examples are held out once for the whole study), `replicas.*`
(all trials share subsets and seeds, so that they are compared in pairs), `model.freeze` and `model.fresh`. An argument
of your own class, or of the optimizer, is swept by its name: `model.options.heads: [2, 4, 8]`,
`training.options.nesterov: [true, false]`. Four keys have short names:
`dropout`, `lr` or `learning_rate`, `weight_decay`, `train_size` or `dataset_size`.

Values that only make sense together are listed as cases, a key left out taking its base value; a
grid combines the cases with the other lists:

```yaml
sweep:
  cases:
    - {model.family: feedforward, model.depth: 0}
    - {model.family: gru, model.depth: 1, training.lr: 3e-3}
  train_size: [1000, 4000]
```

A grid takes lists alone. `random`, `tpe`, `gp`, `cmaes` and `nsga2` take both; without
`search.trials` and without a budget they run 50 trials. With `search.trials` or `budget.trials`, a
grid stops after that many, in order (the last key varies fastest). In a search of more than 500 trials `tpe` looks at the latest
500 to 600 and at the 25 best before them, which are all that it calls good: a question then takes as long at the 20,000th as at the 500th.
"""

TAIL = """
## What is refused between keys

- `data.validation: 0` with `training.early_stopping`, with a scheduler other than `fifo`, or with a
  sampler other than `grid` and `random`: these select, and nothing is held out to select on.
- An objective on the test set: test is reported, never selected on.
- A grid with a distribution, an empty list, a value listed twice, one key under two names; cases
  with another sampler than `grid`.
- `cmaes` with fewer than two distributions, or with several objectives; pruning with several.
- Sizes that do not fit: a `train_size` beyond the pool, disjoint draws that need more than there is.
- `model.fresh` without a `model.start`. A parameter that does not fit the file of `model.start` and that neither
  `model.fresh` names nor the last layer has.
- `depth: 0` for a family other than `feedforward`; a GPU for a trial on the CPU; a swept key without
  effect (`momentum` without `sgd`, `epochs` under `steps`).
"""


if __name__ == "__main__":
    PAGE.write_text(page())
