"""Several executions as one page: what differs as an axis, matched settings side by side, all trials together.

The page is that of one execution (`report`), with these parts in place of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engram import files
from engram.sweeps.results import findings, report, side_by_side
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.joined import Joined
from engram.sweeps.state import paths

FOLDER = "comparisons"
LONGEST_FILE = 120
UNKNOWN = "unknown"


def write(joined: Joined, out: str | None, form: str | None = None) -> str:
    """Write the page as HTML or Markdown; returns its path, or Markdown where no file is asked for."""
    if report.form_of(out, form) == "markdown":
        text = side_by_side.markdown(joined)
        return text if out is None else str(files.write(Path(out), text + "\n"))
    evidence = joined.whole
    path = (
        Path(out)
        if out
        else paths.home() / FOLDER / f"{'+'.join(joined.names)[:LONGEST_FILE]}.html"
    )
    return str(
        files.write(path, report.page(evidence, report.pictures_of(evidence), parts(joined)))
    )


def parts(joined: Joined) -> dict[str, Any]:
    """What stands on the page in place of what one execution has there."""
    last = side_by_side.change_heading(joined)
    return {
        "study_name": ", ".join(joined.names),
        "facts": [(e.name, _facts(e)) for e in joined.evidences],
        "limits": _limits(joined),
        "commands": "\n\n".join(report.commands(e) for e in joined.evidences),
        "provenance": _provenance(joined),
        "matched": {
            "verdicts": side_by_side.verdicts(joined),
            "headings": side_by_side.headings(joined),
            "change": last,
            "lines": list(side_by_side.lines(joined)),
            "notes": side_by_side.notes(joined),
        },
    }


def _facts(evidence: Evidence) -> str:
    told = [f"{len(evidence.records)} trials, {len(evidence.completed)} completed"]
    if evidence.info.get("started"):
        when = datetime.fromtimestamp(evidence.info["started"], UTC)
        told.append(f"last started {when:%Y-%m-%d %H:%M} UTC")
    return "; ".join([*told, *([evidence.question] if evidence.question else [])])


def _limits(joined: Joined) -> list[str]:
    own = [
        f"{e.name}: {text[0].lower()}{text[1:]}"
        for e in joined.evidences
        for text in [*findings.unfinished(e), *findings.uncommitted(e)]
    ]
    return [*own, *findings.limits(joined.whole)]


def _provenance(joined: Joined) -> list[tuple[str, str]]:
    """What is the same once, what differs for each."""
    keys = dict.fromkeys(key for e in joined.evidences for key in e.provenance)
    rows = []
    for key in keys:
        values = [str(e.provenance.get(key, UNKNOWN)) for e in joined.evidences]
        each = "; ".join(f"{n}: {v}" for n, v in zip(joined.names, values, strict=True))
        rows.append((key, values[0] if len(set(values)) == 1 else each))
    return rows
