"""The tables of docs/measures.md, written from the catalog: `python -m engram.measures.page` puts them in.

What stands outside the two marks is written by hand, and left alone. A test fails where the page is out of step.
"""

from __future__ import annotations

from pathlib import Path

from engram.measures import catalog
from engram.measures.measure import Measure

PAGE = Path(__file__).parent.parent / "docs" / "measures.md"
COMMAND = "python -m engram.measures.page"
BEGIN = f"<!-- written by `{COMMAND}`: change measures/catalog.py instead -->"
END = "<!-- end of what is written -->"

# Heading, what holds for all of it, and its measures.
GROUPS: tuple[tuple[str, str, tuple[Measure, ...]], ...] = (
    ("Always", "", catalog.ALWAYS),
    (
        "Metrics, where they are asked for",
        "`measures.own: [f1, auroc]` takes them, and so does an objective that names one. Each has a value "
        "per replica, on the test set under its own name and on the validation set as `validation_NAME`, "
        "by which the study then selects. scikit-learn computes all but the calibration error.",
        catalog.METRIC,
    ),
    (
        "Per example of the pool",
        "Where some replicas were trained on an example and some were not. Of a pool above 20 000 examples, a "
        "random choice of 20 000 such examples is measured, and the record says so.",
        catalog.EXAMPLES,
    ),
    (
        "Secrets in a text",
        "Where `data.canaries` plants some: windows of random tokens that end in three secret ones, out of ten that are the "
        "commonest. Each is seen often by some replicas and never by others. Training error and loss leave them out.",
        catalog.PLANTED,
    ),
    (
        "While training",
        "Needs a look at the pool at each evaluation (`training.evaluate_every: 1` for every epoch).",
        catalog.TRAINING,
    ),
    (
        "Where training ended",
        "`measures.flatness`. Each weight moves by a normal number of a tenth of its own size, five times, so that a "
        "rescaling of layers changes nothing (Jiang et al. 2020; Keskar et al. 2017).",
        catalog.LANDSCAPE,
    ),
    ("After training", "Each leaves the networks as they were.", catalog.AFTER),
    ("Sizes", "Columns without an interval.", catalog.SIZES),
)


def page(text: str | None = None) -> str:
    """The page with its tables as they should be; text: the page as it is."""
    before, _, rest = (PAGE.read_text() if text is None else text).partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def tables() -> str:
    """One table for each group; a measure in none of them stands with those that are taken as it is."""
    grouped = {measure.name for _, _, group in GROUPS for measure in group}
    others = [m for name, m in catalog.MEASURES.items() if name not in grouped]
    parts = []
    for heading, about, group in GROUPS:
        rows = [m for m in group if m.name in catalog.MEASURES]
        if group in (catalog.ALWAYS, catalog.METRIC):
            rows += [m for m in others if m.asked == (group is catalog.METRIC)]
        parts.append(f"## {heading}\n")
        parts += [f"{about}\n"] if about else []
        parts.append(
            "| column | meaning | unit | better | given for | costs | switched on by | |\n|---|---|---|---|---|---|---|---|"
        )
        parts.append("\n".join(map(_row, rows)) + "\n")
    return "\n".join(parts)


def _row(measure: Measure) -> str:
    better = {"min": "low", "max": "high"}.get(measure.better, "neither")
    kinds = (("select", measure.objective), ("new data", measure.new_data))
    marks = [mark for mark, is_so in kinds if is_so]
    if measure.task:
        marks.append(measure.task)
    name, sentence = (t.replace("{k}", "K") for t in (measure.name, measure.sentence))
    cells = (
        f"`{name}`",
        sentence,
        measure.unit,
        better,
        measure.given_for,
        measure.price,
        _code(measure.switch),
        ", ".join(marks),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(switch: str) -> str:
    """`measures.layers`, but wrong labels."""
    word, _, rest = switch.partition(" ")
    return f"`{word}` {rest}".strip() if "." in word else switch


if __name__ == "__main__":
    PAGE.write_text(page())
