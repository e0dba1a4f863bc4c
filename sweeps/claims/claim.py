"""A claim as it stands: the sentence, its study, and the answer from the records there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engram import program
from engram.sweeps.claims.answer import Answer
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import Study


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
        return f"{program.name()} claims {self.name} --run{small}"

    def entry(self) -> dict[str, Any]:
        """The claim as JSON values."""
        claim, answer = self.study.claim, self.answer
        return {
            "claim": self.name,
            "sentence": claim.sentence,
            "article": claim.article,
            "expects": claim.expects,
            "measure": claim.measure,
            "comparison": claim.comparison,
            "margin": claim.margin,
            "refuted_by": claim.refuted_by,
            "verdict": answer.verdict if answer else None,
            "depends_on": (answer.on or None) if answer else None,
            "answer": answer.sentence if answer else None,
            "trials": len(self.records),
            "problem": self.problem or None,
        }
