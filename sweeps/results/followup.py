"""What to ask next, from a study's own data: as sentences, and as a study that can be run.

An optimum at the end of its range is followed beyond it, one inside is narrowed down to its neighbours, settings
that change nothing are fixed, and what cannot be told apart gets the replicas that would tell it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from engram.problems import Place, Problem, StudyError
from engram.sweeps.results import asked, columns, words
from engram.sweeps.results.evidence import Evidence, is_number
from engram.sweeps.results.record import Record
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import label
from engram.sweeps.study.fields import kind
from engram.sweeps.study.sections import CASES, Range, Values
from engram.sweeps.study.values import field_of, is_option

SIZE = "data.train_size"
MOST_REPLICAS = 128
MOST_OF_POOL = 0.9
MOST_TIED = 8  # configurations that get more replicas
BEYOND = 2  # values past an end
NEAR_END = 0.05  # of a distribution's range
BEST_SHARE = 0.25  # of the trials, between which a distribution is narrowed


@dataclass
class Followup:
    """sentences: what to do and why; study: the mapping of a study file, None where nothing is left to ask."""

    sentences: list[str] = field(default_factory=list)
    study: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The study file."""
        assert self.study is not None
        why = "".join(f"# {line}\n" for line in self.sentences)
        return why + yaml.safe_dump(self.study, sort_keys=False, allow_unicode=True, width=100)


def follow_up(evidence: Evidence) -> Followup:
    """What the data ask for next; StudyError where the study is not known or nothing completed."""
    study, best = evidence.study, evidence.best
    if study is None or best is None or evidence.board is None:
        rule = "has no completed trial" if study else "was recorded without its study"
        raise StudyError([Problem(Place(evidence.name), f"{rule}: nothing follows from it", "")])
    found = Followup()
    quiet = _quiet(evidence)
    fixed: dict[str, Any] = {}
    sweep: dict[str, Any] = {}
    cased = set(study.cases[0]) if study.cases else set()
    for key in evidence.axes:
        if key in cased:
            fixed[key] = best["params"].get(key)
            continue
        if key in quiet:
            fixed[key] = best["params"].get(key)
            found.sentences.append(f"{_capital(quiet[key])}: fix it at {words.value(fixed[key])}.")
            continue
        new, sentence = _around(evidence, key, best)
        if sentence:
            found.sentences.append(sentence)
            tied = [params[key] for params in _tied(evidence) if key in params]
            sweep[key] = sorted({*new, *tied}) if isinstance(new, list) else new
        else:
            fixed[key] = best["params"].get(key)
    count, sentence = _replicas(evidence)
    if sentence:
        found.sentences.append(sentence)
    if sweep:
        found.study = _study(evidence, fixed, sweep, [], count)
    elif sentence:
        found.study = _study(evidence, {}, {}, _tied(evidence), count)
    if found.study is not None:
        loading.load(found.study)  # whatever is proposed can be run
    else:
        found.sentences.append("Nothing is left open by these trials: ask another question.")
    return found


# -- settings that change nothing -----------------------------------------------------------------------


def _quiet(evidence: Evidence) -> dict[str, str]:
    """Keys that are shown to leave what was asked as it is, all values within the margin: {key: why}."""
    found: dict[str, list[asked.Effect]] = {}
    for effect in asked.effects(evidence):
        if effect.axis not in (None, CASES):
            found.setdefault(str(effect.axis), []).append(effect)
    return {
        key: f"{words.subject(key)} leaves {_phrases(evidence, effects)} unchanged"
        for key, effects in found.items()
        if all(e.steps and all(s.way == "same" for s in e.steps) for e in effects)
    }


def _phrases(evidence: Evidence, effects: Sequence[asked.Effect]) -> str:
    return words.listed(
        [columns.column(effect.measure, evidence.records).phrase for effect in effects]
    )


# -- where to look ------------------------------------------------------------------------------------


def _around(evidence: Evidence, key: str, best: Record) -> tuple[Any, str]:
    """The values of a key to try next, and why; ("", "") where its best needs no more."""
    axis = evidence.study.sweep.get(key) if evidence.study else None
    value = best["params"].get(key)
    if not is_number(value):
        return None, ""
    if isinstance(axis, Range):
        return _narrowed(evidence, key, axis, value)
    values = evidence.values(key)
    if len(values) < 2 or not all(map(is_number, values)) or not isinstance(axis, Values):
        return None, ""
    if value in (values[0], values[-1]):
        return _beyond(evidence, key, values, value, best)
    return _between(evidence, key, values, value)


def _beyond(
    evidence: Evidence, key: str, values: list[Any], value: Any, best: Record
) -> tuple[Any, str]:
    """Past the end that the best value lies at, in steps like the last one."""
    up = value == values[-1]
    inner = values[-2] if up else values[1]
    log = evidence.scale(key) == "log" and inner > 0 and value > 0
    new = []
    last, before = value, inner
    for _ in range(BEYOND):
        step = last * last / before if log else 2 * last - before
        before, last = last, step
        new.append(_neat(key, step, isinstance(value, int)))
    low, high = _limits(evidence, key, best)
    inside = [v for v in new if low <= v <= high]
    if not inside:
        end = high if up else low
        if low <= end <= high and math.isfinite(end) and (end > value if up else end < value):
            inside = [_neat(key, end, isinstance(value, int))]
        else:
            return None, ""
    listed = sorted({value, *inside})
    which = "largest" if up else "smallest"
    return (
        listed,
        f"The best {words.heading(key)}, {words.value(value)}, is the {which} that was tried: try "
        f"{words.listed([words.value(v) for v in inside])}.",
    )


