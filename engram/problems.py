"""What can be wrong with a study, said so that a person can act: place, value, rule, next step.

StudyError       every problem of one study file, raised at once
  .problems      list[Problem]

Knows nothing of YAML or of what the keys mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

ABSENT = object()
LONGEST_SHOWN = 60


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: a line of a file, or (line 0) an option of the command line."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """One thing to mend. key and value are left out where the rule names them itself."""

    place: Place
    rule: str
    fix: str = ""
    key: str = ""
    value: object = ABSENT

    def __str__(self) -> str:
        subject = self.key if self.value is ABSENT else f"{self.key} = {shown(self.value)}"
        head = f"{self.place}: {subject} {self.rule}" if self.key else f"{self.place}: {self.rule}"
        return f"{head}\n    {self.fix}" if self.fix else head


class StudyError(ValueError):
    """A study that cannot be run as it is written. str() prints all its problems, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        unique = {str(problem): problem for problem in problems}
        self.problems = sorted(unique.values(), key=lambda problem: problem.place)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[StudyError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


def shown(value: object) -> str:
    """A value as a study file would write it, on one line and without control characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        text = f"[{', '.join(shown(item) for item in value[:8])}{', ...' if value[8:] else ''}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{key}: {shown(item)}' for key, item in value.items())}}}"
    elif isinstance(value, int) and abs(value) >= 10**40:
        text = f"a number of {value.bit_length()} bits"  # printing it may be refused by Python
    else:
        text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


# Words of other tools for the same thing, which no spelling distance would find.
SYNONYMS = {
    "learning_rate": "lr",
    "eta": "lr",
    "l2": "weight_decay",
    "decay": "weight_decay",
    "l1_penalty": "l1",
    "dropout_rate": "dropout",
    "rate": "dropout",
    "hidden": "width",
    "hidden_size": "width",
    "units": "width",
    "channels": "width",
    "layers": "depth",
    "architecture": "family",
    "type": "family",
    "batch": "batch_size",
    "n_train": "train_size",
    "dataset_size": "train_size",
    "size": "train_size",
    "dataset": "name",
    "patience": "early_stopping",
    "gradient_clipping": "clip",
    "grad_clip": "clip",
    "replicas": "count",
    "n": "count",
    "metric": "objective",
    "n_trials": "trials",
    "num_samples": "trials",
    "algorithm": "sampler",
    "cpus": "cpu",
    "gpus": "gpu",
    "tracking_uri": "uri",
    "title": "name",
    "params": "sweep",
    "space": "sweep",
    "train": "training",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: a synonym, the initials (wd), or the closest spelling."""
    spelled = {name.lower(): name for name in known}
    names = list(spelled)
    lowered = word.strip().lower().replace("-", "_").replace(" ", "_")
    if lowered in names:
        return spelled[lowered]
    if SYNONYMS.get(lowered) in names:
        return spelled[SYNONYMS[lowered]]
    for name in names:
        if "_" in name and "".join(part[:1] for part in name.split("_")) == lowered:
            return spelled[name]
    close = difflib.get_close_matches(lowered, names, n=1, cutoff=0.6)
    return spelled[close[0]] if close else None
