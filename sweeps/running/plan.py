"""The plan of a study as a page: what it would run. Starts and writes nothing."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator

from engram import program
from engram.data.dataset import Facts
from engram.measures import equivalence
from engram.sweeps.running import speed
from engram.sweeps.running.estimate import GIB, PROCESS_BYTES, Plan
from engram.sweeps.search import window
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.study.sections import several

TYPICAL_SD = 0.02  # of the paired difference of two error rates, in studies of a few hundred test examples or more


def lines(made: Plan, start: str | None = None) -> list[str]:
    """The plan for people, one subject a line. start: what runs it; the command without it."""
    study = made.study
    rows = [
        ("trials", _trials(made)),
        ("replicas", _replicas(made)),
        ("data", _data(made)),
        ("subsets", _subsets(made)),
        ("network", _networks(made)),
        ("training", _training(made)),
        ("selection", _selection(study)),
        ("at once", _at_once(made)),
        ("time", _time(made)),
        ("memory", _memory(made)),
        ("disk", _disk(made)),
    ]
    head = f"{study.name}: {study.question}" if study.question else study.name
    body = [f"  {subject:10} {line}" for subject, line in _wrapped(rows)]
    return [
        head,
        "",
        *body,
        "",
        "nothing was started; run it with:",
        f"  {start or f'{program.name()} run {study.request}'}",
    ]


def _wrapped(rows: list[tuple[str, list[str]]]) -> Iterator[tuple[str, str]]:
    for subject, texts in rows:
        for index, text in enumerate(texts):
            yield ("" if index else subject), text


def _trials(made: Plan) -> list[str]:
    study, search = made.study, made.study.search
    free = {
        key: axis
        for key, axis in study.sweep.items()
        if not any(key in case for case in study.cases)
    }
    axes = [f"case: {label(case)}" for case in study.cases]
    axes += [f"{key}: {axis}" for key, axis in free.items()]
    axes = axes or ["nothing is swept: one trial"]
    if made.trials is None:
        count = f"as many as the budget allows ({search.sampler})"
    else:
        total = study.combinations()
        of = f" of {total:,}" if total is not None and total > made.trials else ""
        count = f"{made.trials:,}{of} ({search.sampler}"
        limits = (search.trials, study.budget.trials, study.budget.hours, study.budget.gpu_hours)
        default = search.sampler != "grid" and not any(limits) and total != made.trials
        count += ", the default: search.trials sets another number)" if default else ")"
    if search.sampler == "tpe" and (made.trials is None or made.trials > window.LATEST):
        count += f"; {window.SAID}"
    if study.prunes:
        count += (
            f"; {study.scheduler.name} may stop them early, from epoch {study.scheduler.grace} on"
        )
    return [count, *axes]


def _replicas(made: Plan) -> list[str]:
    replicas = made.study.replicas
    networks = "" if made.trials is None else f": {_count(made.trials * replicas.count, 'network')}"
    split = (
        f", {replicas.count // replicas.inits} draws x {replicas.inits} initializations"
        if replicas.inits > 1
        else ""
    )
    stacks = sorted({load.stack for load in made.loads if load.learner is None})
    if not stacks:
        how = "one after another"
    elif stacks == [1]:
        how = "trained one by one"
    elif any(load.how.way == "vmapped" for load in made.loads):
        how = "trained in stacks, as wide as is measured to be fast"
    elif stacks == [replicas.count]:
        how = "trained in one stack"
    else:
        how = f"trained in stacks of {_span(stacks)}"
    reasons = sorted({load.how.reason for load in made.loads if load.how.reason})
    found = [f"{replicas.count} per trial{networks}{split}; {how}", *_power(made)]
    learners = {
        load.configuration.model.family: load.learner for load in made.loads if load.learner
    }
    found += [f"your {about}, replica by replica: {name}" for name, about in learners.items()]
    return found + [f"one by one: {reason}" for reason in reasons]


def _power(made: Plan) -> list[str]:
    """What difference so many replicas would tell; nothing where there is nothing to compare."""
    independent = made.study.replicas.count // made.study.replicas.inits
    if made.trials is None or made.trials < 2 or independent < 2:
        return []
    least = equivalence.told(independent, TYPICAL_SD, made.trials)
    said = [
        f"{independent} tell {least:.2g} between any of {made.trials:,} trials (power 80 %), where differences vary by "
        f"{TYPICAL_SD} from replica to replica"
    ]
    if (margin := _margin(made)) is not None:
        needed = equivalence.enough(margin, TYPICAL_SD)
        few = needed is None or independent < needed
        said.append(
            f"that two of them are alike within {margin:.2g} needs {'more than 100,000' if needed is None else needed}"
            + (f"; {independent} seldom show it" if few else "")
        )
    return said


def _margin(made: Plan) -> float | None:
    """The difference of an error that counts as none: the study's own, or a share of chance error, classes taken as alike."""
    study = made.study
    if study.claim.margin is not None:
        return study.claim.margin
    errors = all(name.endswith("_error") for name in several(study.asks.measure))
    if study.asks.margin is not None:
        return study.asks.margin if errors else None
    classes = {load.facts.classes for load in made.loads}
    if len(classes) > 1 or not (count := classes.pop()):
        return None
    return equivalence.MARGIN_SHARE * (1 - 1 / count)


