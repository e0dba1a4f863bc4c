"""What settings, verdicts and marks are called, and what they mean: one place for boards, legends, pages and MLflow.

Measures have theirs in `measures.catalog`. Light: imports no numerics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engram.sweeps.study.configuration import SHORT, weights_file
from engram.sweeps.study.configuration import label as _label
from engram.sweeps.study.sections import CASES

# key -> (as the subject of a sentence, as the title of an axis).
SETTINGS = {
    "execution": ("the execution", "execution"),
    "data.name": ("the dataset", "dataset"),
    "data.train_size": ("the number of examples", "training examples per replica (n)"),
    "data.label_noise": ("label noise", "label noise (share of labels)"),
    "data.random_labels": ("making the labels random", "random labels"),
    "data.augmentation": ("augmentation", "augmentation"),
    "training.lr": ("the learning rate", "learning rate"),
    "training.weight_decay": ("weight decay", "weight decay"),
    "training.l1": ("L1", "L1 regularization"),
    "training.early_stopping": (
        "early stopping",
        "early stopping (evaluations without a better one)",
    ),
    "training.optimizer": ("the optimizer", "optimizer"),
    "training.epochs": ("the number of epochs", "epochs"),
    "training.steps": ("the number of steps", "steps"),
    "training.batch_size": ("the batch size", "batch size (examples)"),
    "model.dropout": ("dropout", "dropout (share of units zeroed)"),
    "model.width": ("the width", "width (units per layer)"),
    "model.depth": ("the depth", "depth (layers)"),
    "model.activation": ("the activation", "activation"),
    "model.family": ("the family", "family"),
    CASES: ("the case", "case"),
}

# Short, for legends and tooltips; `measures.verdict.RULES` has the rules themselves.
VERDICTS = {
    "good": "not told from the best of its conditions, and its gap is small",
    "data-limited": "not told from the best, yet its gap is large: no setting tried closes it",
    "overfit": "worse than the best because its gap is larger",
    "underfit": "its train error is itself high: it does not fit what it is trained on",
    "did not learn": "its train error is hardly below that of guessing",
    "unstable": "some replicas learn and others do not: means say little",
    "at the noise floor": "what error is left is that of the wrong labels alone",
    "inconclusive": "none of these can be told; the reason says what would decide",
    "not ranked": "it learns too little for its gap to be compared",
    "pruned": "stopped early by the scheduler",
    "diverged": "some replicas ended in numbers that are not finite; ranked last",
    "failed": "has no result",
}

ANSWERS = {
    "yes": "shown, at an error rate of 5 % for the whole answer",
    "no": "shown to do the opposite, or to change less than the margin",
    "depends": "shown both ways: in other places, or at other values",
    "cannot be told yet": "neither shown nor excluded; what would settle it is said",
}


LEFT_OUT = "at its default"

# What a question begins with that yes and no do not answer, after a preposition or not: "At which width ...?"
OPEN = ("which", "what", "how", "where", "when", "who", "whose", "whom", "why")
PREPOSITIONS = frozenset(
    "about above after at before below beyond by during for from in into of on over to under until up with within".split()
)
# Asked so, "yes" would mean that nothing differs, which is the answer's "no".
SAMENESS = frozenset("alike equal equally identical identically same".split())


def is_open(question: str) -> bool:
    """Whether a question asks for something else than yes or no, or so that they could be taken either way."""
    asked = re.findall(r"[a-z]+", question.lower())
    if SAMENESS & set(asked):
        return True
    while asked and asked[0] in PREPOSITIONS:
        asked.pop(0)
    return bool(asked) and asked[0] in OPEN


def subject(key: str) -> str:
    """A swept key as the subject of a sentence."""
    return SETTINGS[key][0] if key in SETTINGS else _last(key)


def axis_title(key: str) -> str:
    """A swept key as the title of an axis."""
    return SETTINGS[key][1] if key in SETTINGS else _last(key)


def heading(key: str) -> str:
    """A swept key as the heading of a column, as short as in the label of a trial."""
    return SHORT.get(key, _last(key))


def value(found: Any) -> str:
    """A setting's value."""
    if found is None:
        return "off"
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, tuple):  # a case: (key, value) of what varies between cases
        return _label({k: v for k, v in found if v is not None})
    if isinstance(found, float):
        return f"{found:,.4g}"
    if isinstance(found, str):
        return weights_file(found)
    return f"{found:,}" if isinstance(found, int) and found >= 10_000 else str(found)


def place(params: Mapping[str, Any]) -> str:
    """What else held, as in `n 1000, dropout 0.2`."""
    return _label(params).replace(" · ", ", ") if params else ""


def setting(key: str, found: Any) -> str:
    """One setting by itself: `dropout 0.2`, `gru`."""
    return f"{heading(key)} {LEFT_OUT}" if _left_out(key, found) else _label({key: found})


def change(key: str, found: Any, instead: Any) -> str:
    """One value of a setting in place of another: `lr 0.001 instead of 0.01`, `gru instead of lstm`."""
    both = [LEFT_OUT if _left_out(key, v) else value(v) for v in (found, instead)]
    names = all(isinstance(v, str) for v in (found, instead)) and key != "model.start"
    return f"{'' if names else heading(key) + ' '}{both[0]} instead of {both[1]}"


def _left_out(key: str, found: Any) -> bool:
    """Whether an option is left to the default of the class it belongs to."""
    return found is None and ".options." in key


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def legend(verdicts: Sequence[str], columns: Sequence[str], sizes: bool) -> list[str]:
    """What the marks of a board mean: n, gap, bias², and the verdicts that are in it.

    The tie mark and ± have their own footnotes. columns: those shown; sizes: whether dataset sizes are in the labels."""
    parts = ["n training examples per replica"] if sizes else []
    parts += ["gap = test − train error"] if "generalization_gap" in columns else []
    parts += ["bias² + variance = risk"] if {"bias2", "variance"} & {*columns} else []
    told = [f"{word}: {VERDICTS[word]}" for word in dict.fromkeys(verdicts) if word in VERDICTS]
    marks = ["; ".join(parts)] if parts else []
    return [*marks, *(told if "verdict" in columns else [])]


def _last(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")
