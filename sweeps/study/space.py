"""The sweep section: dotted keys with their lists and distributions, every value checked on its line.

A value of a sweep passes through the very field that a plain value of that key passes through.
"""

from __future__ import annotations

from engram.problems import Place, Problem, nearest, shown
from engram.sweeps.study.fields import Kind, kind
from engram.sweeps.study.sections import (
    ALIASES,
    SECTIONS,
    SWEPT_SECTIONS,
    Axis,
    Range,
    Scalar,
    Values,
)
from engram.sweeps.study.study_file import Entry, kind_of
from engram.sweeps.study.values import OPTION, check, field_of, is_option

DISTRIBUTIONS = ("uniform", "loguniform", "int", "logint")
HELD_FIXED = {
    "data.validation": "the validation examples are held out once for the whole study: trials judged on "
    "different ones could not be ranked",
    "replicas": "all trials share the replicas' subsets and seeds, which is what lets them be compared "
    "in pairs; set replicas.* once, or write two studies",
}
NOT_SWEPT = {
    "model.options": "name one of them, as in model.options.heads: [2, 4, 8]",
    "training.options": "name one of them, as in training.options.nesterov: [true, false]",
    "data.canaries": "it is a list, of all counts that are compared",
    "model.fresh": "it is a list; write two studies",
    "model.freeze": "it is a list; write two studies, or compare two classes",
}