def _between(evidence: Evidence, key: str, values: list[Any], value: Any) -> tuple[Any, str]:
    """Halfway to each neighbour of the best value."""
    at = values.index(value)
    log = evidence.scale(key) == "log"
    new = []
    for other in (values[at - 1], values[at + 1]):
        middle = math.sqrt(value * other) if log and value * other > 0 else (value + other) / 2
        middle = _neat(key, middle, isinstance(value, int))
        if middle not in values and middle not in new:
            new.append(middle)
    if not new:
        return None, ""
    return (
        sorted({value, *new}),
        f"The best {words.heading(key)}, {words.value(value)}, lies inside its range, and nothing was tried between it and "
        f"its neighbours: try {words.listed([words.value(v) for v in sorted(new)])}.",
    )


def _narrowed(evidence: Evidence, key: str, axis: Range, value: float) -> tuple[Any, str]:
    """The part of a distribution where the best quarter of the trials lies, moved on where that is at an end."""
    rows = [r for r in evidence.board.rows if r.tie_group is not None] if evidence.board else []
    some = [float(r.record["params"][key]) for r in rows[: max(3, round(BEST_SHARE * len(rows)))]]
    forth = math.log if axis.log else float
    back = math.exp if axis.log else float
    low, high = forth(min(some)), forth(max(some))
    whole = forth(axis.high) - forth(axis.low)
    at = (forth(value) - forth(axis.low)) / whole if whole else 0.5
    sentence = f"The best quarter of the trials has {words.heading(key)} from {words.value(min(some))} to {words.value(max(some))}: draw from there."
    if at < NEAR_END or at > 1 - NEAR_END:
        end = "upper" if at > 0.5 else "lower"
        sentence = f"The best {words.heading(key)}, {words.value(value)}, is at the {end} end of its range: draw from beyond it too."
        low, high = (low, high + whole / 4) if at > 0.5 else (low - whole / 4, high)
    least, most = _limits(evidence, key, rows[0].record)
    ends = [max(least, back(low)), min(most, back(high))]
    ends = [_neat(key, end, axis.whole) for end in ends]
    if ends[0] >= ends[1]:
        return None, ""
    return {axis.distribution: ends}, sentence


def _limits(evidence: Evidence, key: str, record: Record) -> tuple[float, float]:
    """Between what a key may lie: its field's bounds, and for dataset sizes what the pool holds."""
    low, high = -math.inf, math.inf
    if not is_option(key):
        wanted = kind(field_of(key))
        low = -math.inf if wanted.low is None else wanted.low + (1e-12 if wanted.low_open else 0)
        high = math.inf if wanted.high is None else wanted.high
    if key == SIZE and record.get("pool_examples"):
        high = min(high, MOST_OF_POOL * record["pool_examples"])  # all of it is one subset only
    return low, high


def _neat(key: str, value: float, whole: bool) -> Any:
    return round(value) if whole else float(f"{value:.3g}")


# -- replicas -------------------------------------------------------------------------------------------


def _replicas(evidence: Evidence) -> tuple[int, str]:
    """How many replicas would tell the first two apart, and a sentence; ("", the same number) where none is needed."""
    assert evidence.study is not None
    assert evidence.board is not None
    count = evidence.study.replicas.count
    tied = [row for row in evidence.board.rows if row.tie_group == 1]
    if len(tied) < 2:
        return count, ""
    names = words.listed([label(row.record["params"]) for row in tied[:3]])
    more = f" and {len(tied) - 3} more" if len(tied) > 3 else ""
    needed = evidence.board.needed
    wanted = count + needed.estimate if needed else 2 * count
    new = min(MOST_REPLICAS, max(wanted, count + 1))
    inits = evidence.study.replicas.inits
    new = -(-new // inits) * inits
    if new <= count:
        return count, ""
    why = (
        f"{needed} more replicas would separate the first two"
        if needed
        else "nothing shows yet that they differ, and twice the replicas would show a difference 1.4 times smaller"
    )
    by = columns.column(evidence.board.by, evidence.records).phrase
    return (
        new,
        f"{names}{more} cannot be told apart by {by}: {why}; train them with {new} replicas.",
    )


def _tied(evidence: Evidence) -> list[dict[str, Any]]:
    rows = evidence.board.rows if evidence.board else []
    return [row.record["params"] for row in rows if row.tie_group == 1][:MOST_TIED]


# -- the study --------------------------------------------------------------------------------------------


def _study(
    evidence: Evidence,
    fixed: dict[str, Any],
    sweep: dict[str, Any],
    cases: list[dict[str, Any]],
    count: int,
) -> dict[str, Any]:
    """A study file like the one that was run, with these settings fixed and these swept."""
    study = evidence.study
    assert study is not None
    said = study.model_dump(mode="json", exclude_defaults=True)
    for gone in ("name", "question", "sweep", "cases", "claim", "asks", "nightly"):
        said.pop(gone, None)
    for key, value in fixed.items():
        section, _, name = key.partition(".")
        part = said.setdefault(section, {})
        name, dot, option = name.partition(".")
        part[name] = {**part.get(name, {}), option: value} if dot else value
    if study.asks.measure is not None and study.asks.against is None:
        said["asks"] = {"measure": study.model_dump(mode="json")["asks"]["measure"]}
    said.setdefault("replicas", {})["count"] = count
    mixed = any(isinstance(values, dict) for values in sweep.values())
    if not mixed and study.search.sampler != "grid":
        said.pop("search", None)
        said.pop("scheduler", None)
    keys = (
        words.listed([words.heading(key) for key in sweep]) if sweep else "the tied configurations"
    )
    return {
        "name": f"{evidence.name}-next"[:100],
        "question": f"After {evidence.name}: what of {keys}?"[:4000],
        **said,
        "sweep": {"cases": cases} if cases else sweep,
    }


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
