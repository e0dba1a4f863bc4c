"""What must hold between the keys of a study. Each rule names the keys it reads.

A rule is left out where one of its keys is wrong by itself: its complaint would be about a default.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from engram.measures import catalog
from engram.models.families import TABLE as FAMILIES
from engram.models.families import is_own
from engram.problems import Problem, nearest
from engram.sweeps.study import own_code
from engram.sweeps.study.configuration import LARGEST_GRID, Study
from engram.sweeps.study.sections import ALIASES, BEFORE, CASES, Range, Scalar, several

Found = Iterator[Problem]
RULES: list[tuple[tuple[str, ...], Callable[[Study], Found]]] = []


def broken(study: Study, bad: Iterable[str]) -> list[Problem]:
    """The problems between keys; bad: the keys that are already reported."""
    bad = set(bad)
    return [
        problem for keys, rule in RULES if not bad.intersection(keys) for problem in rule(study)
    ]


def reads(*keys: str) -> Callable[[Callable[[Study], Found]], Callable[[Study], Found]]:
    def register(rule: Callable[[Study], Found]) -> Callable[[Study], Found]:
        RULES.append((keys, rule))
        return rule

    return register


def _problem(study: Study, key: str, rule: str, fix: str, value: object = ...) -> Problem:
    section, _, name = key.partition(".")
    if value is ...:
        value = getattr(getattr(study, section), name)
    return Problem(study.place(key, value), rule, fix, key, value)


def _pairs(study: Study, first: str, second: str) -> Iterator[tuple[Scalar, Scalar]]:
    """The values that two keys take together."""
    if study.cases:
        for point in study.grid():
            values = study.configure(point).dotted()
            yield values.get(first), values.get(second)
    else:
        yield from itertools.product(study.taken(first), study.taken(second))


@reads("data.validation", "training.early_stopping", "sweep")
def stopping_needs_validation(study: Study) -> Found:
    for patience in study.taken("training.early_stopping"):
        if patience is not None and not study.selects:
            rule = "stops on the validation loss, and data.validation is 0"
            yield _problem(
                study,
                "training.early_stopping",
                rule,
                "hold some out, data.validation: 0.2, or set it to null",
                patience,
            )
            return


@reads("data.validation", "scheduler.name")
def pruning_needs_validation(study: Study) -> Found:
    if study.prunes and not study.selects:
        rule = "stops trials on the validation error, and data.validation is 0"
        yield _problem(
            study,
            "scheduler.name",
            rule,
            "hold some out, data.validation: 0.2, or use scheduler.name: fifo",
        )


@reads("data.validation", "search.sampler")
def search_needs_validation(study: Study) -> Found:
    if study.search.sampler not in ("grid", "random") and not study.selects:
        rule = "chooses trials by what the validation set says, and data.validation is 0"
        yield _problem(
            study,
            "search.sampler",
            rule,
            "hold some out, data.validation: 0.2, or use grid or random",
        )


@reads("search.sampler", "sweep")
def grid_has_an_end(study: Study) -> Found:
    if study.search.sampler != "grid":
        return
    for key, axis in study.sweep.items():
        if isinstance(axis, Range):
            rule = "is a distribution, and a grid tries every value there is"
            fix = "list the values, or set search.sampler to random or tpe"
            yield _problem(study, key, rule, fix, {axis.distribution: [axis.low, axis.high]})
    combinations = study.combinations()
    if combinations is not None and combinations > LARGEST_GRID:
        rule = f"is a grid of {combinations:,} trials; the most is {LARGEST_GRID:,}"
        place = study.place("sweep")
        yield Problem(
            place, rule, "list fewer values, or set search.sampler to random or tpe", "sweep"
        )


@reads("search.sampler", "sweep")
def cases_are_for_the_grid(study: Study) -> Found:
    if study.cases and study.search.sampler != "grid":
        rule = "chooses each key by itself, and sweep.cases ties keys together"
        yield _problem(study, "search.sampler", rule, "use grid, or list the keys without cases")


@reads("search.sampler", "sweep")
def search_has_a_space(study: Study) -> Found:
    sampler = study.search.sampler
    if sampler == "grid":
        return
    if not study.sweep:
        rule = "has nothing to choose: the sweep is empty"
        yield _problem(
            study,
            "search.sampler",
            rule,
            "name what may change under sweep, or use grid for the one trial",
        )
    elif sampler == "cmaes" and sum(isinstance(axis, Range) for axis in study.sweep.values()) < 2:
        rule = "moves in two or more distributions, and the sweep has fewer (lists are categories to it)"
        fix = "sweep two numeric keys as {uniform: [low, high]} or the like, or use tpe"
        yield _problem(study, "search.sampler", rule, fix)


@reads("search.objective", "measures.own")
def objective_is_known(study: Study) -> Found:
    """A measure that may be selected by, or one of the study's own functions, in its own direction."""
    functions = {m.name: m for m in map(catalog.own, own_code.functions(study))}
    known = [*catalog.objectives(), *functions]
    for name, direction in study.search.objective.items():
        if name not in known:
            close = nearest(name, known)
            fix = (f"did you mean '{close}'? " if close else "") + f"known: {', '.join(known)}"
            yield _problem(study, "search.objective", f"has no measure '{name}' to select on", fix)
        elif name in functions and direction != functions[name].better:
            rule = f"asks for the {direction} of {name}, which is taken as better {'low' if direction == 'max' else 'high'}"
            fix = "what is better low has a name that ends in _error, _loss or _deviance, anything else is better high: rename the function"
            yield _problem(study, "search.objective", rule, fix)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@reads("asks.measure", "asks.of", "asks.against", "asks.tuned", "measures.own", "sweep")
