"""Names of studies and executions: one plain word everywhere. Light: imports nothing else."""

from __future__ import annotations

import re

Wrong = tuple[str, str] | None  # (rule, fix), or None where a value is right
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def study_name(value: object) -> Wrong:
    """The name becomes a folder and an experiment: it must be one plain word everywhere."""
    text = str(value)
    allowed = "use letters, digits, '.', '-' and '_', at most 100, not beginning with '.' or '-'"
    if len(text) > 100:
        return f"is {len(text)} characters long", allowed
    if NAME.fullmatch(text):
        return None
    if "/" in text or "\\" in text or ".." in text:
        return "is a path; a name stays inside the state folder", allowed
    if text.startswith((".", "-")):
        return f"begins with '{text[:1]}'", allowed
    odd = sorted(
        {character for character in text if not re.fullmatch(r"[A-Za-z0-9_.-]", character)}
    )
    return f"holds {', '.join(map(repr, odd[:5]))}", allowed
