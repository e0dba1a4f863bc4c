"""The studies of a timetable: read together, all problems of all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

from engram.problems import Problem, StudyError
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.request import Request


def load(requests: Sequence[Request]) -> list[Study]:
    """The studies that are asked for.

    Data are looked at when a night trains: rolling data that are late must not stop other studies."""
    found: list[Study] = []
    problems: list[Problem] = []
    for request in requests:
        try:
            found.append(loading.load(request))
        except StudyError as error:
            problems += error.problems
    for k, one in enumerate(found):
        if one.name in {other.name for other in found[:k]}:
            rule = "is the name of two of these studies, and a night is known by it"
            problems.append(Problem(one.place("name"), rule, "rename one", "name", one.name))
    if problems:
        raise StudyError(problems)
    return found
