"""The page of claims with pictures: docs/gallery.md, written from stored runs alone."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from pathlib import Path

from engram import files
from engram.sweeps.claims import catalog, pictures
from engram.sweeps.claims.answer import signed
from engram.sweeps.claims.claim import Claim, Tried
from engram.sweeps.results import evidence as stored
from engram.sweeps.results import tables
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study.configuration import label

Runs = dict[str, Evidence]  # by the execution's name
IMAGES = Path("images") / "gallery"
VERSIONS = ("torch", "numpy", "scipy", "ray", "optuna", "mlflow")
HEAD = """\
# Gallery of claims

The article's claims, each put to the test by a study that ships with the project. This page is
written by `{command}` from the stored runs;
`python orchestrate.py claims --run` makes those (it goes on where it stopped), and
`python orchestrate.py claims` prints the answers.

Intervals are 95 % over replicas, and differences are paired: the same subsets and seeds on both sides.
Each arm of a comparison has the learning rate of its own best validation error, where the study sweeps it.
What decides, what is compared with what, and what would refute a claim stand in its study file, and were said before
the run. *Depends* says on what. A verdict counts for the datasets it names; for fewer than three of them it is none
about the world. From three on the effect is put together over datasets (random effects: restricted maximum
likelihood, Hartung and Knapp's interval, and where another dataset is to be expected).

A section says when it was measured. *mnist* stands for the 10,000 test images of MNIST, which do not ship: `claims NAME --run --on mnist=idx:FOLDER`.
"""


def write(claims: Sequence[Claim], file: str) -> str:
    """Write the page and its pictures beside it; returns what was written, in a sentence.

    Of claims that are not among these, or that have no run here, the page keeps what it says."""
    path = Path(file)
    held = {
        one.study.name: stored.gather(one.study.name)
        for claim in claims
        for one in claim.tried
        if one.records
    }
    rows, sections = _as_it_is(path)
    drawn, renewed = 0, 0
    for claim in claims:
        place = _place(claim.name)
        if place in sections and not any(one.records for one in claim.tried):
            continue
        image = _picture(claim, held, path.parent)
        drawn += image is not None
        renewed += bool(claim.answered)
        rows[place] = f"| [{claim.study.claim.sentence}](#{place}) | {_cell(claim.verdict)} |\n"
        sections[place] = _section(claim, held, image)
    places = [place for place in map(_place, catalog.CLAIMS) if place in sections]
    parts = [HEAD.format(command=f"python orchestrate.py claims --gallery {path.as_posix()}")]
    parts += [_made_where(list(held.values()))]
    parts += ["| claim | verdict |\n|---|---|\n" + "".join(rows[place] for place in places)]
    parts += [sections[place] for place in places]
    files.write(path, "\n".join(parts))
    return f"{path}: {len(claims)} claims, {renewed} answered, {drawn} pictures"


def _as_it_is(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Rows of the overview and sections of the page that is there, by place."""
    if not path.exists():
        return {}, {}
    head, *parts = path.read_text().split("\n## ")
    rows = {m[1]: f"{m[0]}\n" for m in re.finditer(r"^\| \[.*\]\(#([\w-]+)\) \|.*$", head, re.M)}
    found = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}
    return rows, {place: text for place, text in found.items() if place in rows}


def _place(name: str) -> str:
    """The heading of a claim: its name with dashes, so that its anchor is the same everywhere."""
    return name.replace("_", "-")


def _machine(run: Evidence) -> str:
    """Where a run was made, and with which versions."""
    origin = run.provenance
    made_on = [r.get("device") or {} for r in run.records]
    gpus = ", ".join(sorted({str(device["name"]) for device in made_on if "name" in device}))
    machine = f"{origin.get('machine.processor')}, {origin.get('machine.cores')} cores"
    versions = ", ".join(f"{name} {origin.get(f'version.{name}')}" for name in VERSIONS)
    place = f"{gpus} beside {machine}" if gpus else machine
    return f"{place} (Python {origin.get('python')}, {versions})"


