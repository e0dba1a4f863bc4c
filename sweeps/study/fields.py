"""One key, one value: does it fit? Messages come from the field's own type, bounds and description.

Reads pydantic field definitions; knows neither files nor how keys depend on each other.
"""

from __future__ import annotations

import math
import re
import types
import typing
from dataclasses import dataclass

import annotated_types
from pydantic.fields import FieldInfo

from engram.problems import nearest, shown

LARGEST_WHOLE = 2**31 - 1


@dataclass(frozen=True)
class Kind:
    """What a field takes: types, words, and the bounds of its numbers."""

    types: frozenset[type]
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    items: frozenset[type] = frozenset()  # of its lists

    @property
    def numeric(self) -> bool:
        return bool(self.types & {int, float})

    @property
    def whole(self) -> bool:
        return int in self.types and float not in self.types

    @property
    def words(self) -> str:
        """`a number in [0, 1]`, `one of relu, tanh`, `a whole number or null`."""
        parts = []
        if self.choices:
            listed = ", ".join(self.choices)
            parts.append(f"one of {listed}" if len(self.choices) > 1 else f"'{listed}'")
        if self.numeric:
            parts.append(("a whole number" if self.whole else "a number") + self.bounds)
        if bool in self.types:
            parts.append("true or false")
        if str in self.types:
            parts.append("text")
        if dict in self.types:
            parts.append("a mapping")
        if tuple in self.types:
            parts.append(f"a list of {self.listed}")
        if type(None) in self.types:
            parts.append("null")
        return " or ".join(parts)

    @property
    def listed(self) -> str:
        """What its lists hold."""
        return (
            "numbers" if float in self.items else "whole numbers" if int in self.items else "names"
        )

    @property
    def bounds(self) -> str:
        if self.low is not None and self.high is not None:
            return f" in {self.interval}"
        if self.low is not None:
            return f" {'above' if self.low_open else 'of at least'} {self.low:g}"
        if self.high is not None:
            return f" {'below' if self.high_open else 'of at most'} {self.high:g}"
        return ""

    @property
    def interval(self) -> str:
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{left}{self.low:.10g}, {self.high:.10g}{right}"


def kind(field: FieldInfo) -> Kind:
    """The Kind of a pydantic field."""
    found: set[type] = set()
    items: set[type] = set()
    choices: list[str] = []
    rules = list(field.metadata)

    def look(annotation: object) -> None:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            inner, *notes = typing.get_args(annotation)
            rules.extend(rule for note in notes for rule in getattr(note, "metadata", ()))
            look(inner)
        elif origin is typing.Literal:
            choices.extend(str(choice) for choice in typing.get_args(annotation))
        elif origin in (typing.Union, types.UnionType):
            for option in typing.get_args(annotation):
                look(option)
        else:
            if origin is tuple:
                inner = typing.get_args(typing.get_args(annotation)[0])
                items.update(inner or typing.get_args(annotation)[:1])
            found.add(origin or annotation)  # type: ignore[arg-type]

    look(field.annotation)
    bounds: dict[str, typing.Any] = {}
    for rule in rules:
        if isinstance(rule, annotated_types.Ge):
            bounds.update(low=rule.ge)
        elif isinstance(rule, annotated_types.Gt):
            bounds.update(low=rule.gt, low_open=True)
        elif isinstance(rule, annotated_types.Le):
            bounds.update(high=rule.le)
        elif isinstance(rule, annotated_types.Lt):
            bounds.update(high=rule.lt, high_open=True)
    return Kind(frozenset(found), tuple(choices), **bounds, items=frozenset(items))


def misfit(key: str, value: object, field: FieldInfo) -> tuple[str, str] | None:
    """Why value does not fit the field, as (rule, fix); None where it does."""
    wanted = kind(field)
    if value is None and type(None) in wanted.types:
        return None
    if isinstance(value, str) and value in wanted.choices:
        return None
    wrong = _wrong_type(key, value, wanted)
    if wrong is not None:
        return wrong
    about = f"{key.rpartition('.')[2]}: {field.description}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _out_of_bounds(value, wanted, about)
    if isinstance(value, str) and not value.strip():
        return "is empty text", about
    if isinstance(value, str) and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
        return "holds control characters", about
    return None


