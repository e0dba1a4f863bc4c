"""What a study would run: trials, replicas, steps, time, memory and disk. Starts and writes nothing.

Time comes from a short measurement of training steps where models.training offers `probe`, and else
from arithmetic; the plan says which. Must not start Ray.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data import catalog, subsets
from data.dataset import Facts
from sweeps import state
from sweeps.definition import Configuration, Study
from sweeps.sections import Range, Scalar, Values

MOST_LOOKED_AT = 2000  # configurations; a larger study is scaled up from these
MOST_PROBED = 6
GIB = 2**30

# Rough figures of one CPU core, for the estimate without measurement.
FLOPS_PER_SECOND = 6e9
STEP_OVERHEAD_S = 8e-4
RAY_START_S = 12.0
TRIAL_OVERHEAD_S = 0.5
PROCESS_BYTES = 0.6 * GIB  # a worker with torch in it


@dataclass(frozen=True)
class Load:
    """What one configuration costs."""

    configuration: Configuration
    parameters: int
    steps: int
    examples: int  # seen in training, all replicas
    flops: float
    bytes: float
    stack: int
    unstackable: str | None

    @property
    def arithmetic_s(self) -> float:
        passes = math.ceil(self.configuration.replicas.count / self.stack)
        return self.flops / FLOPS_PER_SECOND + self.steps * passes * STEP_OVERHEAD_S


@dataclass(frozen=True)
class Plan:
    """The numbers behind the page; lines() is the page."""

    study: Study
    facts: Facts
    trials: int | None
    loads: tuple[Load, ...]
    seconds: tuple[float, ...]  # one per load
    measured: bool
    concurrent: int
    pools: tuple[tuple[int, int], ...]  # (pool, held out) of each data configuration

    @property
    def total_s(self) -> float | None:
        """Wall-clock seconds with `concurrent` trials at once; None where only the budget ends it."""
        if self.trials is None:
            return None
        mean = sum(self.seconds) / len(self.seconds) + TRIAL_OVERHEAD_S
        waves = self.trials * mean / self.concurrent
        return RAY_START_S + max(waves, max(self.seconds))

    @property
    def artifact_bytes(self) -> float:
        """Stored per trial: predictions in half precision, history, rows of the stores."""
        replicas, facts = self.study.replicas.count, self.facts
        outputs = facts.classes or 1
        kept = replicas * facts.test * outputs * 2 if self.study.measures.predictions else 0
        return kept + 100_000


def plan(study: Study) -> int:
    """Prints the plan of a valid study; 0."""
    print("\n".join(lines(make(study))))
    return 0


def make(study: Study) -> Plan:
    """The plan as numbers."""
    facts = catalog.describe(study.data)
    configurations = list(_configurations(study))
    loads = tuple(_load(configuration, facts) for configuration in configurations)
    measured = _measured(loads, facts)
    seconds = measured or tuple(load.arithmetic_s for load in loads)
    trials = study.planned_trials()
    pools = dict.fromkeys(_pool(study, load.configuration, facts) for load in loads)
    return Plan(
        study,
        facts,
        trials,
        loads,
        seconds,
        measured is not None,
        _concurrent(study, trials),
        tuple(pools),
    )


def _configurations(study: Study) -> Iterator[Configuration]:
    """The grid, or for distributions their ends and middle: enough to know the cost."""
    axes: dict[str, Iterable[Scalar]] = {}
    for key, axis in study.sweep.items():
        axes[key] = axis.values if isinstance(axis, Values) else _ends_and_middle(axis)
    limit = study.planned_trials() if study.search.sampler == "grid" else None
    combinations = itertools.product(*axes.values())
    for chosen in itertools.islice(combinations, min(limit or MOST_LOOKED_AT, MOST_LOOKED_AT)):
        yield study.configure(dict(zip(axes, chosen, strict=True)))


def _ends_and_middle(axis: Range) -> tuple[int | float, ...]:
    middle = math.sqrt(axis.low * axis.high) if axis.log else (axis.low + axis.high) / 2
    return (axis.low, round(middle) if isinstance(axis.low, int) else middle, axis.high)


def _load(configuration: Configuration, facts: Facts) -> Load:
    from models.training import evaluation_steps, steps_of

    data, training, count = configuration.data, configuration.training, configuration.replicas.count
    network = _network(configuration.model.model_dump_json(), facts)
    _, steps = steps_of(training, data.train_size)
    batch = min(training.batch_size, data.train_size)
    examples = steps * batch * count
    held = subsets.held_out(facts.pool or 2 * data.train_size, data.validation)
    looked_at = (data.train_size + held + facts.test) * count
    evaluated = len(evaluation_steps(training, data.train_size)) * looked_at
    # 2 operations per weight forward, 4 backward; recurrent and convolutional weights are reused.
    flops = 2.0 * network.parameters * network.reuse * (3 * examples + evaluated)
    device_stack = configuration.replicas.stack
    stack = network.stack(count) if device_stack == "auto" else min(device_stack, count)
    width = max(configuration.model.width, math.prod(facts.shape))
    activations = (
        stack * batch * width * (configuration.model.depth + 2) * max(1, network.reuse // 4)
    )
    memory = 4.0 * (5 * count * network.parameters + 3 * activations)
    return Load(
        configuration,
        network.parameters,
        steps,
        examples,
        flops,
        memory,
        1 if network.unstackable else stack,
        network.unstackable,
    )


@dataclass(frozen=True)
class _Network:
    family: str
    parameters: int
    reuse: int  # how often a weight is used for one example
    unstackable: str | None

    def stack(self, count: int) -> int:
        import torch

        from models.cohort import default_stack

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return default_stack(self.family, device, count)


@functools.cache
def _network(model: str, facts: Facts) -> _Network:
    """Builds two networks of a configuration to count and to try stacking; [2 x shape] of zeros."""
    import torch

    from models.cohort import Cohort
    from models.config import ModelConfig
    from models.family import build

    config = ModelConfig.model_validate_json(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = [
            build(config, facts.shape, facts.classes or 1, facts.kind == "image") for _ in "ab"
        ]
    own = ":" in config.family  # the house's families stack; a user's class is tried
    example = torch.zeros(4, *facts.shape) if own else None
    cohort = Cohort(modules, torch.device("cpu"), None, example)
    steps = facts.shape[-1] if facts.kind == "sequence" else math.prod(facts.shape[-2:])
    reuse = {"feedforward": 1, "convolutional": max(1, steps // 3)}.get(
        config.family, facts.shape[0]
    )
    return _Network(config.family, cohort.parameter_count, reuse, cohort.unstackable)


def _measured(loads: tuple[Load, ...], facts: Facts) -> tuple[float, ...] | None:
    """Seconds of each load, scaled from the measured loads of each kind of network; None: no probe.

    The hook: models.training.probe(configuration, facts) -> seconds per training step of the whole
    cohort, evaluations included in proportion.
    """
    from models import training

    probe = getattr(training, "probe", None)
    if probe is None:
        return None
    kinds: dict[tuple, Load] = {}
    for load in sorted(loads, key=lambda load: load.arithmetic_s):
        model = load.configuration.model
        kinds[model.family, load.configuration.training.optimizer] = load  # the costliest remains
    factors: dict[tuple, float] = {}
    for kind, load in itertools.islice(kinds.items(), MOST_PROBED):
        factors[kind] = probe(load.configuration, facts) * load.steps / load.arithmetic_s
    typical = sum(factors.values()) / len(factors)
    return tuple(
        load.arithmetic_s
        * factors.get(
            (load.configuration.model.family, load.configuration.training.optimizer), typical
        )
        for load in loads
    )


def _pool(study: Study, configuration: Configuration, facts: Facts) -> tuple[int, int]:
    """(pool, examples held out of it) for a configuration, as a run would have it."""
    data = configuration.data
    pool = data.pool_size or facts.pool
    if pool is None:
        largest = study.largest("data.train_size")
        assert isinstance(largest, int)
        pool = subsets.pool_needed(largest, data.validation, study.replicas)
    return pool, subsets.held_out(pool, data.validation)


def _concurrent(study: Study, trials: int | None) -> int:
    """Trials at once: as asked, or as many as CPUs and GPUs hold."""
    resources = study.resources
    if resources.concurrent != "auto":
        fit = resources.concurrent
    else:
        fit = max(1, int((os.cpu_count() or 1) / resources.cpu))
        if resources.gpu > 0:
            import torch

            fit = max(1, min(fit, int(torch.cuda.device_count() / resources.gpu)))
    return max(1, min(fit, trials)) if trials else fit


# -- the page ----------------------------------------------------------------------------------


def lines(made: Plan) -> list[str]:
    """The plan for people, one subject a line."""
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
    options = "".join(f" --set '{option}'" for option in study.overrides)
    source = study.name if study.path and study.path.stem == study.name else str(study.path)
    return [
        head,
        "",
        *body,
        "",
        f"nothing was started; run it with: python orchestrate.py run {source}{options}",
    ]


def _wrapped(rows: list[tuple[str, list[str]]]) -> Iterator[tuple[str, str]]:
    for subject, texts in rows:
        for index, text in enumerate(texts):
            yield ("" if index else subject), text


def _trials(made: Plan) -> list[str]:
    study, search = made.study, made.study.search
    axes = [f"{key}: {axis}" for key, axis in study.sweep.items()] or [
        "nothing is swept: one trial"
    ]
    if made.trials is None:
        count = f"as many as the budget allows ({search.sampler})"
    else:
        total = study.combinations()
        of = f" of {total:,}" if total is not None and total > made.trials else ""
        count = f"{made.trials:,}{of} ({search.sampler}"
        limits = (search.trials, study.budget.trials, study.budget.hours, study.budget.gpu_hours)
        default = search.sampler != "grid" and not any(limits) and total != made.trials
        count += ", the default: search.trials sets another number)" if default else ")"
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
    stacks = sorted({load.stack for load in made.loads})
    if stacks == [1]:
        how = "trained one by one"
    elif stacks == [replicas.count]:
        how = "trained in one stack"
    else:
        how = f"trained in stacks of {_span(stacks)}"
    reasons = sorted({load.unstackable for load in made.loads if load.unstackable})
    found = [f"{replicas.count} per trial{networks}{split}; {how}"]
    return found + [f"cannot be stacked: {reason}" for reason in reasons]


def _data(made: Plan) -> list[str]:
    names = sorted({load.configuration.data.name for load in made.loads})
    facts, pools = made.facts, made.pools
    pool, held = _span(pool for pool, _ in pools), _span(held for _, held in pools)
    validation = (
        f"{held} held out for validation" if made.study.selects else "none held out for validation"
    )
    kind = f"{facts.classes} classes" if facts.classes else "regression"
    shape = "x".join(map(str, facts.shape))
    return [
        f"{', '.join(names)} ({facts.kind} of {shape}, {kind}): pool of {pool}, {validation}; test {facts.test:,}"
    ]


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
    families = sorted({load.configuration.model.family for load in made.loads})
    return [f"{', '.join(families)}: {_span(load.parameters for load in made.loads)} parameters"]


def _training(made: Plan) -> list[str]:
    optimizers = sorted({load.configuration.training.optimizer for load in made.loads})
    steps = _span(load.steps for load in made.loads)
    batches = _span(load.configuration.training.batch_size for load in made.loads)
    found = [f"{', '.join(optimizers)}: {steps} steps of {batches} examples a replica"]
    if made.trials is not None:
        mean = sum(load.examples for load in made.loads) / len(made.loads)
        found[0] += f"; {_short(mean * made.trials)} examples in all"
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
    gpu = f" and {resources.gpu:g} GPU" if resources.gpu else ""
    return [
        f"{_count(made.concurrent, 'trial')}, {resources.cpu:g} CPU{gpu} each, on this machine's {os.cpu_count()} CPUs"
    ]


def _time(made: Plan) -> list[str]:
    low, high = min(made.seconds), max(made.seconds)
    each = _duration(high) if high < 1.5 * low else f"{_duration(low)} to {_duration(high)}"
    how = "from measured steps" if made.measured else "a rough estimate from arithmetic"
    budget = made.study.budget
    limits = [
        f"{value:g} {unit}"
        for value, unit in ((budget.hours, "hours"), (budget.gpu_hours, "GPU hours"))
        if value
    ]
    until = f"; ends after {' or '.join(limits)}" if limits else ""
    whole = "" if made.total_s is None else f"about {_duration(made.total_s)} in all, "
    return [f"{whole}{each} a trial ({how}){until}"]


def _memory(made: Plan) -> list[str]:
    need = made.concurrent * (PROCESS_BYTES + max(load.bytes for load in made.loads)) + GIB
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
    home = state.home()
    per_trial = made.artifact_bytes
    need = per_trial * (made.trials or 1)
    whole = f"{_bytes(per_trial)} a trial" if made.trials is None else f"about {_bytes(need)}"
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = [f"{whole} in {home}"]
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
