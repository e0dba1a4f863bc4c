"""A claim as it stands: the sentence, the datasets it was put to, the answer on each, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engram import program
from engram.measures import meta_analysis
from engram.measures.meta_analysis import Pooled
from engram.sweeps.claims.answer import Answer, listed
from engram.sweeps.results.record import Record
from engram.sweeps.study.configuration import Study

ON = "-on-"  # between a claim's name and a dataset's, in the name of an execution


@dataclass(frozen=True)
class Tried:
    """A claim put to one dataset: its study there, the records there are, and the answer where they suffice.

    problem: why there is no answer, or why it is not the whole one."""

    dataset: str
    study: Study
    records: list[Record]
    answer: Answer | None
    problem: str = ""

    @property
    def verdict(self) -> str:
        if self.answer is not None:
            return self.answer.words + (" (so far)" if self.problem else "")
        return "not run" if not self.records else "no answer yet"

    def entry(self) -> dict[str, Any]:
        """This dataset's part as JSON values."""
        answer = self.answer
        effect = answer.effect if answer else None
        return {
            "dataset": self.dataset,
            "verdict": answer.verdict if answer else None,
            "depends_on": (answer.on or None) if answer else None,
            "answer": answer.sentence if answer else None,
            "effect": None
            if effect is None
            else {
                "of": effect.words,
                "mean": effect.found.mean,
                "low": effect.found.low if effect.found.known else None,
                "high": effect.found.high if effect.found.known else None,
                "claimed": effect.claimed,
            },
            "trials": len(self.records),
            "problem": self.problem or None,
        }


@dataclass(frozen=True)
class Claim:
    """A claim with every dataset that it was or is to be put to, that of its own study first."""

    name: str
    tried: list[Tried]

    @property
    def study(self) -> Study:
        return self.tried[0].study

    @property
    def answered(self) -> list[Tried]:
        return [one for one in self.tried if one.answer is not None]

    @property
    def answers(self) -> dict[str, Answer]:
        """By dataset."""
        return {one.dataset: one.answer for one in self.tried if one.answer is not None}

    @cached_property
    def pooled(self) -> Pooled | None:
        """The effect over datasets; None below three of them, and where the claim has none that can be pooled."""
        effects = [answer.effect for answer in self.answers.values()]
        sure = [effect.found for effect in effects if effect is not None and effect.found.se > 0]
        if len(sure) < meta_analysis.FEWEST or len(sure) < len(effects):
            return None
        return meta_analysis.pool([f.mean for f in sure], [f.se for f in sure])

    @property
    def word(self) -> str | None:
        """supported, not supported, depends, or one of them with `here`: fewer than three datasets answer for the world.

        supported: on each dataset, and the pooled effect, where there is one, is clearly on the claimed side."""
        words = {answer.verdict for answer in self.answers.values()}
        if not words:
            return None
        same = words.pop() if len(words) == 1 else "depends"
        if len(self.answers) < meta_analysis.FEWEST:
            return f"{same} here"
        return same if same != "supported" or self._borne_out else "depends"

    @property
    def _borne_out(self) -> bool:
        effect = next(iter(self.answers.values())).effect
        return self.pooled is None or effect is None or effect.borne_out(self.pooled.mean)

    @property
    def verdict(self) -> str:
        """The verdict in words: on which datasets what."""
        if not self.answers:
            return self.tried[0].verdict
        if len(self.answers) == 1:
            return f"on {self.answered[0].dataset}: {self.answered[0].verdict}"
        groups: dict[str, list[str]] = {}
        for dataset, answer in self.answers.items():
            groups.setdefault(answer.verdict, []).append(dataset)
        if len(groups) > 1:
            parts = [_said(word, listed(names)) for word, names in groups.items()]
            return f"depends on the dataset: {', '.join(parts)}"
        (word,) = groups
        enough = len(self.answers) >= meta_analysis.FEWEST
        where = f"all {len(self.answers)} datasets" if enough else listed(list(self.answers))
        if self.word == "depends" != word:
            return f"{_said(word, where)}, but the effect over datasets cannot be told from none"
        return _said(word, where)

    @property
    def over_datasets(self) -> str:
        """The pooled effect in a sentence; empty where there is none."""
        if self.pooled is None:
            return ""
        another = self.pooled.another
        return (
            f"Over {self.pooled.datasets} datasets the effect is {self.pooled.mean} on average (95 %, random effects); "
            f"on another dataset it is to be expected between {another.low:.3g} and {another.high:.3g}."
        )

    @property
    def problems(self) -> list[str]:
        """What is missing, by dataset."""
        several = len(self.tried) > 1
        return [
            f"{one.dataset}: {one.problem}" if several else one.problem
            for one in self.tried
            if one.problem
        ]

    @property
    def how_to_run(self) -> str:
        """The command that measures it."""
        small = " --small" if self.study.name != self.name else ""
        return f"{program.name()} claims {self.name} --run{small}"

    def entry(self) -> dict[str, Any]:
        """The claim as JSON values."""
        claim, pooled = self.study.claim, self.pooled
        first = self.tried[0].entry()
        return {
            "claim": self.name,
            "sentence": claim.sentence,
            "article": claim.article,
            "expects": claim.expects,
            "measure": claim.measure,
            "comparison": claim.comparison,
            "margin": claim.margin,
            "refuted_by": claim.refuted_by,
            "verdict": self.word,
            "depends_on": first["depends_on"],
            "answer": first["answer"],
            "trials": sum(len(one.records) for one in self.tried),
            "problem": "; ".join(self.problems) or None,
            "pooled": None
            if pooled is None
            else {
                "mean": pooled.mean.mean,
                "low": pooled.mean.low,
                "high": pooled.mean.high,
                "another_low": pooled.another.low,
                "another_high": pooled.another.high,
                "spread": pooled.spread,
                "heterogeneity": pooled.heterogeneity,
                "datasets": pooled.datasets,
            },
            "datasets": [one.entry() for one in self.tried],
        }


def _said(word: str, where: str) -> str:
    return f"on {where} it depends" if word == "depends" else f"{word} on {where}"


def counted(claims: Sequence[Claim]) -> str:
    """How many claims have which verdict, in a line."""
    words = [claim.word for claim in claims]
    kinds = [
        f"{w}{here}" for here in ("", " here") for w in ("supported", "not supported", "depends")
    ]
    counts = [f"{words.count(kind)} {kind}" for kind in kinds if kind in words]
    missing = words.count(None)
    if missing:
        counts.append(f"{missing} without an answer")
    return f"{len(words)} claim{'s' * (len(words) != 1)}: {', '.join(counts)}"
