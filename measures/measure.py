"""What is known of one measure: its name, what it says, its unit, which way is better, and what it costs.

Light: imports no numerics. The rows stand in `catalog`.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Better = Literal["min", "max", ""]
Task = Literal["classification", "ordinal", "multilabel", "regression", ""]

# What taking a measure costs, besides the training that there is anyway.
FREE = "nothing"
TEST = "one prediction of the test set"
POOL = "one prediction of the pool"
LOOKS = "one of the pool at each evaluation"
AROUND = "six evaluations of the training sets"
SECRETS = "a hundred predictions of each planted secret"
LAYERS = "two of the pool for each layer"
AGAIN = "training four times as long"

NUMBERED = "{k}"  # stands for a number in the names of measures that each layer has
HELD_OUT = (
    "validation_"  # before the name of a measure of predictions: the same on the validation set
)


@dataclass(frozen=True)
class Measure:
    """One measure that a record can hold.

    name: as in records, columns and MLflow; `{k}` in it stands for any number.
    better: min, max, or nothing where neither end is. sentence: what it is, without its name.
    objective: whether a search may select by it, read off training or validation examples; early: also
    while a trial trains, which stopping weak trials early needs. cohort: whether its value depends on
    how many replicas there are; corrected: it is estimated from several, and corrected for how many. new_data: whether
    it has an interval for another pool and test set, where the draws tell. switch: the key of the study that turns it on.
    of: a function (predictions [R, N, C], targets) -> [R] of predictions alone, or where it is
    (`module:function`): probabilities and labels, or values and values. asked: taken only where
    `measures.own` or the objective names it. positive: it is of the positive one of two classes, `data.positive`. own: a person's own function, called replica by replica.
    """

    name: str
    title: str
    unit: str
    better: Better
    price: str
    sentence: str
    objective: bool = False
    early: bool = False
    cohort: bool = False
    corrected: bool = False
    new_data: bool = False
    short: str = ""  # column heading where there is little room
    noun: str = ""  # in running text, where "the TITLE" is not said
    switch: str = ""
    task: Task = ""
    of: Callable[..., Any] | str | None = None
    asked: bool = False
    positive: bool = False
    own: bool = False

    @property
    def heading(self) -> str:
        return self.short or self.title

    @property
    def given_for(self) -> str:
        """How many replicas its value is for."""
        return "the R of the study" if self.cohort else "any R" if self.corrected else "one network"

    @property
    def phrase(self) -> str:
        """As in "lowers the test error"."""
        return self.noun or f"the {self.title}"

    def function(self) -> Callable[..., Any]:
        """Its function of predictions; ImportError or AttributeError where there is none by that name."""
        found = pkgutil.resolve_name(self.of) if isinstance(self.of, str) else self.of
        if not callable(found):
            raise TypeError(f"{self.of} is no function")
        return found

    def fits(self, task: str) -> bool:
        """Whether it means something for the task; what is for classes is for ordered ones too."""
        return self.task in ("", task) or (self.task, task) == ("classification", "ordinal")

    def numbered(self, name: str) -> Measure | None:
        """This measure of one layer, where `name` is its name with a number for `{k}`."""
        if NUMBERED not in self.name:
            return None
        before, after = map(re.escape, self.name.split(NUMBERED))
        found = re.fullmatch(rf"{before}(\d+){after}", name)
        if found is None:
            return None
        said = (t.replace(NUMBERED, found[1]) for t in (self.title, self.sentence, self.noun))
        title, sentence, noun = said
        return replace(self, name=name, title=title, sentence=sentence, noun=noun)

    def held_out(self) -> Measure:
        """The same on the validation set."""
        return replace(
            self,
            name=f"{HELD_OUT}{self.name}",
            title=f"validation {self.title}",
            sentence=f"{self.sentence}; on the validation set",
            short="",
            objective=False,
        )
