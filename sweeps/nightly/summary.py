"""A night in a few lines: for the terminal, the log, a message, and MLflow."""

from __future__ import annotations

from engram import program
from engram.sweeps.nightly.entries import DONE, FAILED, INTERRUPTED, MISSED, Entry
from engram.sweeps.nightly.judgement import FALSE_ALARMS, Judgement
from engram.sweeps.nightly.series import BETTER, FEW, NOISY, NOTHING, REGRESSION, STEADY, Change
from engram.sweeps.running import display

MOST_CHANGES, MOST_SENTENCES = 8, 4
WORDS = {
    "data": "the data",
    "code": "the code",
    "versions": "package versions",
    "machine": "the machine",
}


def headline(entry: Entry) -> str:
    """The verdict in one line."""
    if entry.state == MISSED:
        return f"{entry.night}: missed"
    if entry.state in (FAILED, INTERRUPTED):
        return f"{entry.night}: {entry.state}"
    return f"{entry.night}: {entry.judgement.get('verdict', entry.state)}"


def lines(entry: Entry, judgement: Judgement | None, missed: list[Entry]) -> list[str]:
    """Verdict, what moved, what else changed, what failed, how long, where to look."""
    said = [headline(entry)]
    if entry.why:
        said.append(f"  {entry.why}")
    if judgement is not None:
        said += [f"  {line}" for line in _judged(judgement)]
    if missed:
        said.append(f"  nights missed before it: {', '.join(e.night for e in missed)}")
    said.append(f"  {_ran(entry)}")
    if entry.state == DONE:
        where = entry.address or f"{program.name()} ui {entry.night}"
        said.append(f"  MLflow: {where}")
    return said


def _ran(entry: Entry) -> str:
    finished, planned = entry.trials
    attempts = f", in {entry.attempts} attempts" if entry.attempts > 1 else ""
    failed = "; some trials failed" if entry.code == 3 else ""
    return f"{finished} of {planned or '?'} trials in {display.duration(entry.seconds)}{attempts}{failed}"


def _judged(judgement: Judgement) -> list[str]:
    said = [*judgement.lost]
    for kind, words in ((REGRESSION, "worse"), (NOISY, "perhaps worse"), (BETTER, "better")):
        changes = judgement.of(kind)
        said += [f"{words}: {change.text}{_needs(change)}" for change in changes[:MOST_CHANGES]]
        if len(changes) > MOST_CHANGES:
            said.append(
                f"{words}: {len(changes) - MOST_CHANGES} more; --history --format json has all"
            )
    said.append(_sentence(judgement))
    said += _changed(judgement)
    return said


def _needs(change: Change) -> str:
    if change.kind != NOISY:
        return ""
    if change.needs:
        return f"; too noisy to tell, about {change.needs} more replicas would"
    return "; too noisy to tell: nights differ as much by themselves"


def _sentence(judgement: Judgement) -> str:
    against = f"{len(judgement.against)} night{'s' if len(judgement.against) != 1 else ''}"
    count = len(judgement.changes)
    if judgement.identical:
        return f"every result is identical to that of {judgement.against[0]}, digit for digit"
    if judgement.verdict in (FEW, NOTHING):
        return (
            "no earlier night to compare with"
            if not judgement.against
            else f"compared with {against}: {judgement.verdict}"
        )
    if judgement.verdict == STEADY:
        return f"no change for the worse beyond {judgement.margin:g} in {count} comparisons with {against}"
    return (
        f"{count} comparisons with {against}, margin {judgement.margin:g}; "
        f"a night without any change is called a regression at most {FALSE_ALARMS:.0%} of the time"
    )


def _changed(judgement: Judgement) -> list[str]:
    if not judgement.against:
        return []
    newest = judgement.against[0]
    if not judgement.causes:
        if judgement.identical:
            return []
        return [
            f"since {newest} nothing that is recorded changed: what moved is noise of the machine, "
            "or its cause is outside the record"
        ]
    said = [
        f"changed since {newest}: {WORDS.get(kind, 'the study')} "
        f"({'; '.join(judgement.changed[kind][:MOST_SENTENCES])})"
        for kind in judgement.causes
    ]
    if "data" not in judgement.changed:
        said.append("the data are the same")
    return said


def cause(judgement: Judgement) -> str:
    """What a regression is put down to, in a few words."""
    if not judgement.causes:
        return "unknown: nothing that is recorded changed"
    return " or ".join(WORDS.get(kind, "the study's settings") for kind in judgement.causes)
