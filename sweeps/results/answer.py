"""The answer to a study's question, in sentences: yes, no, depends, or cannot be told yet, with its numbers.

The statistics are `asked`; here are the words, the same on a terminal, in MLflow and in the report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engram.sweeps.results import across, amounts, asked, columns, tables, words
from engram.sweeps.results.asked import Best, Effect, Step
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.study.configuration import label
from engram.sweeps.study.sections import BEFORE, CASES

MOST_PLACES = 3
VERBS = {"lower": ("lowers", "lower"), "higher": ("raises", "raise")}
RANDOM = "data.random_labels"


def sentences(evidence: Evidence) -> list[str]:
    """One sentence for each thing that is asked, the answer first; empty where no trial completed."""
    if not evidence.completed:
        return []
    if _asks_before(evidence):
        return [_before(evidence)]
    held = _capacity(evidence) or _configuration(evidence)
    return held + [sentence(effect, evidence) for effect in asked.effects(evidence)]


def sentence(effect: Effect, evidence: Evidence) -> str:
    """One answer: its word, the effect with its interval, and what would settle what is open."""
    told = _told(effect, evidence)
    return f"{_headed(effect.word, told, evidence)}{_left_out(effect)}."


def _headed(word: str, told: str, evidence: Evidence) -> str:
    """A sentence with the word of the answer before it; to which, what or how the fact alone is the answer."""
    if word == "which" or (word in ("yes", "no") and words.is_open(evidence.question)):
        return f"{told[0].upper()}{told[1:]}"
    return f"{word[0].upper()}{word[1:]}: {told}"


def note(evidence: Evidence) -> str:
    """What the intervals of the answer are."""
    count = sum(max(1, len(e.steps)) for e in asked.effects(evidence))
    together = {1: "", 2: " for both comparisons together"}
    level = "95 %" + together.get(count, f" for all {count} comparisons together")
    return f"± of the answer: {level}, for retraining, replica by replica"


def _told(effect: Effect, evidence: Evidence) -> str:
    phrase = columns.column(effect.measure, evidence.records).phrase
    if effect.axis is None:
        return _against(effect, phrase, evidence)
    if effect.hoped == "explains":
        return _shares(effect, phrase)
    subject = words.subject(effect.axis)
    if not effect.steps and not effect.best:
        return f"no two trials differ in {subject} alone with {phrase} known"
    if effect.best:
        return _best(effect, phrase, subject, evidence)
    return _steps(effect, phrase, subject)


# -- a key that moves a measure -----------------------------------------------------------------------


def _steps(effect: Effect, phrase: str, subject: str) -> str:
    steps, word = effect.steps, effect.word
    hoped = [s for s in steps if s.way == effect.hoped]
    if word == "depends":
        return _depends(effect, phrase, subject, hoped)
    if word == "yes" and effect.hoped != "same":
        most = max(hoped, key=lambda s: abs(s.change.mean))
        first = _moves(subject, phrase, most)
        rest = [s for s in steps if s is not most]
        return first + _others(rest, effect.hoped)
    if word == "no" and any(s.way in VERBS for s in steps):
        most = max((s for s in steps if s.way in VERBS), key=lambda s: abs(s.change.mean))
        return _moves(subject, phrase, most) + _others(
            [s for s in steps if s is not most], most.way
        )
    if word in ("no", "yes"):
        most = max(steps, key=lambda s: abs(s.change.mean))
        ends = f"from {words.value(most.start)} to {words.value(most.value)}"
        return (
            f"{subject} leaves {phrase} unchanged, {amounts.signed(most.change)} {ends}, "
            f"within the margin of ±{amounts.short(most.margin)}"
        )
    return _open(steps, phrase, subject)


def _moves(subject: str, phrase: str, step: Step) -> str:
    verb = VERBS[step.way][0]
    ends = f"from {words.value(step.start)} to {words.value(step.value)}"
    return f"{subject} {verb} {phrase} by {amounts.amount(step.change)} {ends} ({_span(step)})"


def _span(step: Step) -> str:
    digits = 0 if float(step.before).is_integer() and float(step.after).is_integer() else 3
    return f"{step.before:.{digits}f} to {step.after:.{digits}f}"


def _others(steps: Sequence[Step], way: str) -> str:
    """What the other values do, briefly."""
    also = [words.value(s.value) for s in steps if s.way == way]
    same = [words.value(s.value) for s in steps if s.way == "same"]
    unclear = [words.value(s.value) for s in steps if s.way == "unknown"]
    parts = [f"so do{'es' if len(also) == 1 else ''} {words.listed(also)}"] if also else []
    parts += [f"{words.listed(same)} leave{'s' if len(same) == 1 else ''} it"] if same else []
    parts += [f"not clearly at {words.listed(unclear)}"] if unclear else []
    return "; " + "; ".join(parts) if parts else ""


def _depends(effect: Effect, phrase: str, subject: str, hoped: list[Step]) -> str:
    by_value = not any(step.place for step in effect.opposed)
    if by_value:
        most = max(hoped, key=lambda s: abs(s.change.mean))
        other = max(effect.opposed, key=lambda s: abs(s.change.mean))
        verb = VERBS[other.way][0]
        at = f"at {words.value(other.value)} it {verb} it by {amounts.amount(other.change)}"
        return f"{_moves(subject, phrase, most)}, and {at}{_by_place(effect)}"
    parts = []
    for way in ("lower", "higher"):
        there = [s for s in effect.opposed if s.way == way]
        if not there:
            continue
        strongest = max(there, key=lambda s: abs(s.change.mean))
        at = words.listed([words.place(s.place) for s in there[:MOST_PLACES]])
        more = f" and {len(there) - MOST_PLACES} more" if len(there) > MOST_PLACES else ""
        span = f"{amounts.amount(strongest.change)} from {words.value(strongest.start)} to {words.value(strongest.value)}"
        bound = " at most" if len(there) > 1 else ""
        parts.append(f"{VERBS[way][0]} {phrase} at {at}{more} (by {span}{bound})")
    return f"{subject} {', and '.join(parts)}"


def _by_place(effect: Effect) -> str:
    best = min if effect.hoped == "lower" else max
    at = best(effect.steps, key=lambda s: s.change.mean)
    return f"; {'lowest' if effect.hoped == 'lower' else 'highest'} at {words.value(at.value)}"


def _open(steps: Sequence[Step], phrase: str, subject: str) -> str:
    most = max(
        (s for s in steps if s.way == "unknown"), key=lambda s: abs(s.change.mean), default=steps[0]
    )
    ends = f"from {words.value(most.start)} to {words.value(most.value)}"
    return f"{subject} changes {phrase} by {amounts.signed(most.change)} {ends}; {settling(most)}"


def settling(step: Step) -> str:
    """What would settle an open comparison."""
    if not step.change.known:
        return "one replica has no interval: run at least 3"
    if step.needed is not None:
        return f"{step.needed} more replicas would show it"
    if step.quiet is not None and 0 < step.quiet < 100_000:
        return f"about {step.quiet:,} more replicas would show whether it is within ±{amounts.short(step.margin)}"
    return "more replicas would settle it"


# -- which value, and how much it explains ------------------------------------------------------------


def _best(effect: Effect, phrase: str, subject: str, evidence: Evidence) -> str:
    end = columns.superlative(effect.measure, evidence.records)
    if effect.word == "depends":
        at = [
            f"{_named(best)} at {words.place(best.place)} ({amounts.interval(best.means[0])})"
            for best in effect.best[:MOST_PLACES]
        ]
        return f"{phrase} is {end} with {'; with '.join(at)}"
    best = effect.best[0]
    if effect.word == "no":
        return f"{phrase} differs by less than the margin between {words.listed([words.value(v) for v in best.values])}"
    verb = "are" if phrase.startswith("the epochs") else "is"
    value = words.value(best.values[0])
    # "With lr 0.01"; of names the word says which key it is.
    if effect.axis and is_number(best.values[0]):
        value = f"{words.heading(effect.axis)} {value}"
    first = f"{phrase} {verb} {end} with {value} ({amounts.interval(best.means[0])})"
    names = [words.value(v) for v in best.values]
    if best.tied == 1:
        if len(names) == 1:
            return first
        return f"{first}, clearly before {names[1]} ({amounts.interval(best.means[1])})" + (
            f" and {len(names) - 2} more" if len(names) > 2 else ""
        )
    ties = f"{words.listed(names[1 : best.tied])} cannot be told from it"
    behind = names[best.tied :]
    told = (
        f", {words.listed(behind)} can ({amounts.interval(best.means[-1])} at the other end)"
        if behind
        else ""
    )
    more = "" if behind else "; more replicas would settle it"
    return f"{first}; {ties}{told}{more}"


def _named(best: Best) -> str:
    return " or ".join(words.value(v) for v in best.values[: best.tied])


def _shares(effect: Effect, phrase: str) -> str:
    assert effect.axis is not None
    subject = words.subject(effect.axis)
    if effect.share is None:
        return f"what {subject} explains of {phrase} wants {asked.FEWEST_FOR_SHARES} completed trials or more"
    share = effect.share
    explains = (
        f"{subject} by itself explains {100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %) of the "
        f"differences in {phrase}"
    )
    if effect.word == "yes":
        return f"{explains}, told from nothing beside the other settings"
    why = (
        "is told from nothing alone, but the search moved it together with others"
        if share.told != "not told"
        else "is not told from a setting that does nothing"
    )
    return f"{explains}, and {why}; more trials, or a grid over it, would settle it"


# -- against a number, or before ----------------------------------------------------------------------


def _against(effect: Effect, phrase: str, evidence: Evidence) -> str:
    target = effect.against
    other = columns.column(target, evidence.records).phrase if isinstance(target, str) else ""
    if not effect.steps:
        return f"no trial has {phrase}" + (f" and {other}" if other else "")
    steps = sorted(effect.steps, key=lambda s: s.change.mean)
    count = len(steps)
    whole = {1: "in the one configuration", 2: "in both configurations"}.get(
        count, f"in all {count} configurations"
    )
    than = other or ("what was expected" if isinstance(target, list | tuple) else f"{target:g}")
    if isinstance(target, list | tuple):
        hits = sum(s.way == effect.hoped for s in steps)
        worst = max(steps, key=lambda s: abs(s.change.mean))
        how = {"same": "as expected", "lower": "below", "higher": "above"}.get(
            effect.hoped, effect.hoped
        )
        return (
            f"{phrase} is {how}{'' if effect.hoped == 'same' else ' what was expected'} in {hits} of {count} "
            f"configurations; the farthest is {label(worst.place)} with {worst.after:.3f} for {worst.before:.3f} "
            f"({amounts.signed(worst.change)})"
        )
    side = {"lower": "below", "higher": "above"}
    way = effect.hoped if effect.word == "yes" else steps[0].way
    low, high = (
        (steps[0], steps[-1])
        if abs(steps[0].change.mean) < abs(steps[-1].change.mean)
        else (steps[-1], steps[0])
    )
    one, two = (
        (amounts.amount(s.change) if other else _between(s)) + f" at {label(s.place)}"
        for s in (low, high)
    )
    if effect.word in ("yes", "no") and len({s.way for s in steps}) == 1 and way in side:
        return f"{phrase} is {side[way]} {than} {whole}, {'by ' if other else ''}{one}" + (
            f" to {two}" if count > 1 else ""
        )
    side |= {"same": f"within ±{amounts.short(steps[0].margin)} of", "unknown": "not told from"}
    counts = [
        f"{side[name]} {than} in {n}"
        for name in ("lower", "higher", "same", "unknown")
        if (n := sum(s.way == name for s in steps))
    ]
    return f"of {count} configurations {phrase} is {words.listed(counts)}, from {amounts.signed(steps[0].change)} to {amounts.signed(steps[-1].change)}"


def _between(step: Step) -> str:
    """The value itself, with its interval."""
    half = step.change.half_width
    return amounts.decimals(step.after, half) + (
        f" ± {amounts.decimals(half, half)}" if step.change.known else ""
    )


def _asks_before(evidence: Evidence) -> bool:
    return evidence.study is not None and evidence.study.asks.against == BEFORE


def _before(evidence: Evidence) -> str:
    from engram.sweeps.results import compare  # which reads boards, as this does

    earlier = evidence.earlier()
    if earlier is None:
        return "Cannot be told yet: there is no execution before this one to compare with; the next one answers."
    found = compare.compare(earlier, evidence)
    moved = [(pair, m) for pair in found.pairs for m in pair.moved if m.certain]
    if not found.pairs:
        return f"Cannot be told yet: {found.verdict[0].lower()}{found.verdict[1:]}"
    worse = [(p, m) for p, m in moved if _is_worse(m.measure, m.change, evidence)]
    since = f"since {earlier.name}"
    if worse:
        pair, most = max(worse, key=lambda item: abs(item[1].change))
        phrase = columns.column(most.measure, evidence.records).phrase
        moved_by = (
            f"{phrase} of {label(pair.params)} moved by {most.text} {since}, beyond chance for all"
        )
        return f"{_headed('no', moved_by, evidence)} comparisons together."
    held = f"nothing became worse beyond chance {since}, in {len(found.pairs)} matched trials"
    return f"{_headed('yes', held, evidence)}."


def _is_worse(measure: str, change: float, evidence: Evidence) -> bool:
    better = columns.column(measure, evidence.records).better
    return change > 0 if better == "min" else change < 0 if better == "max" else False


def _configuration(evidence: Evidence) -> list[str]:
    """Where the best configuration itself is asked for: which it is, or which cannot be told apart."""
    asks, board = evidence.study.asks if evidence.study else None, evidence.board
    if asks is None or asks.expects != "best" or asks.of is not None or board is None:
        return []
    tied = [row for row in board.rows if row.tie_group == 1]
    compared = sum(row.tie_group is not None for row in board.rows)
    if not tied:
        return []
    phrase = columns.column(board.by, evidence.records).phrase
    end = columns.superlative(board.by, evidence.records)
    first = f"{phrase} is {end} with {label(tied[0].record['params'])}"
    value = tables.cell(tied[0].record, board.by)
    if len(tied) == 1:
        ahead = f", clearly before the other {compared - 1}" if compared > 1 else ""
        return [f"{first[0].upper()}{first[1:]} ({value}){ahead}."]
    return [
        f"Cannot be told yet: {first} ({value}), and {len(tied) - 1} of the other {compared - 1} cannot be told "
        "from it; more replicas of these would settle it."
    ]


def _capacity(evidence: Evidence) -> list[str]:
    """Where labels are random: how many of them a network held, per parameter."""
    if not any(r.get("random_labels") for r in evidence.completed) or RANDOM in evidence.axes:
        return []
    held = [n for n in across.held(evidence.completed) if n.capacity.per_replica.mean() > 0]
    if not held:
        return []
    shares = [float(n.capacity.per_replica.mean()) / n.parameters for n in held]
    low, high = min(shares), max(shares)
    span = f"{low:.2g}" if math.isclose(low, high, rel_tol=0.05) else f"{low:.2g} to {high:.2g}"
    most = held[-1]
    least = ", at least" if bool(most.capacity.censored.any()) else ""
    return [
        f"{span} random labels a parameter are held: the largest network, of {most.parameters:,} parameters, "
        f"fits {most.capacity.per_replica.mean():,.0f}{least}."
    ]


def _left_out(effect: Effect) -> str:
    if not effect.left_out or effect.axis in (None, CASES):
        return ""
    some = [words.value(v) for v in effect.left_out[:MOST_PLACES]]
    return f" (without {words.listed(some)}: nothing to compare there)"


def values_of(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """The answers as plain values, for pages and programs."""
    return [
        {
            "measure": e.measure,
            "of": e.axis,
            "expects": e.hoped,
            "answer": e.word,
            "steps": [
                {
                    "from": s.start,
                    "to": s.value,
                    "change": s.change.mean,
                    "low": s.change.low,
                    "high": s.change.high,
                    "way": s.way,
                }
                for s in e.steps
            ],
        }
        for e in effects
    ]
