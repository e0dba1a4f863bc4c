"""All nights of a study: the table, the picture, and the run in MLflow that keeps both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engram import files
from engram.sweeps.nightly import entries
from engram.sweeps.nightly.entries import DONE, MISSED, Entry
from engram.sweeps.results.tables import SHOWN, title_of
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.tracking import nightly

MOST_SERIES = 20  # configurations whose measures are in the trend
NOTE_ROWS = 30
COLUMNS = ("night", "ended", "verdict", "trials", "best configuration")


def rows(known: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row a night, the oldest first: how it ended, its best configuration and that one's measures."""
    return [_row(entry) for entry in known]


def _row(entry: Entry) -> dict[str, Any]:
    best = entry.measures[0] if entry.measures else None
    finished, planned = entry.trials
    measures = best["measures"] if best else {}
    return {
        "night": entry.night,
        "ended": _ended(entry),
        "verdict": entry.judgement.get("verdict", ""),
        "trials": f"{finished}/{planned or '?'}" if entry.state != MISSED else "",
        "best configuration": label(best["params"]) if best else "",
        **{name: _mean(measures.get(name)) for name, _ in SHOWN},
        "moved": "; ".join(_moved(entry)),
        "causes": ", ".join(entry.judgement.get("causes", [])),
    }


def _ended(entry: Entry) -> str:
    return f"{entry.state}, some trials failed" if entry.code == 3 else entry.state


def _mean(measure: dict[str, float] | None) -> float | None:
    return None if not measure else measure["mean"]


def _moved(entry: Entry) -> list[str]:
    """As in: test error of dropout 0.2 +0.069; only where the night was compared."""
    changes = entry.judgement.get("changes", [])
    return [
        f"{title_of(c['measure'])} of {label(c['params'])} {c['change']:+.3f}"
        for c in changes
        if c["kind"] in ("regression", "better")
    ]


def text(study: str, known: Sequence[Entry]) -> str:
    """The table for a terminal, the newest night last."""
    header = [*COLUMNS, *(short for _, short in SHOWN)]
    body = [
        [str(r[c]) for c in COLUMNS] + [_digits(r[name]) for name, _ in SHOWN] for r in rows(known)
    ]
    widths = [max(len(line[k]) for line in [header, *body]) for k in range(len(header))]
    lines = [f"{study}: {len(known)} night{'s' if len(known) != 1 else ''}"]
    for line, entry in zip([header, *body], [None, *known], strict=True):
        cells = [
            cell.rjust(width) if k >= len(COLUMNS) else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        if entry is not None:
            lines += [f"    {moved}" for moved in _moved(entry)[:4]]
    return "\n".join(lines)


def markdown(study: str, known: Sequence[Entry]) -> str:
    """The same for MLflow, chat and pull requests, the newest night first."""
    header = [*COLUMNS, *(short for _, short in SHOWN), "moved"]
    lines = [f"**{study}**: {len(known)} nights", "", "| " + " | ".join(header) + " |"]
    lines.append("|---" * len(COLUMNS) + "|---:" * len(SHOWN) + "|---|")
    for row in reversed(rows(known)):
        cells = [str(row[c]) for c in COLUMNS] + [_digits(row[name]) for name, _ in SHOWN]
        lines.append(
            "| " + " | ".join(c.replace("|", "\\|") for c in [*cells, row["moved"]]) + " |"
        )
    return "\n".join(lines)


def as_json(known: Sequence[Entry]) -> str:
    """Every night with all that is kept of it."""
    return json.dumps([asdict(entry) for entry in known], indent=1)


def as_csv(known: Sequence[Entry]) -> str:
    out = io.StringIO()
    found = rows(known)
    writer = csv.DictWriter(out, list(found[0]) if found else list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue().rstrip("\n")


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


# -- picture and MLflow -----------------------------------------------------------------------------


def draw(study: str, known: Sequence[Entry]) -> Any:
    """The trend as a picture, in the state folder; its path, or None where there is nothing to draw."""
    from engram.sweeps.nightly import trend as figure

    picture = figure.trend(study, known)
    if picture is None:
        return None
    return files.write(entries.trend_path(study), picture.png)


def keep(study: Study, place: nightly.Place, known: list[Entry]) -> None:
    """Bring picture, table and curves of the study's trend in MLflow up to date."""
    compared = [e for e in known if e.state == DONE and e.measures]
    if not compared:
        return
    marker = entries.home() / "trends" / f"{study.name}.json"
    sent = files.read_json(marker)
    sent = set(sent) if isinstance(sent, list) else set()
    points = {e.night: _point(e, known[0]) for e in compared}
    new = {points[e.night].step for e in compared if e.night not in sent}
    # A night that is still to be finished is sent when it is.
    ended = [e.night for e in known if e.state not in entries.UNFINISHED]
    if not new and sent.issuperset(ended):
        return
    picture = draw(study.name, known)
    found = rows(known)
    table = {"columns": list(found[0]), "data": [list(row.values()) for row in found]}
    nightly.trend(
        place,
        study.name,
        list(points.values()),
        new,
        [picture] if picture else [],
        {"nights.json": table},
        markdown(study.name, known[-NOTE_ROWS:]),
    )
    files.write(marker, json.dumps(ended))


def _point(entry: Entry, first: Entry) -> nightly.Point:
    values = {}
    for trial in entry.measures[:MOST_SERIES]:
        for name, measure in trial["measures"].items():
            if measure:
                values[f"{name}/{label(trial['params'])}"] = measure["mean"]
    values["trials"] = float(entry.trials[0])
    values["regression"] = float(entry.judgement.get("verdict") == "regression")
    values["seconds"] = entry.seconds
    # Hours, so that a study with several nights a day has a step for each.
    step = round((entry.at - first.at).total_seconds() / 3600)
    return nightly.Point(step, round(entry.at.timestamp() * 1000), values)