def what_is_asked_is_there(study: Study) -> Found:
    """Known measures, swept keys, and one number for each trial where numbers are listed."""
    known = [*catalog.MEASURES, *(catalog.own(path).name for path in own_code.functions(study))]
    against = study.asks.held_against
    named = [("asks.measure", name) for name in several(study.asks.measure)]
    named += [("asks.against", n) for n in against if n not in several(study.asks.measure)]
    named += [("asks.against", other) for other in against.values() if isinstance(other, str)]
    for key, name in named:
        if name not in known and catalog.find(name) is None:
            close = nearest(name, known)
            fix = f"did you mean '{close}'?" if close else "docs/measures.md lists them"
            yield _problem(study, key, "is no measure", fix, name)
    if any(option.startswith("sweep") for option in study.overrides):
        return  # a narrower sweep asks for less; what the file says was checked without it
    swept = [*study.sweep, *((CASES,) if study.cases else ())]
    for field in ("of", "tuned"):
        for name in several(getattr(study.asks, field)):
            if ALIASES.get(name, name) not in swept:
                close = nearest(name, [*swept, *ALIASES])
                listed = f"swept are: {', '.join(swept) or 'none'}"
                fix = f"did you mean '{close}'? {listed}" if close else listed
                yield _problem(study, f"asks.{field}", "is not swept by this study", fix, name)
    trials = study.combinations()
    for name, target in against.items():
        if isinstance(target, list | tuple):
            numbers = [v for v in target if v is not None]
            if len(target) != trials or not all(map(_is_number, numbers)):
                rule = f"lists {len(target)} values for {trials or 'an open number of'} trials"
                fix = "list one number, or null, for each trial of the grid"
                yield _problem(study, "asks.against", rule, fix)
        elif not (isinstance(target, str) or _is_number(target)):
            fix = "write a number, the name of a measure, or a list of numbers"
            yield _problem(study, "asks.against", f"holds {name} against no number", fix, target)
    if study.asks.against is not None and study.asks.against != BEFORE and not against:
        fix = "name one: measure: ensemble_error"
        yield _problem(study, "asks.against", "is held against no measure", fix)


@reads("search.objective", "scheduler.name", "measures.own")
def pruning_needs_an_early_objective(study: Study) -> Found:
    """Weak trials are told by reports on the way, which not every measure is in."""
    if not study.prunes:
        return
    for name in study.search.objective:
        found = catalog.find(name)
        if found is None or (found.objective and not found.early):
            early = ", ".join(m.name for m in catalog.MEASURES.values() if m.early)
            rule = f"stops trials by {name}, which is measured only once a trial has ended"
            fix = f"use scheduler.name: fifo, or select by one of {early}"
            yield _problem(study, "scheduler.name", rule, fix)
            return