class SweepReader:
    """Reads one sweep section; collects axes, places and problems."""

    def __init__(self) -> None:
        self.axes: dict[str, Axis] = {}
        self.places: dict[str, Place] = {}
        self.cases: list[dict[str, Scalar]] = []  # as written: a key left out takes the base value
        self.problems: list[Problem] = []
        self._written: dict[str, tuple[str, Place]] = {}
        self._cased: list[str] = []
        self._case_places: dict[tuple[str, Scalar], Place] = {}

    def read(self, sweep: Entry) -> None:
        if sweep.value is None:
            return
        if not isinstance(sweep.value, dict):
            self._say(
                sweep.place,
                "sweep",
                sweep.plain(),
                f"is {kind_of(sweep.plain())}, not keys with their values",
                "write, indented below it: model.dropout: [0.0, 0.2, 0.5]",
            )
            return
        written_down: dict[str, Entry] = sweep.value
        for name, entry in written_down.items():
            if name == "cases":
                self._cases(entry)
                continue
            key = ALIASES.get(name, name)
            if not self._known(name, key, entry) or self._again(name, key, entry):
                continue
            self.places[f"sweep.{key}"] = entry.place
            axis = self._axis(key, entry)
            if axis is not None:
                self.axes[key] = axis

    def _again(self, name: str, key: str, entry: Entry) -> bool:
        """Whether the key is swept already, under this name or another."""
        if key not in self._written:
            self._written[key] = (name, entry.place)
            return False
        first, place = self._written[key]
        where = f" (line {place.line})" if place.line else ""
        rule = f"'{name}' sweeps {key} a second time, after '{first}'{where}"
        self.problems.append(Problem(entry.place, rule, "keep one of the two"))
        return True

    def _cases(self, cases: Entry) -> None:
        """Values that go together: a list of mappings from dotted key to one value."""
        items = cases.value if isinstance(cases.value, list) else []
        if not items or not all(isinstance(item.value, dict) and item.value for item in items):
            fix = "write one mapping a case: - {model.family: gru, model.depth: 1}"
            self._say(cases.place, "cases", cases.plain(), "is no list of mappings", fix)
            return
        for item in items:
            case: dict[str, Scalar] = {}
            for name, entry in item.value.items():
                key = ALIASES.get(name, name)
                if not self._known(name, key, entry):
                    continue
                value, wrong = check(key, entry.plain(), entry.place)
                if wrong is not None:
                    self.problems.append(wrong)
                    continue
                if value is None and is_option(key):
                    rule = "is null, which in a case means that the option is not given"
                    self._say(entry.place, name, None, rule, "leave it out of this case")
                    continue
                if key not in self._cased and self._again(f"{name}' in 'cases", key, entry):
                    continue
                self._cased.append(key)
                case[key] = value
                self.places.setdefault(f"sweep.{key}", entry.place)
                self._case_places.setdefault((key, value), entry.place)
            if case in self.cases:
                self._say(item.place, "cases", item.plain(), "is listed twice", "keep one")
            self.cases.append(case)

    def complete_cases(
        self, base: dict[str, Scalar]
    ) -> tuple[tuple[dict[str, Scalar], ...], dict[str, Axis]]:
        """Every case with every key of all cases, and the axes these make.

        An option belongs to one class: a case that does not name it, and has no value of it, holds None and goes
        without (Study.configure)."""
        keys = list(dict.fromkeys(self._cased))
        for number, case in enumerate(self.cases, 1):
            lacking = [key for key in keys if key not in case and key not in base]
            for key in [key for key in lacking if not is_option(key)]:
                place = self.places[f"sweep.{key}"]
                rule = f"{key} is in other cases and not in case {number}, where it has no value of its own"
                self.problems.append(Problem(place, rule, f"write {key} in every case"))
        cases = tuple({key: case.get(key, base.get(key)) for key in keys} for case in self.cases)
        axes = {
            key: Values(values=tuple(dict.fromkeys(case[key] for case in cases))) for key in keys
        }
        for (key, value), place in self._case_places.items():
            self.places[f"sweep.{key}[{axes[key].values.index(value)}]"] = place
        return cases, dict(axes)

    def _say(self, place: Place, key: str, value: object, rule: str, fix: str) -> None:
        self.problems.append(Problem(place, rule, fix, key, value))

    def _known(self, name: str, key: str, entry: Entry) -> bool:
        section, _, field = key.partition(".")
        if is_option(key):
            return True
        if key in NOT_SWEPT:
            self.problems.append(Problem(entry.place, f"{key} cannot be swept", NOT_SWEPT[key]))
            return False
        if section in SWEPT_SECTIONS and field in SECTIONS[section].model_fields:
            if key in HELD_FIXED:
                self.problems.append(
                    Problem(entry.place, f"{key} cannot be swept", HELD_FIXED[key])
                )
                return False
            return True
        if (
            section in SECTIONS
            and isinstance(entry.value, dict)
            and not field
            and section in SWEPT_SECTIONS
        ):
            rule = f"'{name}' is a section; a sweep key names one value of it"
            inner = next(iter(entry.value), "dropout")
            fix = f"write it with a dot: {name}.{inner}: [...]"
        elif section in SECTIONS and section not in SWEPT_SECTIONS:
            rule = f"{name} cannot be swept"
            fix = HELD_FIXED.get(
                section, f"only keys of {', '.join(SWEPT_SECTIONS)} change from trial to trial"
            )
        else:
            close = meant(name)
            rule = f"unknown key '{name}' under sweep" + (
                f"; did you mean '{close}'?" if close else ""
            )
            fix = (
                ""
                if close
                else "sweep keys are dotted keys of data, model or training, as in model.dropout"
            )
        self.problems.append(Problem(entry.place, rule, fix))
        return False

    def _axis(self, key: str, entry: Entry) -> Axis | None:
        if isinstance(entry.value, list):
            return self._list(key, entry)
        if isinstance(entry.value, dict):
            return self._distribution(key, entry)
        value = entry.plain()
        fix = f"write a list, [{shown(value)}], or a distribution, {{uniform: [low, high]}}"
        self._say(entry.place, key, value, "is one value, and a sweep wants several", fix)
        return None

    def _list(self, key: str, entry: Entry) -> Axis | None:
        if not entry.value:
            self._say(
                entry.place,
                key,
                [],
                "is an empty list",
                "list at least one value, or take the key out of the sweep",
            )
            return None
        seen: list[Scalar] = []
        fine = True
        for item in entry.value:
            value, wrong = check(key, item.plain(), item.place)
            if wrong is not None:
                self.problems.append(wrong)
                fine = False
                continue
            if any(value == other and type(value) is type(other) for other in seen):
                self._say(
                    item.place,
                    key,
                    item.plain(),
                    "is listed twice",
                    "each value is one trial: keep one",
                )
                fine = False
                continue
            self.places[f"sweep.{key}[{len(seen)}]"] = item.place
            seen.append(value)
        return Values(values=tuple(seen)) if fine else None

    def _distribution(self, key: str, entry: Entry) -> Axis | None:
        wanted = OPTION if is_option(key) else kind(field_of(key))
        plain = entry.plain()
        if len(entry.value) != 1 or next(iter(entry.value)) not in DISTRIBUTIONS:
            self._unknown_distribution(key, entry)
            return None
        name, bounds = next(iter(entry.value.items()))
        if not wanted.numeric:
            self._say(
                entry.place,
                key,
                plain,
                f"is a distribution, and {key} takes {wanted.words}",
                "list the values instead",
            )
            return None
        if not isinstance(bounds.value, list) or len(bounds.value) != 2:
            self._say(
                bounds.place, key, plain, "needs two bounds", f"write {{{name}: [low, high]}}"
            )
            return None
        low, high = (self._bound(key, name, item) for item in bounds.value)
        if low is None or high is None:
            return None
        wrong = _bounds_misfit(name, low, high, wanted)
        if wrong:
            self._say(bounds.place, key, plain, *wrong)
            return None
        return Range(distribution=name, low=low, high=high)

    def _bound(self, key: str, name: str, item: Entry) -> int | float | None:
        value = item.plain()
        if value is None or isinstance(value, str):
            self._say(
                item.place,
                key,
                value,
                f"is {kind_of(value)}, and a bound is a number",
                f"write {{{name}: [low, high]}}",
            )
            return None
        value, wrong = check(key, value, item.place)
        if wrong is not None:
            self.problems.append(wrong)
            return None
        assert isinstance(value, int | float)
        return value

    def _unknown_distribution(self, key: str, entry: Entry) -> None:
        names = list(entry.value)
        known = ", ".join(f"{{{name}: [low, high]}}" for name in DISTRIBUTIONS)
        close = nearest(names[0], DISTRIBUTIONS) if names else None
        if names and names[0] in ("choice", "grid", "values", "categorical"):
            fix = f"write the list itself: {key}: [...]"
        elif close and len(names) == 1:
            fix = f"did you mean '{close}'? known: {known}"
        else:
            fix = f"write one of {known}"
        rule = f"names no known distribution: {', '.join(names) or 'nothing'}"
        if len(names) > 1 and names[0] in DISTRIBUTIONS:
            rule = "is more than one distribution"
        self._say(entry.place, key, entry.plain(), rule, fix)


