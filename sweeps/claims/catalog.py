"""The article's claims: each with its study, the measured answer and the verdict.

Reads stored runs. What an answer says is in the file of its kind; this one finds the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engram.problems import Place, Problem, StudyError, nearest
from engram.sweeps.claims import generalization, memorization, published, regularization
from engram.sweeps.claims.answer import Answer, Missing, Record
from engram.sweeps.claims.claim import Claim
from engram.sweeps.results import executions
from engram.sweeps.study import loading, study_file
from engram.sweeps.study.configuration import Study

# In the order of the article; a study of the same name puts each to the test.
ANSWERS: dict[str, Callable[[Sequence[Record]], Answer]] = {
    answer.__name__: answer
    for answer in (
        regularization.dropout,
        regularization.weight_decay,
        regularization.early_stopping,
        regularization.augmentation,
        generalization.ten_million,
        generalization.learning_rate,
        generalization.families,
        generalization.activations,
        generalization.double_descent,
        generalization.capacity,
        memorization.signal_before_noise,
        memorization.individual_examples,
        memorization.layers,
        memorization.retention,
        memorization.leakage,
        memorization.ensembles,
        memorization.memorization_time,
        published.architectures,
        published.reference,
    )
}


def read(name: str, small: bool = False) -> Claim:
    """A claim from its stored run, the trials of other configurations left out."""
    tested = loading.load(name, small=small)
    records, problem = _records(tested)
    if not records:
        return Claim(name, tested, [], None, problem)
    try:
        return Claim(name, tested, records, ANSWERS[name](records), problem)
    except (ValueError, LookupError, StopIteration) as error:  # Missing, and trials half in
        known = isinstance(error, Missing)
        why = f"the trials do not answer it: {error}" if known else "trials are missing"
        return Claim(name, tested, records, None, problem or why)


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
        if name not in ANSWERS:
            close = nearest(name, ANSWERS)
            fix = f"did you mean '{close}'? " if close else ""
            place = Place("claims")
            raise StudyError(
                [Problem(place, f"'{name}' is no claim", fix + "claims: " + ", ".join(ANSWERS))]
            )
    return list(names) or list(ANSWERS)


def shipped() -> list[str]:
    """Shipped studies that state a claim."""
    return [name for name in study_file.shipped() if loading.load(name).claim.sentence]
