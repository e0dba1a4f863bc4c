"""The article's claims: each with its study, the measured answer and the verdict.

Reads stored runs. What an answer says is in the file of its kind; this one finds the records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from engram.problems import Place, Problem, StudyError, nearest
from engram.sweeps.claims import (
    beyond,
    generalization,
    memorization,
    published,
    regularization,
    text,
)
from engram.sweeps.claims.answer import Answer, Missing, Record
from engram.sweeps.claims.claim import ON, Claim, Tried
from engram.sweeps.claims.panels import (
    ERRORS,
    GAP,
    MEMORIZATION,
    PARTS,
    TEST,
    Along,
    Drawn,
    Each,
    Panel,
    Picture,
)
from engram.sweeps.results import executions
from engram.sweeps.study import loading, study_file
from engram.sweeps.study.configuration import Study

SIZE, RATE = "data.train_size", "training.lr"


@dataclass(frozen=True)
class Row:
    """What is known of a claim besides its study: how its records are answered, and what its picture shows."""

    answer: Callable[..., Answer]
    picture: Picture
    margin: bool = False  # whether the answer takes the study's margin


# In the order of the article, then what goes beyond it; a study of the same name puts each to the test.
# fmt: off
CLAIMS: dict[str, Row] = {
    "dropout": Row(regularization.dropout, Along("model.dropout", (ERRORS, GAP, PARTS)),
                   margin=True),
    "weight_decay": Row(regularization.weight_decay, Drawn("weight_decay"), margin=True),
    "early_stopping": Row(regularization.early_stopping,
                          Each((ERRORS, GAP, Panel("test loss (nats)", ("test_loss",)))), margin=True),
    "augmentation": Row(regularization.augmentation, Each((ERRORS, GAP)), margin=True),
    "ten_million": Row(generalization.ten_million, Along(SIZE, (ERRORS, MEMORIZATION))),
    "learning_rate": Row(
        generalization.learning_rate,
        Along(RATE, (Panel("epochs to 10 % train error", ("epochs_to_convergence",)), TEST),
              split="training.optimizer")),
    "families": Row(generalization.families, Each((ERRORS, PARTS))),
    "activations": Row(generalization.activations, Each((TEST,))),
    "double_descent": Row(generalization.double_descent,
                          Along("model.width", (ERRORS, PARTS))),
    "capacity": Row(generalization.capacity, Drawn("capacity")),
    "signal_before_noise": Row(memorization.signal_before_noise, Drawn("fitted")),
    "individual_examples": Row(memorization.individual_examples, Drawn("memorized")),
    "layers": Row(memorization.layers, Drawn("layers")),
    "retention": Row(
        memorization.retention,
        Each((Panel("accuracy on task A lost to task B",
                    ("retention_drop", "rehearsed_retention_drop"),
                    ("B alone", "B with A rehearsed")),
              Panel("forgetting events an example, on A alone", ("forgetting_events",)))),
        margin=True),
    "leakage": Row(memorization.leakage,
                   Each((Panel("AUC of the attack (0.5: guessing)", ("membership_auc",)), TEST))),
    "ensembles": Row(
        memorization.ensembles,
        Along(SIZE, (Panel("error", ("test_error", "ensemble_error"),
                           ("test error", "the average of all")),), split="model.dropout")),
    "memorization_time": Row(
        memorization.memorization_time,
        Each((Panel("epochs to 5 % train error", ("epochs_at_least",)), MEMORIZATION))),
    "epochwise": Row(beyond.epochwise, Along("training.epochs", (ERRORS, PARTS))),
    "samplewise": Row(beyond.samplewise, Along(SIZE, (ERRORS, PARTS))),
    "calibration": Row(
        beyond.calibration,
        Each((Panel("calibration error", ("calibration_error",)), TEST)), margin=True),
    "flatness": Row(beyond.flatness, Drawn("flatness")),
    "text_memorization": Row(
        text.text_memorization,
        Each((Panel("exposure (bits)", ("exposure_0", "exposure_1", "exposure_8"),
                    ("never seen", "once an epoch", "8 times")),
              Panel("test loss (nats)", ("test_loss",))))),
    "architectures": Row(published.architectures, Each((TEST, PARTS))),
    "reference": Row(published.reference, Each((TEST, PARTS))),
}
# fmt: on


def row(name: str) -> Row:
    """The row of a claim; StudyError, with the nearest one, for a name that is none."""
    if name not in CLAIMS:
        close = nearest(name, CLAIMS)
        fix = f"did you mean '{close}'? " if close else ""
        rule = f"'{name}' is no claim"
        raise StudyError([Problem(Place("claims"), rule, f"{fix}claims: {', '.join(CLAIMS)}")])
    return CLAIMS[name]


def read(name: str, small: bool = False) -> Claim:
    """A claim from its stored runs: on the dataset of its study, on those it names, and on others it was run on."""
    asked, found = row(name), _studies(name, small)
    own = found[0][1]
    known = {study.name for _, study in found}
    for stored in executions.local():
        if stored.startswith(f"{own.name}{ON}") and stored not in known:
            study = _stored(stored)
            if study is not None and _same(study, own):
                found.append((stored.removeprefix(f"{own.name}{ON}"), study))
    return Claim(name, [_tried(asked, dataset, study) for dataset, study in found])


def studies(name: str, small: bool = False, on: Mapping[str, str] | None = None) -> list[Study]:
    """The claim's study, and the same on each further dataset: those it names, and `on`, by label, as data.name.

    Raises StudyError for a dataset that the study does not fit."""
    row(name)
    return [study for _, study in _studies(name, small, on or {}, data=True)]


def _studies(
    name: str, small: bool, on: Mapping[str, str] | None = None, data: bool = False
) -> list[tuple[str, Study]]:
    """Dataset and study: the claim's own first. What makes it small is put in last, its size above all."""
    own = loading.load(name, small=small, data=data)
    found = [(own.data.name, own)]
    places = dict(own.claim.datasets) | {
        label: {"data.name": at} for label, at in (on or {}).items()
    }
    less = own.claim.small if small else {}
    for label, values in places.items():
        options = [f"{k}={json.dumps(v)}" for k, v in values.items() if k not in less]
        options.append(f"name={own.name}{ON}{label}")
        found.append((label, loading.load(name, options, small=small, data=data)))
    return found


