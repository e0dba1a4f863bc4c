"""One execution as a page for somebody who was not there: question, answer, rankings, pictures, limits.

One HTML file that asks no other host for anything, and a Markdown form for pull requests and chat.
Knows no arithmetic: numbers are the leaderboard's, sentences the findings'.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engram import files, program
from engram.problems import StudyError
from engram.sweeps.results import columns, explorer, findings, followup, markup, tables, words
from engram.sweeps.results.boards import BESIDES, Board, Row, available
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import cell, status_of, title_of
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import label

SCRIPTS = ("charts", "table", "explore")
MOST_HIDDEN = 300  # rows of a table that has every measure, those beyond the usual hidden at first
MOST_ROWS = 1000  # of the first ranking; the others repeat the same trials
MOST_ROWS_LATER = 50
MOST_TRIALS = 500
MARKDOWN_ROWS = 10


def write(evidence: Evidence, out: str | None, form: str | None = None) -> str:
    """Write the report as an HTML or Markdown file; returns its path, or Markdown where no file is asked for."""
    if form_of(out, form) == "markdown":
        text = markdown(evidence)
        return text if out is None else str(files.write(Path(out), text))
    path = Path(out) if out else paths.study_dir(evidence.name) / "report.html"
    return str(files.write(path, page(evidence, pictures_of(evidence))))


def form_of(out: str | None, form: str | None) -> str:
    """html or markdown: as asked for, else by the file's ending."""
    return form or ("markdown" if out and out.endswith((".md", ".markdown")) else "html")


def pictures_of(evidence: Evidence) -> list[Any]:
    from engram.sweeps.results.figures import draw  # matplotlib takes a while to import

    return draw.draw(evidence)


# -- the page ---------------------------------------------------------------------------------------


def page(evidence: Evidence, pictures: list[Any], instead: Mapping[str, Any] | None = None) -> str:
    """The HTML report; pictures: of figures.draw; instead: parts that are otherwise, of several executions.

    Everything that comes from outside is escaped."""
    from markupsafe import Markup

    style = markup.style()
    scripts = [(markup.PAGE / f"{name}.js").read_text() for name in SCRIPTS]
    first = findings.leader(evidence)
    shown = _in_order(evidence)
    parts: dict[str, Any] = dict(
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        style_hash=_hash(style),
        script_hashes=" ".join(map(_hash, scripts)),
        data=Markup(_embedded(explorer.content(evidence))),
        program=program.name(),
        name=evidence.name,
        study_name=evidence.info.get("study") or evidence.name,
        question=evidence.question,
        answers=findings.answers(evidence),
        answer_note=findings.answer_note(evidence),
        best=findings.best(evidence),
        verdict=first.verdict if first else None,
        reason=first.reason if first else "",
        facts=_facts(evidence),
        claim=evidence.study.claim if evidence.study else None,
        effects=findings.effects(evidence),
        next_steps=[] if instead else _next_steps(evidence),
        boards=[_board(evidence, board, k == 0) for k, board in enumerate(evidence.boards)],
        pictures=[
            {"name": p.name, "title": p.title, "caption": p.caption, "source": _data_uri(p.svg)}
            for p in pictures
        ],
        limits=findings.limits(evidence),
        trials=[_trial(evidence, record) for record in shown[:MOST_TRIALS]],
        trials_left_out=max(0, len(shown) - MOST_TRIALS),
        commands=commands(evidence),
        provenance=_provenance(evidence),
        text=evidence.text,
        words=_words(evidence),
        answer_words=words.ANSWERS,
        verdict_words=words.VERDICTS,
        title_of=title_of,
        matched=None,
    )
    return markup.template("report.html").render(**{**parts, **(instead or {})})


def _next_steps(evidence: Evidence) -> list[str]:
    """What the data ask for next; nothing where they cannot say."""
    try:
        return followup.follow_up(evidence).sentences
    except StudyError:
        return []


def _hash(text: str) -> str:
    """What the page's own policy knows an inline style or script by: any other is refused."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(content: dict[str, Any]) -> str:
    """JSON that no HTML can be read into."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _data_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _facts(evidence: Evidence) -> list[tuple[str, str]]:
    counts: dict[str, int] = {}
    for record in evidence.records:
        counts[record["status"]] = counts.get(record["status"], 0) + 1
    facts = [("trials", ", ".join(f"{n} {status}" for status, n in counts.items()) or "none yet")]
    study = evidence.study
    if study:
        facts.append(
            ("swept", "; ".join(f"{key}: {axis}" for key, axis in study.sweep.items()) or "nothing")
        )
        replicas = study.replicas
        facts.append(
            ("replicas", f"{replicas.count} per trial, {replicas.draw} draws, seed {replicas.seed}")
        )
        data = study.data
        facts.append(("data", f"{data.name}, {data.validation:g} held out for validation"))
        facts.append(
            (
                "search",
                f"{study.search.sampler}, {_objective(study)}; scheduler {study.scheduler.name}",
            )
        )
    if evidence.info.get("started"):
        when = datetime.fromtimestamp(evidence.info["started"], UTC)
        facts.append(("last started", f"{when:%Y-%m-%d %H:%M} UTC"))
    seconds = sum(r.get("seconds") or 0 for r in evidence.records)
    facts.append(("training time", f"{seconds:,.0f} s in all trials together"))
    return facts