@reads("search.sampler", "search.objective", "scheduler.name")
def one_objective_where_needed(study: Study) -> Found:
    if len(study.search.objective) < 2:
        return
    if study.search.sampler == "cmaes":
        yield _problem(
            study,
            "search.sampler",
            "follows one objective, and search.objective names several",
            "use nsga2 or tpe for a Pareto front",
        )
    if study.prunes:
        rule = "compares running trials by one number, and search.objective names several"
        yield _problem(study, "scheduler.name", rule, "use scheduler.name: fifo, or one objective")


@reads("scheduler.name", "scheduler.grace", "training.epochs", "training.steps", "sweep")
def grace_ends_before_training(study: Study) -> Found:
    if not study.prunes or any(steps is not None for steps in study.taken("training.steps")):
        return
    longest = study.largest("training.epochs")
    assert isinstance(longest, int | float)
    if study.scheduler.grace >= longest:
        rule = f"leaves nothing to stop: trials end after {longest} epochs"
        yield _problem(
            study, "scheduler.grace", rule, "lower the grace, or use scheduler.name: fifo"
        )


@reads("resources.gpu", "resources.device")
def device_has_resources(study: Study) -> Found:
    device, gpu = study.resources.device, study.resources.gpu
    if device == "cpu" and gpu not in (0, "auto"):
        yield _problem(
            study,
            "resources.gpu",
            "asks for a GPU, and resources.device is cpu",
            "set one of the two",
        )
    if device == "cuda" and gpu == 0:
        rule = "asks for a GPU, and resources.gpu is 0"
        yield _problem(
            study, "resources.device", rule, "set resources.gpu to auto, to 1, or to a share of one"
        )


@reads(
    "resources.workers",
    "replicas.count",
    "measures.retention",
    "training.early_stopping",
    "sweep",
)
def replicas_can_be_shared(study: Study) -> Found:
    workers, count = study.resources.workers, study.replicas.count
    if workers == "auto" or workers == 1:
        return
    if workers > count:
        rule = f"shares the replicas of a trial among more workers than it has: {count}"
        yield _problem(study, "resources.workers", rule, f"set it to {count} at most, or to auto")
    elif study.retained_at_once:
        rule = (
            "lets each worker take its measures by itself, and measures.retention goes on for as long as all replicas "
            "trained, which early stopping decides at the end"
        )
        fix = "set it to 1, or one of measures.retention and training.early_stopping to its default"
        yield _problem(study, "resources.workers", rule, fix)


@reads("model.family", "model.depth", "sweep")
def depth_is_enough(study: Study) -> Found:
    for family, depth in _pairs(study, "model.family", "model.depth"):
        if is_own(str(family)) or not isinstance(depth, int):
            continue
        if depth < FAMILIES[str(family)].least_depth:
            rule = f"is a linear model, and a {family} network has at least one hidden layer"
            fix = "set depth to 1 or more, or pair the two under sweep.cases"
            yield _problem(study, "model.depth", rule, fix, depth)
            return


@reads("training.optimizer", "training.momentum", "sweep")
def swept_momentum_has_effect(study: Study) -> Found:
    if "training.momentum" in study.sweep and "sgd" not in study.taken("training.optimizer"):
        rule = "changes nothing: momentum is sgd's, and the optimizer is not sgd"
        axis = study.sweep["training.momentum"]
        yield _problem(
            study,
            "training.momentum",
            rule,
            "set training.optimizer: sgd, or take it out of the sweep",
            str(axis),
        )


@reads("model.fresh", "model.start", "sweep")
def fresh_has_a_start(study: Study) -> Found:
    if study.model.fresh and all(start is None for start in study.taken("model.start")):
        rule = "names what model.start leaves fresh, and there is no model.start"
        fix = "name the file that the rest comes from, or take it out"
        yield _problem(study, "model.fresh", rule, fix)


@reads("training.epochs", "training.steps", "sweep")
def swept_epochs_have_effect(study: Study) -> Found:
    if "training.epochs" in study.sweep and all(
        steps is not None for steps in study.taken("training.steps")
    ):
        rule = "changes nothing: training.steps stands in place of epochs"
        yield _problem(
            study,
            "training.epochs",
            rule,
            "set training.steps to null, or sweep training.steps",
            str(study.sweep["training.epochs"]),
        )
