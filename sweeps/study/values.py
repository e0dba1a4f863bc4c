"""One value under one dotted key: its field's rule, and the few rules no field can state."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable

from cronsim import CronSim, CronSimError
from pydantic.fields import FieldInfo

from engram.measures import catalog
from engram.models.families import TABLE as FAMILIES
from engram.problems import Place, Problem, nearest, shown
from engram.sweeps.state.names import Wrong, study_name
from engram.sweeps.study.fields import kind, misfit
from engram.sweeps.study.sections import SECTIONS

IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check(key: str, value: object, place: Place, field: FieldInfo | None = None) -> tuple:
    """(the value as its field keeps it, None) or (None, the Problem with it)."""
    if field is None:
        section, _, name = key.partition(".")
        field = SECTIONS[section].model_fields[name]
    wrong = misfit(key, value, field)
    if wrong is None and key in RULES and value is not None:
        wrong = RULES[key](value)
    if wrong is not None:
        rule, fix = wrong
        # An address may hold a password: an error must not print it into a log.
        if key == "nightly.notify":
            option, given, _ = place.source.partition(f"{key}=")
            place, value = Place(option + (key if given else ""), place.line), "***"
        return None, Problem(place, rule, fix, key, value)
    wanted = kind(field)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and float in wanted.types
        and int not in wanted.types
    ):
        value = float(value)
    return value, None


def _validation(value: object) -> Wrong:
    if isinstance(value, float) and value >= 1:
        fix = (
            f"write {int(value)} for a count"
            if value.is_integer() and value > 1
            else "write 0.2 for 20 %, or a whole count such as 500"
        )
        return "is neither a fraction below 1 nor a whole count", fix
    return None


def _family(value: object) -> Wrong:
    text = str(value)
    if text in FAMILIES or IMPORT_PATH.fullmatch(text):
        return None
    known = f"{', '.join(FAMILIES)}, or your own class as package.module:Class"
    if ":" in text or "." in text:
        return "is not an import path", "write it as package.module:Class"
    short = {word: name for name, row in FAMILIES.items() for word in row.short}
    close = short.get(text.lower()) or nearest(text, FAMILIES)
    return "is no known family", (f"did you mean '{close}'? " if close else "") + f"known: {known}"


def _at_least_one(value: object) -> Wrong:
    if isinstance(value, int) and value < 1:
        return "is below 1", "write auto, or a number of at least 1"
    return None


def _gpu(value: object) -> Wrong:
    if isinstance(value, float | int) and value > 1 and value != int(value):
        return "is a fraction above 1", "Ray gives out fractions of one GPU, or whole GPUs"
    return None


def _objective(value: object) -> Wrong:
    """None of the test set; each direction min or max. Which measures there are depends on measures.own."""
    if not isinstance(value, dict) or not value:
        return "names no measure", "write {validation_error: min}"
    for name, direction in value.items():
        if name.startswith("test"):
            return (
                f"selects on {name}: test is reported, never selected on",
                f"select on {name.replace('test', 'validation')}: min",
            )
        if ":" in str(name):
            short = str(name).rpartition(":")[2]
            return (
                f"names the function {name}, which is called {short} once it is a measure",
                f"write measures: {{own: ['{name}']}} and objective: {{{short}: {direction}}}",
            )
        if direction not in ("min", "max"):
            return f"has {shown(direction)} for a direction", f"write {name}: min or {name}: max"
    return None


def _own(value: object) -> Wrong:
    """Each a metric of the table or an import path; no name twice, none that is taken."""
    names: list[str] = []
    for item in value if isinstance(value, list | tuple) else ():
        if IMPORT_PATH.fullmatch(item):
            name = catalog.own(item).name
            if catalog.find(name) is not None:
                rule = f"has '{item}', and {name} is a measure already"
                return rule, f"give your function another name, such as own_{name}"
        elif item in catalog.askable():
            name = item
        elif catalog.find(item) is not None:
            return f"has '{item}', which is no metric to ask for here", (
                f"{item} is measured where its own key says so: docs/measures.md"
            )
        elif ":" in item or "." in item:
            return f"has '{item}', which is no import path", "write package.module:function"
        else:
            close = nearest(item, catalog.askable())
            known = f"known: {', '.join(catalog.askable())}, or package.module:function"
            return f"has no metric '{item}'", (f"did you mean '{close}'? " if close else "") + known
        if name in names:
            return f"has '{name}' twice", "name each measure once"
        names.append(name)
    return None


def _uri(value: object) -> Wrong:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", str(value)):
        return None
    return (
        "is no URI",
        "write http://host:5000, sqlite:///path/to/mlflow.db, or null for the embedded store",
    )


CRON_FIELDS = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (0, 7),
}
CRON_NAMES = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "day of week": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}


def _cron(value: object) -> Wrong:
    fields = str(value).split()
    fix = 'write five fields: minute, hour, day of month, month, day of week; "0 2 * * *" is two at night'
    if len(fields) != len(CRON_FIELDS):
        return f"has {len(fields)} fields, not 5", fix
    for text, (name, (low, high)) in zip(fields, CRON_FIELDS.items(), strict=True):
        for part in text.lower().split(","):
            span, _, step = part.partition("/")
            names = CRON_NAMES.get(name, [])
            ends = [str(names.index(end) + low) if end in names else end for end in span.split("-")]
            number = (
                all(end.isdecimal() and low <= int(end) <= high for end in ends) and len(ends) < 3
            )
            stepped = "/" not in part or (step.isdecimal() and int(step) > 0)
            if not (span == "*" or number) or not stepped:
                return f"has {text!r} for the {name}, which runs from {low} to {high}", fix
    try:
        next(CronSim(str(value), datetime.datetime.now(datetime.UTC)))
    except CronSimError as error:
        return f"is no timetable: {str(error).lower()}", fix
    except StopIteration:
        return "names a day that never comes", fix
    return None


def _deadline(value: object) -> Wrong:
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(value)):
        return None
    return "is no time of day", 'write hours and minutes in quotes, as in "07:00"'


def _notify(value: object) -> Wrong:
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", str(value)):
        return None
    return (
        "is no tag: addresses hold secrets, and a study file is no place for them",
        "write a word such as team here, and team=ADDRESS into the file that ENGRAM_NOTIFY_FILE names",
    )


def _timezone(value: object) -> Wrong:
    try:
        datetime.datetime.now(zoneinfo.ZoneInfo(str(value)))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return "is no known time zone", "write one as in Europe/Berlin, America/New_York or UTC"
    return None


RULES: dict[str, Callable[[object], Wrong]] = {
    "name": study_name,
    "data.validation": _validation,
    "model.family": _family,
    "replicas.stack": _at_least_one,
    "resources.concurrent": _at_least_one,
    "resources.gpu": _gpu,
    "search.objective": _objective,
    "measures.own": _own,
    "tracking.uri": _uri,
    "nightly.cron": _cron,
    "nightly.timezone": _timezone,
    "nightly.deadline": _deadline,
    "nightly.notify": _notify,
}
