"""Study files as text: YAML read safely, every key and list element with the line it stands on.

Reads numbers and booleans as YAML 1.2 does: 1e-2 is a number, yes and no are text, 010 is ten.
Knows nothing of what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engram.problems import Place, Problem, StudyError, nearest

SHIPPED = Path(__file__).parent.parent / "studies"
LARGEST_BYTES = 1_000_000
MOST_VALUES = 20_000
DEEPEST = 12
ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Entry:
    """A value of the file and its place: a scalar, a list of entries or a mapping of entries."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value as ordinary Python lists and dicts."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's idea of numbers and booleans."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - the name and shape are PyYAML's


_TAG = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)


def shipped() -> dict[str, Path]:
    """The studies that come with the project, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def locate(study: str | Path) -> Path:
    """The file of a study given by path or by shipped name; refuses what is no readable file."""
    text = str(study)
    bare = "/" not in text and not text.endswith(ENDINGS)
    if bare and text in shipped():
        return shipped()[text]
    path = Path(text).expanduser()
    place = Place(text or "''")
    try:
        if path.is_file():
            return path
        found = bool(text.strip()) and path.exists()
    except (OSError, ValueError):  # a name too long, a null byte
        found = False
    if found:
        what = "is a directory" if path.is_dir() else "is not a regular file"
        raise StudyError([Problem(place, f"{what}; a study is a YAML file", _available(text))])
    what = "is neither a shipped study nor a file" if bare else "does not exist"
    raise StudyError([Problem(place, what, _available(text))])


def _available(text: str) -> str:
    names = list(shipped())
    close = nearest(Path(text).stem, names)
    hint = f"did you mean '{close}'? " if close else ""
    return f"{hint}shipped studies: {', '.join(names)}; or give the path of a .yaml file"


def read(path: Path) -> tuple[Entry, str, list[Problem]]:
    """The file's mapping, its text, and the problems met on the way (duplicate keys, odd tags)."""
    source = _short(path)
    try:
        raw = path.read_bytes() if path.stat().st_size <= LARGEST_BYTES else None
    except OSError as error:
        raise StudyError([_about(source, 0, f"cannot be read: {error.strerror}")]) from None
    if raw is None:
        raise StudyError(
            [
                _about(
                    source,
                    0,
                    f"is larger than {LARGEST_BYTES:,} bytes",
                    "a study is a page of YAML",
                )
            ]
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        rule = f"is not UTF-8 text: byte 0x{raw[error.start]:02x} cannot be read"
        raise StudyError([_about(source, line, rule, "save the file as UTF-8")]) from None
    root, problems = parse(text, source, 1)
    if root is None or root.value is None:
        raise StudyError(
            [_about(source, 1, "is empty", "the least a study needs is: name: my_study")]
        )
    if not isinstance(root.value, dict):
        rule = f"holds {kind_of(root.plain())}, not keys and values"
        raise StudyError([_about(source, root.place.line, rule, "begin with: name: my_study")])
    return root, text, problems


def from_mapping(study: Mapping[str, Any]) -> tuple[Entry, str, list[Problem]]:
    """The same of a study that is written in Python: its text is what a file of it would say."""
    try:
        text = yaml.safe_dump(dict(study), sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        rule = f"holds {str(error.args[-1])[:60]!r}, which a study file cannot"
        fix = "write plain numbers, text, lists and dicts: float(x) and x.tolist() make them"
        raise StudyError([_about("the study", 0, rule, fix)]) from None
    root, problems = parse(text, "the study", 0)
    if root is None or not isinstance(root.value, dict):
        fix = "the least a study needs is: {'name': 'my_study'}"
        raise StudyError([_about("the study", 0, "is empty", fix)])
    return root, text, problems


def override(option: str) -> tuple[str, Entry, list[Problem]]:
    """One `--set key=value`: the dotted key, and its value read as YAML."""
    place = Place(f"--set {option}")
    key, equals, text = option.partition("=")
    key = key.strip()
    if not equals or not key:
        rule = "is not of the form key=value"
        raise StudyError([Problem(place, rule, "for instance --set model.dropout=0.2")])
    entry, problems = parse(text, place.source, 0)
    return key, entry or Entry(None, place), problems


def parse(text: str, source: str, first_line: int) -> tuple[Entry | None, list[Problem]]:
    """YAML text as entries; first_line 0 leaves line numbers away (command line)."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise StudyError([_syntax(error, source, first_line, text)]) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + first_line if first_line else 0
        rule = f"holds the character {error.character!r}, which YAML does not allow"
        raise StudyError([_about(source, line, rule, "delete it")]) from None
    except RecursionError:
        raise StudyError([_about(source, first_line, "is nested too deeply to be read")]) from None
    if node is None:
        return None, []
    walk = _Walk(source, first_line)
    entry = walk.entry(node, 0)
    return entry, walk.problems


class _Walk:
    """From PyYAML's nodes to entries, counting: aliases can blow a page up to a universe."""

    def __init__(self, source: str, first_line: int) -> None:
        self.source, self.first_line = source, first_line
        self.problems: list[Problem] = []
        self.values = 0

    def place(self, node: yaml.Node) -> Place:
        line = node.start_mark.line + self.first_line if self.first_line else 0
        return Place(self.source, line)

    def entry(self, node: yaml.Node, depth: int, place: Place | None = None) -> Entry:
        place = place or self.place(node)
        self.values += 1
        if self.values > MOST_VALUES or depth > DEEPEST:
            limit = f"more than {MOST_VALUES:,} values" if depth <= DEEPEST else "nested too deeply"
            rule = f"is too large for a study: {limit}, aliases written out"
            raise StudyError(
                [Problem(place, rule, "write the values out, without anchors and aliases")]
            )
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Entry(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return Entry([self.entry(item, depth + 1) for item in node.value], place)
        if isinstance(node, yaml.ScalarNode):
            return Entry(self._scalar(node, place), place)
        self._refuse_tag(node, place)
        return Entry(None, place)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            place = self.place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(
                    Problem(place, "has a list or mapping for a key", "a key is one word")
                )
                continue
            key = key_node.value
            if key in entries:
                line = entries[key].place.line
                first = f" (first on line {line})" if line else ""
                rule = f"duplicate key '{key}'{first}"
                self.problems.append(Problem(place, rule, "keep one of the two"))
                continue
            entries[key] = self.entry(value_node, depth + 1, place)
        return entries

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        try:
            if kind == "str" or node.tag == "!":
                return text
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                base = {"0x": 16, "0o": 8}.get(text[:2], 10)
                return int(text.replace("_", ""), base)
            if kind == "float":
                return float(re.sub(r"\.(?=[in])", "", text.replace("_", "").lower()))
        except (ValueError, KeyError):
            short = text if len(text) < 40 else text[:37] + "..."
            rule = f"cannot read {short!r} as {kind}"
            self.problems.append(Problem(place, rule, "write an ordinary number or word"))
            return None
        self._refuse_tag(node, place)
        return None

    def _refuse_tag(self, node: yaml.Node, place: Place) -> None:
        tag = node.tag.replace(_TAG, "!!")
        rule = f"the YAML tag {tag} is not read here"
        self.problems.append(Problem(place, rule, "write plain text, numbers, lists and mappings"))


def kind_of(value: object) -> str:
    """What a value is, in words for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), type(value).__name__)


def _syntax(error: yaml.MarkedYAMLError, source: str, first_line: int, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    column = f" (column {mark.column + 1})" if mark else ""
    said = error.problem or str(error)
    lines = text.splitlines()
    # An unclosed bracket is noticed later than it was opened: name both.
    opened = error.context_mark
    since = ""
    if opened is not None and opened.line != line and first_line:
        since = f", {error.context} begun on line {opened.line + first_line}"
    at = lines[line] if line < len(lines) else ""
    if "\\t" in said or "\t" in at:
        fix = "YAML is indented with spaces: replace the tab"
    elif "mapping values are not allowed" in said:
        fix = "put text that holds ': ' in quotes, or mend the indentation"
    elif "another document" in said:
        fix = "a study is one document: take the second '---' away"
    elif "undefined alias" in said or "anchor" in said:
        fix = "put text that begins with * or & in quotes"
    elif "',' or" in said:
        fix = "close the bracket, or put the missing comma"
    else:
        fix = "check the brackets, quotes and indentation on and above this line"
    rule = f"is not YAML: {said}{column}{since}"
    return _about(source, line + first_line if first_line else 0, rule, fix)


def _about(source: str, line: int, rule: str, fix: str = "") -> Problem:
    return Problem(Place(source, line), rule, fix)


def _short(path: Path) -> str:
    """The path as a person here would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
