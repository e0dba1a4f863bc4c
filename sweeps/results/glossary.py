"""The tables of words in docs/review.md, written from `words`: `python -m engram.sweeps.results.glossary` puts them in.

What stands outside the two marks is written by hand, and left alone. A test fails where the page is out of step.
"""

from __future__ import annotations

from pathlib import Path

from engram.sweeps.results import words

PAGE = Path(__file__).parents[2] / "docs" / "review.md"
COMMAND = "python -m engram.sweeps.results.glossary"
BEGIN = f"<!-- written by `{COMMAND}`: change sweeps/results/words.py instead -->"
END = "<!-- end of what is written -->"


def page(text: str | None = None) -> str:
    """The page with its tables as they should be; text: the page as it is."""
    before, _, rest = (PAGE.read_text() if text is None else text).partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def tables() -> str:
    """What the answers, the verdicts, and the names of settings mean."""
    return "\n".join(
        [
            _table(("answer", "meaning"), [(f"*{w}*", said) for w, said in words.ANSWERS.items()]),
            _table(
                ("verdict", "meaning"), [(f"*{w}*", said) for w, said in words.VERDICTS.items()]
            ),
            _table(
                ("key", "on boards", "in sentences", "on axes"),
                [
                    (f"`{key}`", words.heading(key), subject, title)
                    for key, (subject, title) in words.SETTINGS.items()
                ],
            ),
        ]
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