def _bounds_misfit(name: str, low: float, high: float, wanted: Kind) -> tuple[str, str] | None:
    whole = isinstance(low, int) and isinstance(high, int)
    if name.endswith("int") and not (whole or (low.is_integer() and high.is_integer())):
        return (
            "has bounds that are not whole",
            f"write whole bounds, or {'loguniform' if name == 'logint' else 'uniform'}",
        )
    if wanted.whole and not name.endswith("int"):
        return (
            "draws fractions for a whole number",
            f"write {{{'logint' if name == 'loguniform' else 'int'}: [{low:g}, {high:g}]}}",
        )
    if low >= high:
        return (
            "has a low bound that is not below the high one",
            f"write {{{name}: [low, high]}} with low < high",
        )
    if name.startswith("log") and low <= 0:
        return (
            "needs a low bound above 0: it is uniform in the logarithm",
            "raise the low bound, for instance to 1.0e-5",
        )
    return None


def meant(name: str) -> str | None:
    """The dotted key that a misspelled or bare one probably stands for."""
    keys = [
        f"{section}.{field}"
        for section in SWEPT_SECTIONS
        for field in SECTIONS[section].model_fields
    ]
    section, dot, field = name.partition(".")
    if dot:
        right = section if section in SWEPT_SECTIONS else nearest(section, SWEPT_SECTIONS)
        if right:
            close = nearest(field, SECTIONS[right].model_fields)
            if close:
                return f"{right}.{close}"
    bare = field if dot else name
    ours = {key.partition(".")[2]: key for key in keys if key != "data.name"}
    close = nearest(bare, ours)
    if close:
        return ours[close]
    close = nearest(name, [*keys, *ALIASES])
    return ALIASES.get(close, close) if close else None
