"""A study as it is asked for: which file, with which values, at which size, under which name.

Each field carries its option of the command line, so that `run`, `plan`, `submit`, `nightly`, `schedule` and
the advice to go on all know the same ones. Light: imports nothing else.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields, replace
from typing import Any

STUDY = "a path to a .yaml file, or the name of a shipped study"


@dataclass(frozen=True)
class Request:
    """What was typed behind a command. overrides: `key=value`, as in training.epochs=10."""

    study: str
    overrides: tuple[str, ...] = field(
        default=(),
        metadata={
            "option": "--set",
            "metavar": "KEY=VALUE",
            "help": "replace one value of the study, as in training.epochs=10 (repeatable)",
        },
    )
    small: bool = field(
        default=False,
        metadata={
            "option": "--small",
            "help": "at the study's size for tests, under NAME-small",
        },
    )
    name: str | None = field(
        default=None,
        metadata={
            "option": "--name",
            "metavar": "N",
            "help": "name of this run; the study's name without it",
        },
    )

    def words(self) -> list[str]:
        """The words that ask for the same again."""
        words = [self.study]
        for option in option_fields():
            value = getattr(self, option.name)
            if value is True:
                words.append(option.metadata["option"])
            elif isinstance(value, tuple):
                words += [word for item in value for word in (option.metadata["option"], item)]
            elif value:
                words += [option.metadata["option"], str(value)]
        return words

    def of(self, study: str) -> Request:
        """The same of another study."""
        return replace(self, study=study)

    def under(self, name: str | None) -> Request:
        """The same under another name."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return shlex.join(self.words())


def option_fields() -> list[Any]:
    """The fields of a Request that have an option, in the order of its help."""
    return [each for each in fields(Request) if each.metadata]
