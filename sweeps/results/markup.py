"""The templates of `page/` and what they have in common: everything that comes from outside is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"


def template(name: str) -> Any:
    """A template, ready to be rendered; a name that it uses and is not given raises."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return made.get_template(name)


def style() -> str:
    """The style sheet of all pages."""
    return (PAGE / "report.css").read_text()
