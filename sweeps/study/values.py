"""One value under one dotted key: its field's rule, and the few rules no field can state."""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import zoneinfo
from collections.abc import Callable, Iterable
from pathlib import Path

from cronsim import CronSim, CronSimError
from pydantic.fields import FieldInfo

from engram.data.config import AUGMENTATION_KINDS
from engram.measures import catalog
from engram.models import pieces
from engram.models.families import TABLE as FAMILIES
from engram.problems import Place, Problem, nearest, shown
from engram.sweeps.state.names import Wrong, study_name
from engram.sweeps.study.fields import Kind, kind, misfit
from engram.sweeps.study.sections import SECTIONS

LONGEST_QUESTION = 4000  # MLflow's tags hold no more
IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check(key: str, value: object, place: Place, field: FieldInfo | None = None) -> tuple:
    """(the value as its field keeps it, None) or (None, the Problem with it)."""
    if is_option(key):
        wrong = _option(value)
        return (value, None) if wrong is None else (None, Problem(place, *wrong, key, value))
    if key == "model.start" and isinstance(value, str):
        return _start(value, place)
    if field is None:
        field = field_of(key)
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


def is_option(key: str) -> bool:
    """Whether a dotted key is a single option of a class or an optimizer, as model.options.heads is."""
    section, _, name = key.partition(".")
    return section in ("model", "training") and bool(re.fullmatch(r"options\.[^\W\d]\w*", name))


def field_of(key: str) -> FieldInfo:
    """The field of a dotted key."""
    section, _, name = key.partition(".")
    return SECTIONS[section].model_fields[name]


OPTION = Kind(frozenset({int, float, str, bool, type(None)}))


def _option(value: object) -> Wrong:
    if isinstance(value, dict):
        return "is a mapping, and an option is one value or a list of them", "write one value"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return "is a list of lists, and an option is one value or a list of them", "write one value"
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number", "write a number"
    return None


def _options(value: object) -> Wrong:
    for name, item in value.items() if isinstance(value, dict) else ():
        if not str(name).isidentifier():
            return f"names '{name}', which is no argument of a function", "write {heads: 4}"
        wrong = _option(item)
        if wrong is not None:
            return f"has {name}, which {wrong[0]}", wrong[1]
    return None


def _start(value: str, place: Place) -> tuple:
    """The file of weights with a digest of what it holds, beside the study file or in the current folder."""
    path, _, known = value.rpartition("@")
    if not re.fullmatch(r"[0-9a-f]{12}", known):
        path, known = value, ""
    study, written = Path(place.source).parent, Path(path).expanduser()
    # The last: where a study that was sent to a cluster has it.
    places = (study / written, written, study / written.name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        fix = "write its path from the study file's folder, or from here"
        return None, Problem(place, "is no file", fix, "model.start", value)
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[: len("0123456789ab")]
    if known and known != digest:
        fix = f"it holds {digest} now: write model.start: {path}"
        return None, Problem(place, "holds other weights than it did", fix, "model.start", value)
    return f"{found.resolve()}@{digest}", None


def _one_of(names: Iterable[str], call: str) -> Callable[[object], Wrong]:
    """One of the names of a table, or the import path of a person's own."""
    known = tuple(names)

    def rule(value: object) -> Wrong:
        text = str(value)
        if text in known or IMPORT_PATH.fullmatch(text):
            return None
        if ":" in text or "." in text:
            return "is not an import path", f"write it as package.module:{call}"
        close = nearest(text, known)
        fix = f"did you mean '{close}'? " if close else ""
        return (
            "is not known",
            f"{fix}known: {', '.join(known)}, or your own as package.module:{call}",
        )

    return rule


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
    if isinstance(value, float | int) and value > 1:
        return (
            "is more than one GPU, and a trial is trained on one",
            "write auto, 1, or a share of one such as 0.25: whole GPUs beyond the first would be left unused",
        )
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
    fix = "write http://host:5000, sqlite:///path/to/mlflow.db, or null for the embedded store"
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", str(value)):  # a host and its port
        return "has no scheme", f"write http://{value}, or https://{value}"
    scheme, separator, rest = str(value).partition(":")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "is no URI", fix
    if scheme in ("databricks", "file") or rest.startswith("//"):
        return None
    return f"has no // after {scheme}:", fix


def _register_as(value: object) -> Wrong:
    """MLflow's rules for a registered model's name, and for an alias."""
    name, at, alias = str(value).partition("@")
    fix = "write NAME or NAME@ALIAS, as in small-net@candidate"
    if not name.strip() or re.search(r"[/:]", name):
        return "has an empty name, or one with / or :", fix
    if at and (not re.fullmatch(r"[\w-]+", alias) or alias.lower() == "latest"):
        return f"has {alias!r} for an alias: letters, digits, '_' and '-', and not latest", fix
    if re.fullmatch(r"[vV]\d+", alias):
        return f"has {alias!r} for an alias: it looks like a version", fix
    return None


def _question(value: object) -> Wrong:
    length = len(str(value))
    if length <= LONGEST_QUESTION:
        return None
    fix = f"ask it in at most {LONGEST_QUESTION:,} characters; what is longer fits in comments"
    return f"is {length:,} characters long", fix


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


def _class_weights(value: object) -> Wrong:
    given = value if isinstance(value, dict) else {}
    for name, weight in given.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 <= weight < math.inf:
            return f"weighs {name} by {shown(weight)}", "write a number from 0 on for each class"
    if given and not any(given.values()):
        return "weighs nothing", "give one class a weight above 0"
    return None


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
    "model.options": _options,
    "training.options": _options,
    "data.augmentation": _one_of(AUGMENTATION_KINDS, "function"),
    "training.optimizer": _one_of(pieces.OPTIMIZERS, "Class"),
    "training.loss": _one_of(pieces.LOSSES, "function"),
    "training.class_weights": _class_weights,
    "training.schedule": _one_of(pieces.SCHEDULES, "function"),
    "replicas.stack": _at_least_one,
    "resources.concurrent": _at_least_one,
    "resources.gpu": _gpu,
    "resources.workers": _at_least_one,
    "search.objective": _objective,
    "measures.own": _own,
    "tracking.uri": _uri,
    "tracking.register_as": _register_as,
    "question": _question,
    "nightly.cron": _cron,
    "nightly.timezone": _timezone,
    "nightly.deadline": _deadline,
    "nightly.notify": _notify,
}