def _objective(study: Any) -> str:
    return ", ".join(
        f"{'lowest' if direction == 'min' else 'highest'} {title_of(name)}"
        for name, direction in study.search.objective.items()
    )


def _words(evidence: Evidence) -> dict[str, str]:
    """What each measure of these records is, in a sentence."""
    found = (columns.column(name, evidence.records) for name in available(evidence.records))
    return {measure.name: measure.sentence for measure in found if measure.sentence}


def _board(evidence: Evidence, board: Board, first: bool) -> dict[str, Any]:
    usual = columns.shown(board.by, [row.record for row in board.rows])
    most = MOST_ROWS if first else MOST_ROWS_LATER
    found = [{"key": key, "heading": heading, "hidden": False} for key, heading in usual]
    if first and len(board.rows) <= MOST_HIDDEN:
        known = {key for key, _ in usual}
        found += [
            {"key": key, "heading": columns.column(key, evidence.records).heading, "hidden": True}
            for key in available(evidence.records)
            if key not in known
        ]
    axes = [explorer.axis(evidence, key) for key in evidence.axes]
    return {
        "by": board.by,
        "title": tables.ranked_by(board),
        "axes": [
            {"heading": a["short"], "title": a["name"], "text": a["scale"] == "names"} for a in axes
        ],
        "columns": found,
        "rows": [_row(row, board.by, axes, found) for row in board.rows[:most]],
        "more": max(0, len(board.rows) - most),
        "notes": [_tie_note(note) for note in tables.footnotes(board, None)]
        + words.legend([], [key for key, _ in usual], "data.train_size" in evidence.axes),
    }


def _row(
    row: Row, by: str, axes: list[dict[str, Any]], found: list[dict[str, Any]]
) -> dict[str, Any]:
    record, verdict = row.record, status_of(row, by)
    return {
        "rank": row.rank,
        "tie": row.tie_group,
        "trial": record["trial"],
        "label": label(record["params"]),
        "settings": [_setting(record, axis) for axis in axes],
        "cells": [
            (c["key"], cell(record, c["key"]), _number(record, c["key"]), c["hidden"])
            for c in found
        ],
        "verdict": verdict,
        "means": words.VERDICTS.get(verdict, ""),
    }


def _setting(record: Record, axis: dict[str, Any]) -> tuple[str, str, bool]:
    """(what a cell says, what it sorts by, whether it is text)"""
    value = record["params"].get(axis["key"])
    text = words.value(value)
    return text, repr(value) if is_number(value) else text, axis["scale"] == "names"


def _tie_note(note: str) -> str:
    """The terminal marks a tie by =, the page by a number."""
    return note.replace(
        "=N cannot be told from row N, the first of its group",
        "rows with one tie number cannot be told from the first of them",
    )


def _number(record: Record, key: str) -> str:
    """What a cell sorts by."""
    measure = record["measures"].get(key)
    if key in BESIDES and record.get(key) is not None:
        return repr(record[key])
    return "" if not measure or not math.isfinite(measure["mean"]) else repr(measure["mean"])


def _in_order(evidence: Evidence) -> list[Record]:
    return [row.record for row in evidence.board.rows] if evidence.board else evidence.records


def _trial(evidence: Evidence, record: Record) -> dict[str, Any]:
    rows = {row.record["trial"]: row for row in (evidence.board.rows if evidence.board else [])}
    row = rows.get(record["trial"])
    facts = [
        f"{record[key]:,} {name}"
        for key, name in (
            ("replicas", "replicas"),
            ("epochs", "epochs"),
            ("steps", "steps"),
            ("parameters", "parameters"),
        )
        if record.get(key) is not None
    ]
    if record.get("seconds") is not None:
        facts.append(f"{record['seconds']:.1f} s")
    if record.get("diverged_replicas"):
        facts.append(f"{record['diverged_replicas']} replicas diverged")
    facts += own_network(record)
    if record.get("execution"):
        facts.append(record["execution"])
    if record.get("run_id"):
        facts.append(f"MLflow run {record['run_id']}")
    return {
        "number": record["trial"],
        "label": label(record["params"]),
        "status": record["status"],
        "verdict": row.verdict if row else None,
        "reason": row.reason if row else "",
        "error": record.get("error"),
        "facts": facts,
        "measures": [
            (key, title_of(key), _both(record, key)) for key, m in record["measures"].items() if m
        ],
        "warnings": record.get("warnings") or [],
    }


