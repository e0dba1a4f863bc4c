"""What `package.module:thing` names, imported; ModelError says what is wrong with the name. And names in words."""

from __future__ import annotations

import importlib
from typing import Any

from engram.models.families import ModelError


def imported(path: str, key: str) -> Any:
    """Whatever the path names. key: of the study, for the message."""
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(f"{key} = {path!r} cannot be imported: {error}") from error
    return found


def named(path: str, key: str) -> Any:
    """The class or function of a person's own."""
    found = imported(path, key)
    if not callable(found):
        raise ModelError(f"{key} = {path!r} cannot be called: it is {type(found).__name__}")
    return found


def listed(names: list[str], most: int = 4) -> str:
    """A few names in words."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