def _data(made: Plan) -> list[str]:
    known = {load.configuration.data.name: load.facts for load in made.loads}
    pools = made.pools
    pool, held = _span(pool for pool, _ in pools), _span(held for _, held in pools)
    validation = (
        f"{held} held out for validation" if made.study.selects else "none held out for validation"
    )
    named = ", ".join(f"{name} ({_shape(facts)})" for name, facts in known.items())
    test = _span(facts.test for facts in known.values())
    notes = dict.fromkeys(note for facts in known.values() for note in facts.notes)
    return [named, f"pool of {pool}, {validation}; test {test}", *notes]


def _shape(facts: Facts) -> str:
    kind = f"{facts.classes} classes" if facts.classes else facts.task
    kind = f"{facts.classes} ordered classes" if facts.ordinal else kind
    kind = f"{facts.labels} labels" if facts.labels else kind
    kind += f" of {facts.values} values" if kind == "regression" and facts.values > 1 else ""
    if facts.kind == "several":
        return f"several inputs, {kind}"  # what they are is among the notes
    return f"{facts.kind} of {' x '.join(map(str, facts.shape))}, {kind}"


def _subsets(made: Plan) -> list[str]:
    study = made.study
    sizes = [load.configuration.data.train_size for load in made.loads]
    left = [pool - held for pool, held in made.pools]
    shares = [size / n for size in (min(sizes), max(sizes)) for n in (min(left), max(left))]
    low, high = min(shares), max(shares)
    share = f"{high:.2g}" if math.isclose(low, high) else f"{low:.2g} to {high:.2g}"
    found = [f"draw {study.replicas.draw}: m = {_span(sizes)} of n = {_span(left)} (m/n {share})"]
    if study.replicas.draw in ("fresh", "disjoint"):
        found.append("no example in two subsets: the variance is the population's")
    elif high >= 1 and study.replicas.draw in ("subset", "complementary"):
        found.append(
            "where m = n all replicas train on the same examples: their variance is initialization and order"
        )
    elif high > 0.1:
        found.append("m/n is not small: the variance is the one given this pool")
    return found


def _networks(made: Plan) -> list[str]:
    networks = [load for load in made.loads if load.learner is None]
    learners = sorted({load.configuration.model.family for load in made.loads if load.learner})
    families = sorted({load.configuration.model.family for load in networks})
    found = []
    if networks:
        counts = _span(load.parameters for load in networks)
        found.append(f"{', '.join(families)}: {counts} parameters")
        found += dict.fromkeys(note for load in networks for note in load.how.notes)
    return found + [f"{name}: as it is, by its own rules" for name in learners]


def _training(made: Plan) -> list[str]:
    networks = [load for load in made.loads if load.learner is None]
    if not networks:
        return ["by your own code: task.config and model.options say how"]
    optimizers = sorted({load.configuration.training.optimizer for load in networks})
    steps = _span(load.steps for load in networks)
    batches = _span(load.configuration.training.batch_size for load in made.loads)
    found = [f"{', '.join(optimizers)}: {steps} steps of {batches} examples a replica"]
    if made.trials is not None:
        mean = sum(load.examples for load in made.loads) / len(made.loads)
        found[0] += f"; {_short(mean * made.trials)} examples in all"
    for name in [name for name in optimizers if ":" in name]:
        its = [load for load in made.loads if load.configuration.training.optimizer == name]
        apart = all(load.together for load in its)
        how = "one for all replicas, tried to treat them apart" if apart else "one for each replica"
        found.append(f"{name}: {how}")
    sizes = {load.configuration.data.train_size for load in made.loads}
    if len(sizes) > 1:
        equal = (
            "steps" if all(load.configuration.training.steps for load in made.loads) else "epochs"
        )
        found.append(f"equal {equal} across train sizes")
    return found


