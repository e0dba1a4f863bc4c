"""The claims as a table: for a terminal, and for documents."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from engram.sweeps.claims.claim import Claim


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