def _stored(name: str) -> Study | None:
    """The study that an execution ran; None where it cannot be read."""
    try:
        return Study.model_validate(executions.find(name).info["definition"])
    except (KeyError, ValueError):
        return None


def _same(study: Study, own: Study) -> bool:
    """Whether it is the claim's study in all but the dataset and what a dataset needs."""
    free = {"name", "data", "claim", "resources", "tracking"}
    return study.model_dump(exclude=free) == own.model_dump(exclude=free)


def _tried(asked: Row, dataset: str, tested: Study) -> Tried:
    """The claim's answer on one dataset, the trials of other configurations left out."""
    records, problem = _records(tested)
    if not records:
        return Tried(dataset, tested, [], None, problem)
    try:
        options = {"margin": tested.claim.margin} if asked.margin else {}
        return Tried(dataset, tested, records, asked.answer(records, **options), problem)
    except (ValueError, LookupError, StopIteration) as error:  # Missing, and trials half in
        known = isinstance(error, Missing)
        why = f"the trials do not answer it: {error}" if known else "trials are missing"
        return Tried(dataset, tested, records, None, problem or why)


def _records(tested: Study) -> tuple[list[Record], str]:
    """The study's own trials in the store, and what is missing of them."""
    try:
        found = executions.find(tested.name).records
    except StudyError:
        return [], ""
    wanted = {tested.configure(params).hash for params in tested.grid()}
    records = [record for record in found if record.get("config_hash") in wanted]
    if found and not records:
        return [], f"the stored run '{tested.name}' has other settings than the study"
    if len(records) < len(wanted):
        return records, f"{len(records)} of {len(wanted)} trials are in"
    return records, ""


def chosen(names: Sequence[str]) -> list[str]:
    """The claims asked for, all without names; StudyError for a name that is none."""
    for name in names:
        row(name)
    return list(names) or list(CLAIMS)


def shipped() -> list[str]:
    """Shipped studies that state a claim."""
    return [name for name in study_file.shipped() if loading.load(name).claim.sentence]