def _wrong_type(key: str, value: object, wanted: Kind) -> tuple[str, str] | None:
    if isinstance(value, bool):
        if bool in wanted.types:
            return None
        return f"is true or false, not {_noun(wanted)}", f"write {wanted.words}"
    if isinstance(value, int | float):
        if not wanted.numeric:
            fix = f"write {wanted.words}" + (
                f'; text that looks like a number wants quotes: "{value}"'
                if str in wanted.types
                else ""
            )
            return f"is a number, not {_noun(wanted)}", fix
        if isinstance(value, float) and wanted.whole:
            fix = f"write {int(value)}" if value.is_integer() else f"write {wanted.words}"
            return "is not a whole number", fix
        return None
    if isinstance(value, str) and str not in wanted.types and tuple not in wanted.types:
        return _text_instead(value, wanted)
    if isinstance(value, list) and tuple in wanted.types and float in wanted.items:
        given = [v for v in value if v is not None]
        odd = [v for v in given if isinstance(v, bool) or not isinstance(v, int | float)]
        if given and not odd and all(map(math.isfinite, given)):
            return None
        return "is a list with something in it that is no number", f"write {wanted.words}"
    if isinstance(value, list) and tuple in wanted.types and int in wanted.items:
        if all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            return None
        return "is a list with something in it that is no whole number", f"write {wanted.words}"
    if isinstance(value, list) and tuple in wanted.types:
        wrong = next((item for item in value if not (isinstance(item, str) and item.strip())), None)
        if wrong is None and None not in value:
            return None
        return f"has {shown(wrong)} in it, which is no name", f"write {wanted.words}"
    if isinstance(value, str) and tuple in wanted.types and str not in wanted.types:
        return f"is text, not {_noun(wanted)}", f"write [{value}]"
    if isinstance(value, list):
        section = key.partition(".")[0]
        if section in ("data", "model", "training"):
            return (
                "is a list, and one value goes here",
                f"to try several, move the list under sweep: {key}: {shown(value)}",
            )
        return f"is a list, not {_noun(wanted)}", f"write {wanted.words}"
    if isinstance(value, dict) and dict not in wanted.types:
        if len(value) == 1 and next(iter(value)) in ("uniform", "loguniform", "int", "logint"):
            return (
                "is a distribution, and one value goes here",
                f"move it under sweep: {key}: {shown(value)}",
            )
        return f"is a mapping, not {_noun(wanted)}", f"write {wanted.words}"
    if value is None:
        return "is empty", f"write {wanted.words}, or take the line away for the default"
    return None


def _text_instead(value: str, wanted: Kind) -> tuple[str, str]:
    if bool in wanted.types:
        truth = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower())
        fix = (
            f"{value} is text here: write {truth}"
            if truth
            else "write true or false, without quotes"
        )
        return "is text, not true or false", fix
    if wanted.numeric:
        return f"is text, not {_noun(wanted)}", _number_in(value, wanted)
    close = nearest(value, wanted.choices)
    fix = f"did you mean '{close}'?" if close else ""
    return f"is not {wanted.words}", fix


def _number_in(value: str, wanted: Kind) -> str:
    """How the number that the text probably means is written."""
    text = value.strip()
    close = nearest(text, wanted.choices)
    if close:
        return f"did you mean '{close}'?"
    percent = re.fullmatch(r"([-+]?[0-9.]+)\s*%", text)
    if percent and not wanted.whole:
        return f"write {float(percent[1]) / 100:g} for {percent[1]} %"
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"write {text.replace(',', '.')} with a point, or {text.replace(',', '')}"
    if re.fullmatch(r"\d{1,3}([ ,']\d{3})+", text):
        return f"write {re.sub('[^0-9]', '', text)}"
    thousands = re.fullmatch(r"(\d+)\s*[kK]", text)
    if thousands:
        return f"write {int(thousands[1]) * 1000}"
    if text.lower() in ("none", "off", "no", "false", "nil") and type(None) in wanted.types:
        return "write null"
    try:
        float(text)
    except ValueError:
        return f"write {wanted.words}"
    return f"take the quotes away: {text}"


def _out_of_bounds(value: float, wanted: Kind, about: str) -> tuple[str, str] | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number", f"write {wanted.words}"
    if isinstance(value, int) and value > LARGEST_WHOLE:
        return f"is larger than {LARGEST_WHOLE}", about
    low, high = wanted.low, wanted.high
    below = low is not None and (value <= low if wanted.low_open else value < low)
    above = high is not None and (value >= high if wanted.high_open else value > high)
    if not (below or above):
        return None
    if low is not None and high is not None:
        share = low == 0 and high == 1
        percent = value if above and 2 <= value <= 100 else 20
        hint = f"; write {percent / 100:g} for {percent:g} %" if share else ""
        return f"is outside {wanted.interval}", about + hint
    if below:
        rule = f"is not above {low:g}" if wanted.low_open else f"is below {low:g}"
    else:
        rule = f"is not below {high:g}" if wanted.high_open else f"is above {high:g}"
    return rule, about


def _noun(wanted: Kind) -> str:
    if wanted.numeric:
        return "a whole number" if wanted.whole else "a number"
    return wanted.words