def _made_where(runs: Sequence[Evidence]) -> str:
    """Date, machine and versions of the runs."""
    if not runs:
        return ""
    days = sorted({_day(run) for run in runs if run.info.get("started")})
    span = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    trials = sum(len(run.records) for run in runs)
    networks = sum(r.get("replicas") or 0 for run in runs for r in run.records)
    hours = sum((r.get("seconds") or 0) + (r.get("measure_seconds") or 0) for run in runs for r in run.records) / 3600  # fmt: skip
    places = "; ".join(dict.fromkeys(_machine(run) for run in runs))
    return (
        f"Measured last: {span}; {trials} trials, {networks:,} networks, {hours:.1f} hours of trial time. One thread a trial; "
        f"{places}."
    )


def _day(run: Evidence) -> str:
    return datetime.datetime.fromtimestamp(run.info["started"], datetime.UTC).date().isoformat()


def _section(claim: Claim, held: Runs, image: Path | None) -> str:
    """One claim: sentence, what was said before the run, the answers, the picture, the tables, the command."""
    asked = claim.study.claim
    parts = [f"## {_place(claim.name)}", f"> {asked.sentence}"]
    parts.append(f"The article: {(asked.article or '').strip()} Expected: {asked.expects}")
    parts.append(
        f"Decided by: {asked.measure}. Compared: {asked.comparison} Refuted by: {asked.refuted_by}"
    )
    parts.append(
        f"**{claim.verdict[0].upper()}{claim.verdict[1:]}.** {claim.over_datasets}".strip()
    )
    if len(claim.answered) > 1:
        parts.append(_effects(claim))
    if image is not None:
        parts.append(f"![{asked.sentence}]({image.as_posix()})")
    for one in claim.answered:
        parts += [_told(one), _table(one), _how(one, held[one.study.name])]
    parts += [f"*{problem}.*" for problem in claim.problems]
    parts.append(f"    {claim.how_to_run}")
    return "\n\n".join(parts) + "\n"


def _told(one: Tried) -> str:
    """The answer on one dataset."""
    assert one.answer is not None
    return f"On {one.dataset}, **{one.verdict}**. {one.answer.sentence}"


def _effects(claim: Claim) -> str:
    """The effect on each dataset."""
    lines = ["| dataset | verdict | effect | |", "|---|---|---:|---|"]
    for one in claim.answered:
        effect = one.answer.effect if one.answer else None
        shown = (signed(effect.found), effect.words) if effect else ("", "")
        lines.append(f"| {one.dataset} | {' | '.join(map(_cell, (one.verdict, *shown)))} |")
    return "\n".join(lines)


def _table(one: Tried) -> str:
    assert one.answer is not None
    columns = one.answer.columns
    lines = ["| configuration | " + " | ".join(map(tables.title_of, columns)) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    axes = list(one.study.sweep)
    for record in one.answer.arms or one.records:
        params = {key: record["params"][key] for key in axes if key in record["params"]}
        cells = [tables.cell(record, column) for column in columns]
        if record["status"] != "completed":
            cells[0] += f" ({record['status']})"
        lines.append(f"| {_cell(label(params))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _how(one: Tried, run: Evidence) -> str:
    """How it was run, in a line."""
    study, records = one.study, one.records
    seconds = sum((r.get("seconds") or 0) + (r.get("measure_seconds") or 0) for r in records)
    pool = f" of {records[0]['pool_examples']:,}" if records[0].get("pool_examples") else ""
    return (
        f"{len(records)} trials of {study.replicas.count} replicas on {one.dataset}, "
        f"{study.replicas.draw} draws{pool} examples; {seconds / 60:.1f} minutes of trial time, {_day(run)}."
    )


def _picture(claim: Claim, held: Runs, folder: Path) -> Path | None:
    """Draw the first dataset that answers, and save; None where the trials support no picture."""
    if not claim.answered:
        return None
    one = claim.answered[0]
    run = held[one.study.name]
    if one.answer and one.answer.arms:
        run = dataclasses.replace(run, records=list(one.answer.arms))
    title = f"{claim.study.claim.sentence} On {one.dataset}: {one.verdict}."
    png = pictures.draw(claim.name, run, title)
    if png is None:
        return None
    path = folder / IMAGES / f"{claim.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    return IMAGES / path.name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
