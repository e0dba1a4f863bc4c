"""The door of a study: a file (and --set options) in, one frozen Study out, or all its problems.

load         reads and validates; check_data also asks the data and the model class
Study        the frozen value everything else reads; Configuration: one trial's share of it
Nothing is written and nothing is started here, and nobody reads YAML below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from engram.problems import Place, Problem, StudyError, nearest
from engram.sweeps.study import rules, study_file
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.request import Request
from engram.sweeps.study.sections import ALIASES, SECTIONS
from engram.sweeps.study.space import SweepReader
from engram.sweeps.study.study_file import Entry, kind_of
from engram.sweeps.study.values import check

PLAIN_KEYS = ("name", "question")
TOP_KEYS = (*PLAIN_KEYS, "sweep", *SECTIONS)


def load(
    study: Request | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    data: bool = False,
    small: bool = False,
) -> Study:
    """The study in a file, of a shipped name, or in a mapping like a file's, with --set options applied.

    data: also look at the data set and the model class (see check_data).
    small: first put in the values of claim.small; the name then ends in -small.
    Raises StudyError with every problem at once.
    """
    request = study if isinstance(study, Request) else None
    if request is None:
        asked = "a mapping" if isinstance(study, Mapping) else str(study)
        request = Request(asked, tuple(overrides), small)
    path: Path | None = None
    if isinstance(study, Mapping):
        root, text, problems = study_file.from_mapping(study)
    else:
        path = study_file.locate(request.study)
        root, text, problems = study_file.read(path)
    draft = _Draft(root.place, problems)
    tree = dict(root.value)
    options = [*(_small(tree, root.place) if request.small else ()), *request.overrides]
    for option in options:
        draft.override(tree, option)
    made = draft.study(tree)
    made._path, made._text, made._overrides = path, text, tuple(options)
    made._request = request
    problems = draft.problems + rules.broken(made, draft.bad)
    if data and not any(
        key.startswith(("data", "replicas", "sweep", "model.family")) for key in draft.bad
    ):
        problems += check_data(made)
    if problems:
        raise StudyError(problems)
    return made


def _small(tree: dict[str, Entry], start: Place) -> list[str]:
    """The study's small size as --set options; JSON is YAML, so values travel as they are."""
    values = _mapping(_mapping(tree.get("claim")).get("small"))
    if not values:
        rule = "has no small size"
        raise StudyError([Problem(start, rule, "write one under claim: small: {key: value}")])
    options = [f"{key}={json.dumps(entry.plain())}" for key, entry in values.items()]
    name = tree["name"].plain() if "name" in tree else "unnamed"
    return [*options, f"name={name}-small"]


