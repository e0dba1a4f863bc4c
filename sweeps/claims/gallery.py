"""The page of claims with pictures: docs/gallery.md, written from stored runs alone."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from engram import files
from engram.sweeps.claims import pictures
from engram.sweeps.claims.claim import Claim
from engram.sweeps.results import evidence as stored
from engram.sweeps.results import tables
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study.configuration import label

IMAGES = Path("images") / "gallery"
VERSIONS = ("torch", "numpy", "scipy", "ray", "optuna", "mlflow")
HEAD = """\
# Gallery of claims

The article's claims, each put to the test by a study that ships with the project. This page is
written by `{command}` from the stored runs;
`python orchestrate.py claims --run` makes those (it goes on where it stopped), and
`python orchestrate.py claims` prints the answers.

Intervals are 95 % over replicas, and differences are paired: the same subsets and seeds on both sides.
*Depends* says on what. Where nothing was held out for validation, nothing was selected either.
A verdict is about the one dataset that is named under its table: *supported* there is no claim about others.
"""


def write(claims: Sequence[Claim], file: str) -> str:
    """Write the page and its pictures beside it; returns what was written, in a sentence."""
    path = Path(file)
    held = {claim.name: stored.gather(claim.study.name) for claim in claims if claim.records}
    parts = [HEAD.format(command=f"python orchestrate.py claims --gallery {path.as_posix()}")]
    parts += [_made_where(list(held.values())), _overview(claims)]
    drawn = 0
    for claim in claims:
        image = _picture(claim, held[claim.name], path.parent) if claim.answer else None
        drawn += image is not None
        parts.append(_section(claim, held.get(claim.name), image))
    files.write(path, "\n".join(parts))
    return f"{path}: {len(claims)} claims, {sum(c.answer is not None for c in claims)} answered, {drawn} pictures"


def _made_where(runs: Sequence[Evidence]) -> str:
    """Date, machine and versions of the runs."""
    if not runs:
        return ""
    days = sorted({_day(run) for run in runs if run.info.get("started")})
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    origin = runs[-1].provenance
    machine = f"{origin.get('machine.processor')}, {origin.get('machine.cores')} cores"
    versions = ", ".join(f"{name} {origin.get(f'version.{name}')}" for name in VERSIONS)
    trials = sum(len(run.records) for run in runs)
    networks = sum(r.get("replicas") or 0 for run in runs for r in run.records)
    hours = sum((r.get("seconds") or 0) + (r.get("measure_seconds") or 0) for run in runs for r in run.records) / 3600  # fmt: skip
    return (
        f"Measured {span} on {machine}, one thread a trial; Python {origin.get('python')}, {versions}. "
        f"{trials} trials, {networks:,} networks, {hours:.1f} hours of trial time.\n"
    )


def _day(run: Evidence) -> str:
    return datetime.datetime.fromtimestamp(run.info["started"], datetime.UTC).date().isoformat()


def _overview(claims: Sequence[Claim]) -> str:
    lines = ["| claim | verdict |", "|---|---|"]
    for claim in claims:
        place = claim.name.replace("_", "-")
        lines.append(f"| [{claim.study.claim.sentence}](#{place}) | {_cell(claim.verdict)} |")
    return "\n".join(lines) + "\n"


def _section(claim: Claim, run: Evidence | None, image: Path | None) -> str:
    """One claim: sentence, what was expected, the answer, the picture, the table, the command."""
    asked = claim.study.claim
    # The heading is the study's name with dashes, so that its anchor is the same everywhere.
    parts = [f"## {claim.name.replace('_', '-')}", f"> {asked.sentence}"]
    parts.append(f"The article: {(asked.article or '').strip()} Expected: {asked.expects}")
    if claim.answer is None:
        parts.append(f"**{claim.verdict}**" + (f": {claim.problem}" if claim.problem else ""))
    else:
        parts.append(f"**{claim.verdict[0].upper()}{claim.verdict[1:]}.** {claim.answer.sentence}")  # fmt: skip
        if claim.problem:
            parts.append(f"*{claim.problem}.*")
    if image is not None:
        parts.append(f"![{asked.sentence}]({image.as_posix()})")
    if claim.answer is not None and run is not None:
        parts.append(_table(claim))
        parts.append(_how(claim, run))
    parts.append(f"    {claim.how_to_run}")
    return "\n\n".join(parts) + "\n"


def _table(claim: Claim) -> str:
    assert claim.answer is not None
    columns = claim.answer.columns
    lines = ["| configuration | " + " | ".join(map(tables.title_of, columns)) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    axes = list(claim.study.sweep)
    for record in claim.records:
        params = {key: record["params"][key] for key in axes if key in record["params"]}
        cells = [tables.cell(record, column) for column in columns]
        if record["status"] != "completed":
            cells[0] += f" ({record['status']})"
        lines.append(f"| {_cell(label(params))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _how(claim: Claim, run: Evidence) -> str:
    """How it was run, in a line."""
    study, records = claim.study, claim.records
    seconds = sum((r.get("seconds") or 0) + (r.get("measure_seconds") or 0) for r in records)
    data = study.data
    pool = f" of {records[0]['pool_examples']:,}" if records[0].get("pool_examples") else ""
    return (
        f"{len(records)} trials of {study.replicas.count} replicas on {data.name}, "
        f"{study.replicas.draw} draws{pool} examples; {seconds / 60:.1f} minutes of trial time, {_day(run)}."
    )


def _picture(claim: Claim, run: Evidence, folder: Path) -> Path | None:
    """Draw and save; None where the trials support no picture."""
    verdict = f"{claim.verdict[0].upper()}{claim.verdict[1:]}."
    png = pictures.draw(claim.name, run, f"{claim.study.claim.sentence} {verdict}")
    if png is None:
        return None
    path = folder / IMAGES / f"{claim.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return IMAGES / path.name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