def _selection(study: Study) -> list[str]:
    if not study.selects:
        return ["validation is off: every trial is reported, none is selected"]
    goals = ", ".join(f"{name} ({direction})" for name, direction in study.search.objective.items())
    return [f"by {goals}, without the test set; test is reported once"]


def _at_once(made: Plan) -> list[str]:
    resources = made.study.resources
    gpu = "" if resources.gpu in (0, "auto") else f" and {resources.gpu:g} GPU"
    shared = f"{made.workers} workers share the replicas of each, " if made.workers > 1 else ""
    each = f"{shared}{resources.cpu:g} CPU{gpu} each"
    found = [f"{_count(made.concurrent, 'trial')}, {each}, on this machine's {os.cpu_count()} CPUs"]
    return found + _device(made)


def _device(made: Plan) -> list[str]:
    """What a trial is calculated on, where a GPU is asked for or there is one."""
    import torch

    from engram.models import device

    resources = made.study.resources
    if made.timed_on == "cpu":
        return []
    if made.timed_on == "model":
        why = device.cuda_problem() or "none is declared"
        return [f"on a GPU, which this machine has not: a run here is refused. {why}"]
    total = torch.cuda.get_device_properties(0).total_memory
    share = (
        "as many on each as its memory holds, which the first trial tells"
        if resources.gpu == "auto"
        else f"{resources.gpu:g} of one each"
    )
    one = _bytes(max(load.bytes for load in made.loads))
    name = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return [f"on {name}, {share}: about {one} a trial of {_bytes(total)}"]


def _timed(made: Plan) -> str:
    """What the times rest on."""
    if made.timed_on == "model":
        return speed.MODEL
    return "from measured steps" if made.timed_on == "cpu" else "from steps measured on a GPU"


def _time(made: Plan) -> list[str]:
    low, high = min(made.seconds), max(made.seconds)
    each = _duration(high) if high < 1.5 * low else f"{_duration(low)} to {_duration(high)}"
    budget = made.study.budget
    limits = [
        f"{value:g} {unit}"
        for value, unit in ((budget.hours, "hours"), (budget.gpu_hours, "GPU hours"))
        if value
    ]
    until = f"; ends after {' or '.join(limits)}" if limits else ""
    whole = "" if made.total_s is None else f"about {_duration(made.total_s)} in all, "
    found = [f"{whole}{each} a trial ({_timed(made)}){until}"]
    learners = sum(load.learner is not None for load in made.loads)
    if learners == len(made.loads):
        return [f"that of your own code, which only running it tells{until}"]
    if learners:
        found.append("without that of your own code, which only running it tells")
    return found


def _memory(made: Plan) -> list[str]:
    processes = made.concurrent * made.workers * PROCESS_BYTES
    trials = processes + made.concurrent * max(load.bytes for load in made.loads)
    need = trials + made.data_bytes + GIB
    text = f"about {_bytes(need)} (an estimate)"
    try:
        import psutil

        free = psutil.virtual_memory().available
    except ImportError:
        return [text]
    if need > free:
        return [text, f"only {_bytes(free)} are free: lower resources.concurrent"]
    return [text]


def _disk(made: Plan) -> list[str]:
    home = paths.home()
    per_trial = made.artifact_bytes
    need = per_trial * (made.trials or 1)
    whole = f"{_bytes(per_trial)} a trial" if made.trials is None else f"about {_bytes(need)}"
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = [f"{whole} in {home}"]
    room = made.study.measured.arrays_kb
    if room is not None:
        found.append(
            f"of each trial {room} KB of arrays are kept, the smallest first (measures.arrays_kb); what is left out stands "
            "in its record"
        )
    return found if need < free else [*found, f"only {_bytes(free)} are free"]


def _span(values: Iterable[int]) -> str:
    known = sorted(set(values))
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _short(number: float) -> str:
    for size, unit in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def _bytes(number: float) -> str:
    for size, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if number >= size:
            return (
                f"{number / size:.2g} {unit}"
                if number < 10 * size
                else f"{number / size:.0f} {unit}"
            )
    return f"{number / 1024:.0f} KiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