class _Draft:
    """A study on its way in: values that fit are kept, the others become problems."""

    def __init__(self, start: Place, problems: list[Problem]) -> None:
        self.problems = problems
        self.bad: set[str] = set()  # dotted keys that are already reported
        self.places: dict[str, Place] = {}
        self.start = start

    def _say(self, place: Place, rule: str, fix: str = "", key: str = "") -> None:
        self.problems.append(Problem(place, rule, fix))
        if key:
            self.bad.add(key)

    def override(self, tree: dict[str, Entry], option: str) -> None:
        """Puts one --set option into the tree, in place of what the file says."""
        try:
            key, entry, problems = study_file.override(option)
        except StudyError as error:
            self.problems += error.problems
            return
        self.problems += problems
        section, dot, name = ALIASES.get(key, key).partition(".")
        if section == "sweep" and dot:
            self._override_sweep(tree, ALIASES.get(name, name), entry)
        elif not dot or section not in SECTIONS:
            if section in TOP_KEYS:
                tree[section] = entry
            else:
                self._say(entry.place, *_unknown_override(key))
        elif name.partition(".")[0] not in SECTIONS[section].model_fields:
            self._say(entry.place, *_unknown_override(key))
        else:
            if _swept_names(tree.get("sweep")) & _spellings(f"{section}.{name}"):
                rule = f"{section}.{name} is swept by this study, so that one value has no effect"
                self._say(
                    entry.place,
                    rule,
                    f"narrow the sweep: --set sweep.{section}.{name}=[...], or null to end it",
                )
            old = tree.get(section, entry)
            name, _, inner = name.partition(".")
            if inner:  # search.objective.validation_loss=min adds to the mapping
                entry = Entry({**_mapping(_mapping(old).get(name)), inner: entry}, entry.place)
            tree[section] = Entry({**_mapping(old), name: entry}, old.place)

    def _override_sweep(self, tree: dict[str, Entry], key: str, entry: Entry) -> None:
        old = tree.get("sweep", entry)
        swept = dict(_mapping(old))
        spelled = next((name for name in swept if name in _spellings(key)), key)
        if entry.value is None:
            swept.pop(spelled, None)
        else:
            swept[spelled] = entry
        tree["sweep"] = Entry(swept, old.place)

    def study(self, tree: dict[str, Entry]) -> Study:
        """The Study of what fits; defaults stand in for what does not."""
        for key, entry in tree.items():
            if key not in TOP_KEYS:
                self._say(entry.place, *_unknown(key, entry))
        values: dict[str, Any] = {"name": self._name(tree.get("name"))}
        if "question" in tree:
            question = self._value("question", tree["question"], Study.model_fields["question"])
            values["question"] = question or ""
        for section in SECTIONS:
            if section in tree:
                values[section] = self._section(section, tree[section])
        sweep = SweepReader()
        if "sweep" in tree:
            self.places["sweep"] = tree["sweep"].place
            sweep.read(tree["sweep"])
        if sweep.problems:
            self.bad.add("sweep")
        self.problems += sweep.problems
        base = Study(**values).configure().dotted()
        cases, axes = sweep.complete_cases(base)
        study = Study(**values, sweep={**axes, **sweep.axes}, cases=cases)
        study._places = {**self.places, **sweep.places}
        return study

    def _name(self, entry: Entry | None) -> str:
        if entry is None:
            self._say(
                self.start, "the study has no name", "add a line such as: name: my_study", "name"
            )
            return "unnamed"
        return self._value("name", entry, Study.model_fields["name"]) or "unnamed"

    def _value(self, key: str, entry: Entry, field: Any) -> Any:
        self.places[key] = entry.place
        plain = entry.plain()
        if key == "question" and plain in (None, ""):
            return None
        value, wrong = check(key, plain, entry.place, field)
        if wrong is not None:
            self.problems.append(wrong)
            self.bad.add(key)
        return value

    def _section(self, section: str, entry: Entry) -> BaseModel:
        model = SECTIONS[section]
        self.places[section] = entry.place
        if entry.value is not None and not isinstance(entry.value, dict):
            plain = entry.plain()
            first = next(iter(model.model_fields))
            fix = f"write its keys below it, or {section}: {{{first}: ...}}"
            rule = f"is {kind_of(plain)}, not keys and values"
            self.problems.append(Problem(entry.place, rule, fix, section, plain))
            self.bad.update(f"{section}.{key}" for key in model.model_fields)
        kept: dict[str, Any] = {}
        for key, item in _mapping(entry).items():
            field = model.model_fields.get(key)
            if field is None:
                self._say(item.place, *_unknown(key, item, section), key=f"{section}.{key}")
                continue
            value = self._value(f"{section}.{key}", item, field)
            if f"{section}.{key}" not in self.bad:
                kept[key] = value
        try:
            return model(**kept)
        except ValidationError as error:  # a rule that only the section itself knows
            for detail in error.errors():
                key = ".".join([section, *map(str, detail["loc"])])
                self._say(self.places.get(key, entry.place), f"{key}: {detail['msg']}", key=key)
            return model()


def _mapping(entry: Entry | None) -> dict[str, Entry]:
    return entry.value if entry is not None and isinstance(entry.value, dict) else {}


def _swept_names(sweep: Entry | None) -> set[str]:
    swept = _mapping(sweep)
    cases = swept["cases"].value if "cases" in swept else []
    return {*swept, *(name for case in cases or [] for name in _mapping(case))}


def _spellings(key: str) -> set[str]:
    return {key, *(alias for alias, target in ALIASES.items() if target == key)}


def _unknown(key: str, entry: Entry, section: str = "") -> tuple[str, str]:
    """The rule and fix for a key that does not exist: where it was meant to go, if that can be told."""
    under = f" under {section}" if section else ""
    rule = f"unknown key '{key}'{under}"
    known = list(SECTIONS[section].model_fields) if section else list(TOP_KEYS)
    if key == "<<":
        return rule, "merge keys are not read: write the keys out"
    word, colon, _ = key.partition(":")
    if colon and entry.value is None and word in known:
        return rule, f"put a space after the colon: {word}: {key.partition(':')[2]}"
    if "." in key and not section:
        return (
            rule,
            f"only sweep has dotted keys: write {key.split('.')[0]}: {{{key.partition('.')[2]}: ...}}",
        )
    close = nearest(key, known)
    homes = [
        name for name, model in SECTIONS.items() if key in model.model_fields and name != section
    ]
    if key in ALIASES and not section:
        homes = [ALIASES[key].partition(".")[0]]
    if homes and key not in known and (close is None or key in ALIASES or len(homes) == 1):
        return f"{rule}; it belongs under {homes[0]}", ""
    if close:
        return f"{rule}; did you mean '{close}'?", ""
    return rule, f"known: {', '.join(known)}"


def _unknown_override(key: str) -> tuple[str, str]:
    section, dot, name = key.partition(".")
    keys = [
        f"{section}.{field}" for section, model in SECTIONS.items() for field in model.model_fields
    ]
    close = None
    if dot and section in SECTIONS:
        inner = nearest(name, SECTIONS[section].model_fields)
        close = f"{section}.{inner}" if inner else None
    if close is None:
        bare = name if dot else key
        known = {dotted.partition(".")[2]: dotted for dotted in reversed(keys)}
        inner = nearest(bare, known)
        close = known[inner] if inner else nearest(key, [*keys, *TOP_KEYS])
    return f"unknown key '{key}'" + (
        f"; did you mean '{close}'?" if close else ""
    ), "" if close else "write --set section.key=value, as in --set model.dropout=0.2"
