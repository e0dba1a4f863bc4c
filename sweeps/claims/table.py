"""The claims as a table: for a terminal, and for documents."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from engram.sweeps.claims.claim import Claim, counted


def show(claims: Sequence[Claim], console: Console) -> None:
    """The table for people: claim, verdict, and the answer below it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for claim in claims:
        lines = [f"“{claim.study.claim.sentence}”", f"[bold]{_escaped(claim.verdict)}[/bold]"]
        for dataset, answer in claim.answers.items():
            before = f"{dataset}: " if len(claim.answers) > 1 else ""
            lines.append(_escaped(before + answer.sentence))
        if claim.over_datasets:
            lines.append(_escaped(claim.over_datasets))
        lines += [f"[yellow]{_escaped(problem)}[/yellow]" for problem in claim.problems]
        if any(not one.records for one in claim.tried):
            lines.append(f"[bright_black]{claim.how_to_run}[/bright_black]")
        table.add_row(claim.name, "\n".join(lines))
    console.print(table, highlight=False)
    console.print(counted(claims))


def markdown(claims: Sequence[Claim]) -> str:
    """The table for documents."""
    lines = ["| claim | verdict | measured |", "|---|---|---|"]
    for claim in claims:
        told = [answer.sentence for answer in claim.answers.values()]
        measured = " ".join([*told, claim.over_datasets]).strip() or f"`{claim.how_to_run}`"
        cells = (f"{claim.study.claim.sentence} (`{claim.name}`)", claim.verdict, measured)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
