"""The article's claims: each with its study, the measured answer and the verdict.

Reads stored runs, and runs the studies when asked. What an answer says is in sweeps/answers; this file finds
the records, and shows the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeps import leaderboard, study
from sweeps.answers import generalization, memorization, published, regularization
from sweeps.answers.reading import Answer, Missing, Record
from sweeps.definition import study_file
from sweeps.definition.configuration import Study
from sweeps.definition.problems import Place, Problem, StudyError, nearest

DONE, SOME_FAILED, INTERRUPTED = 0, 3, 130

# In the order of the article; a study of the same name puts each to the test.
ANSWERS: dict[str, Callable[[Sequence[Record]], Answer]] = {
    answer.__name__: answer
    for answer in (
        regularization.dropout,
        regularization.weight_decay,
        regularization.early_stopping,
        regularization.augmentation,
        generalization.ten_million,
        generalization.learning_rate,
        generalization.families,
        generalization.activations,
        generalization.double_descent,
        generalization.capacity,
        memorization.signal_before_noise,
        memorization.individual_examples,
        memorization.layers,
        memorization.retention,
        memorization.leakage,
        memorization.ensembles,
        memorization.memorization_time,
        published.architectures,
        published.reference,
    )
}


@dataclass(frozen=True)
class Claim:
    """A claim as it stands: its study, the records there are, and the answer where they suffice.

    problem: why there is no answer, or why it is not the whole one."""

    name: str
    study: Study
    records: list[Record]
    answer: Answer | None
    problem: str = ""

    @property
    def verdict(self) -> str:
        if self.answer is not None:
            return self.answer.words + (" (so far)" if self.problem else "")
        return "not run" if not self.records else "no answer yet"

    @property
    def how_to_run(self) -> str:
        """The command that measures it."""
        small = " --small" if self.study.name != self.name else ""
        return f"python orchestrate.py claims {self.name} --run{small}"

    def entry(self) -> dict[str, Any]:
        """The claim as JSON values."""
        claim, answer = self.study.claim, self.answer
        return {
            "claim": self.name,
            "sentence": claim.sentence,
            "article": claim.article,
            "expects": claim.expects,
            "verdict": answer.verdict if answer else None,
            "depends_on": (answer.on or None) if answer else None,
            "answer": answer.sentence if answer else None,
            "trials": len(self.records),
            "problem": self.problem or None,
        }


def command(
    names: Sequence[str], run: bool, small: bool, output: str, gallery: str | None = None
) -> int:
    """Print the table of claims, after running their studies where that is asked for."""
    chosen = _chosen(names)
    code = _run(chosen, small) if run else DONE
    if code == INTERRUPTED:
        return code
    claims = [read(name, small) for name in chosen]
    if gallery is not None:
        from sweeps import gallery as pages

        print(pages.write(claims, gallery))
    elif output == "json":
        print(json.dumps([claim.entry() for claim in claims], indent=1, ensure_ascii=False))
    elif output == "markdown":
        print(markdown(claims))
    else:
        show(claims, Console())
    return code


def read(name: str, small: bool = False) -> Claim:
    """A claim from its stored run, the trials of other configurations left out."""
    tested = study.load(name, small=small)
    records, problem = _records(tested)
    if not records:
        return Claim(name, tested, [], None, problem)
    try:
        return Claim(name, tested, records, ANSWERS[name](records), problem)
    except (ValueError, LookupError, StopIteration) as error:  # Missing, and trials half in
        known = isinstance(error, Missing)
        why = f"the trials do not answer it: {error}" if known else "trials are missing"
        return Claim(name, tested, records, None, problem or why)


def _records(tested: Study) -> tuple[list[Record], str]:
    """The study's own trials in the store, and what is missing of them."""
    try:
        found = leaderboard.find(tested.name).records
    except StudyError:
        return [], ""
    wanted = {tested.configure(params).hash for params in tested.grid()}
    records = [record for record in found if record.get("config_hash") in wanted]
    if found and not records:
        return [], f"the stored run '{tested.name}' has other settings than the study"
    if len(records) < len(wanted):
        return records, f"{len(records)} of {len(wanted)} trials are in"
    return records, ""


def _run(names: Sequence[str], small: bool) -> int:
    """Run the studies one after the other; what is finished is not run again."""
    from sweeps import runner

    code = DONE
    for name in names:
        tested = study.load(name, data=True, small=small)
        ended = runner.run(tested, name=tested.name)
        if ended == INTERRUPTED:
            return INTERRUPTED
        code = max(code, ended)
    return code


def _chosen(names: Sequence[str]) -> list[str]:
    """The claims asked for, all without names; StudyError for a name that is none."""
    for name in names:
        if name not in ANSWERS:
            close = nearest(name, ANSWERS)
            fix = f"did you mean '{close}'? " if close else ""
            place = Place("claims")
            raise StudyError(
                [Problem(place, f"'{name}' is no claim", fix + "claims: " + ", ".join(ANSWERS))]
            )
    return list(names) or list(ANSWERS)


# -- how the table is shown -------------------------------------------------------------------------


def show(claims: Sequence[Claim], console: Console) -> None:
    """The table for people: claim, verdict, and the answer below it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for claim in claims:
        lines = [f"“{claim.study.claim.sentence}”", f"[bold]{_escaped(claim.verdict)}[/bold]"]
        if claim.answer is not None:
            lines.append(_escaped(claim.answer.sentence))
        if claim.problem:
            lines.append(f"[yellow]{_escaped(claim.problem)}[/yellow]")
        if claim.answer is None and not claim.records:
            lines.append(f"[bright_black]{claim.how_to_run}[/bright_black]")
        table.add_row(claim.name, "\n".join(lines))
    console.print(table, highlight=False)
    told = [claim for claim in claims if claim.answer is not None]
    counts = [
        f"{sum(c.answer is not None and c.answer.verdict == word for c in told)} {word}"
        for word in ("supported", "not supported", "depends")
    ]
    missing = len(claims) - len(told)
    console.print(
        f"{len(claims)} claims: {', '.join(counts)}"
        + (f", {missing} without an answer" if missing else "")
    )


def markdown(claims: Sequence[Claim]) -> str:
    """The table for documents."""
    lines = ["| claim | verdict | measured |", "|---|---|---|"]
    for claim in claims:
        measured = claim.answer.sentence if claim.answer else f"`{claim.how_to_run}`"
        cells = (f"{claim.study.claim.sentence} (`{claim.name}`)", claim.verdict, measured)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def shipped() -> list[str]:
    """Shipped studies that state a claim."""
    return [name for name in study_file.shipped() if study.load(name).claim.sentence]