def own_network(record: Record) -> list[str]:
    """How the replicas of a person's own network ran, why, and what it was built with."""
    way, found = record.get("way"), []
    if way == "plain":
        found.append(f"replicas one by one: {record.get('way_reason') or 'as asked'}")
    elif record.get("optimizer_way") == "replica by replica":
        found.append("an optimizer for each replica")
    if way == "vmapped":
        found.insert(0, "replicas stacked")
    if way not in ("vmapped", "plain"):
        return found
    built = record.get("built_with") or {}
    if built:
        found.append("built with " + ", ".join(f"{name}={value}" for name, value in built.items()))
    return found


def _both(record: Record, key: str) -> str:
    """A measure with its interval for retraining, and the one for new data where it is known."""
    wide = tables.new_data(record, key)
    return f"{cell(record, key)} (new data: {wide})" if wide else cell(record, key)


def commands(evidence: Evidence) -> str:
    """What to type to get these numbers again."""
    lines = []
    commit = evidence.provenance.get("git.commit")
    if commit:
        dirty = (
            "    # it had changes that were not committed"
            if evidence.provenance.get("git.dirty")
            else ""
        )
        lines.append(f"git checkout {commit}{dirty}")
    study = evidence.info.get("study") or evidence.name
    lines.append(f"# {study}.yaml: the study file, kept with this run as study.yaml")
    options = [f"--set {shlex.quote(option)}" for option in evidence.info.get("overrides") or []]
    if evidence.name != study:
        options.append(f"--name {evidence.name}")
    lines.append(" ".join([f"{program.name()} run", f"{study}.yaml", *options]))
    return "\n".join(lines)


def _provenance(evidence: Evidence) -> list[tuple[str, str]]:
    rows = [
        (key, "unknown" if value is None else str(value))
        for key, value in evidence.provenance.items()
    ]
    ran = dict.fromkeys(own_network(r)[0] for r in evidence.records if own_network(r))
    return [*rows, ("networks", "; ".join(ran))] if ran else rows


# -- Markdown ---------------------------------------------------------------------------------------


def markdown(evidence: Evidence, rows: int = MARKDOWN_ROWS) -> str:
    """The report for pull requests, chat, and the page of the run in MLflow: verdict first."""
    first = findings.leader(evidence)
    parts = [f"**{_plain(told)}**" for told in findings.answers(evidence)]
    parts.append(_plain(findings.best(evidence)))
    if first and first.verdict:
        parts.append(f"Verdict: **{first.verdict}**: {_plain(first.reason)}.")
    if evidence.question:
        parts.append(f"*Question:* {_plain(evidence.question)}")
    board = evidence.board
    if board:
        shown = Board(board.by, board.rows[:rows], board.needed)
        parts.append(
            f"### Ranked by {tables.ranked_by(board)}\n\n{_plain(tables.markdown(shown), table=True)}"
        )
        left = len(board.rows) - rows
        notes = [f"- {_plain(note)}" for note in tables.footnotes(board, None)]
        notes += [f"- {left} more trials"] if left > 0 else []
        if len(board.rows) > tables.IN_MLFLOW:
            notes.append(
                f"- MLflow's tables have the best {tables.IN_MLFLOW:,}; `leaderboard` with `--format csv` has all"
            )
        parts.append("\n".join(notes))
    effects = findings.effects(evidence)
    if effects:
        parts.append(
            "### What the trials say together\n\n" + "\n".join(f"- {_plain(e)}" for e in effects)
        )
    steps = _next_steps(evidence)
    if steps:
        parts.append("### What next\n\n" + "\n".join(f"- {_plain(step)}" for step in steps))
    parts.append(
        "### Limits\n\n" + "\n".join(f"- {_plain(text)}" for text in findings.limits(evidence))
    )
    parts.append(f"### How to reproduce\n\n```\n{commands(evidence)}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str, table: bool = False) -> str:
    """Text that is neither HTML nor emphasis to a Markdown reader."""
    escaped = html.escape(text, quote=False)
    return escaped if table else escaped.replace("*", "\\*").replace("_", "\\_").replace("`", "\\`")
