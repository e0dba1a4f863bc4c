"""One night's run of studies: what is due is trained, compared with the nights before, and told to whom it concerns."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sweeps import lock, study
from sweeps.definition.configuration import Study
from sweeps.definition.problems import Problem, StudyError
from sweeps.nights import entries, history
from sweeps.nights.session import FAILED, Session, hold
from sweeps.nights.training import Limits


def load(paths: Sequence[str], overrides: Sequence[str] = (), small: bool = False) -> list[Study]:
    """The studies of some files, all problems of all of them at once.

    Data are looked at when a night trains: rolling data that are late must not stop other studies."""
    found: list[Study] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found.append(study.load(path, overrides, small=small))
        except StudyError as error:
            problems += error.problems
    for k, one in enumerate(found):
        if one.name in {other.name for other in found[:k]}:
            rule = "is the name of two of these studies, and a night is known by it"
            problems.append(Problem(one.place("name"), rule, "rename one", "name", one.name))
    if problems:
        raise StudyError(problems)
    return found


def run(
    paths: Sequence[str],
    overrides: Sequence[str],
    small: bool,
    hours: float | None,
    gpu_hours: float | None,
    wait: bool,
) -> int:
    """Run the latest night of each study, unless it has been; returns the exit code."""
    studies = load(paths, overrides, small)
    limits = Limits(
        None if hours is None else hours * 3600,
        None if gpu_hours is None else gpu_hours * 3600,
        "the budget of the night",
    )
    try:
        return hold(Session(studies, limits=limits, say=_say), wait)
    except lock.Busy as busy:
        print(busy, file=sys.stderr)
        return FAILED


def show(paths: Sequence[str], overrides: Sequence[str], small: bool, form: str) -> int:
    """Print the nights of studies and draw their trend; changes nothing else."""
    for one in load(paths, overrides, small):
        known = entries.of_study(one.name)
        if form == "json":
            print(history.as_json(known))
        elif form == "csv":
            print(history.as_csv(known))
        elif form == "markdown":
            print(history.markdown(one.name, known))
        else:
            print(history.text(one.name, known))
            picture = history.draw(one.name, known)
            print(f"\npicture: {picture}" if picture else "\npicture: from the second night on")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
