"""What a study costs before it runs: steps, operations, memory and seconds of each configuration.

Time comes from a short measurement of training steps, scaled to each configuration by arithmetic. Must
not start Ray.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from engram.data import catalog, subsets
from engram.data.config import DataConfig
from engram.data.dataset import Facts
from engram.models import families
from engram.models.families import Way
from engram.models.learners import kinds
from engram.sweeps.running import speed
from engram.sweeps.running.speed import Where
from engram.sweeps.study.configuration import Configuration, Study
from engram.sweeps.study.data_checks import NOT_THE_SOURCE
from engram.sweeps.study.sections import Range, Scalar, Values
from engram.sweeps.trial.workers import workers

MOST_LOOKED_AT = 2000  # configurations; a larger study is scaled up from these
MOST_PROBED = 6
MOST_REHEARSED = 8  # kinds of a person's network, for a plan
LATER = Way(
    "vmapped",
    None,
    ("more kinds of network than are rehearsed here: the others will be when they run",),
)
_REHEARSED: set[tuple] = set()
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
    facts: Facts
    parameters: int
    steps: int
    examples: int  # seen in training, all replicas
    flops: float
    training_flops: float  # of these, without evaluations
    bytes: float
    stack: int
    how: Way
    together: bool  # whether one optimizer serves all replicas
    learner: str | None = None  # what kind, where it is one: nothing is known of its cost

    @property
    def arithmetic_s(self) -> float:
        passes = math.ceil(self.configuration.replicas.count / self.stack)
        return self.flops / FLOPS_PER_SECOND + self.steps * passes * STEP_OVERHEAD_S


@dataclass(frozen=True)
class Plan:
    """The numbers behind the page; lines() is the page."""

    study: Study
    trials: int | None
    loads: tuple[Load, ...]
    seconds: tuple[float, ...]  # one per load
    concurrent: int
    workers: int  # that share the replicas of a trial
    pools: tuple[tuple[int, int], ...]  # (pool, held out) of each data configuration
    timed_on: Where = "cpu"

    @property
    def total_s(self) -> float | None:
        """Wall-clock seconds with `concurrent` trials at once; None where only the budget ends it."""
        if self.trials is None:
            return None
        mean = sum(self.seconds) / len(self.seconds) + TRIAL_OVERHEAD_S
        waves = self.trials * mean / self.concurrent
        return RAY_START_S + max(waves, max(self.seconds))

    @property
    def data_bytes(self) -> float:
        """The examples, twice: as they are made, and in the memory that all trials share."""
        facts = self.loads[0].facts
        return 2.0 * facts.bytes_each * (max(pool for pool, _ in self.pools) + facts.test)

    @property
    def artifact_bytes(self) -> float:
        """Stored per trial: predictions in half precision, history, rows of the stores."""
        outputs = max(
            load.facts.test * load.facts.answers * load.facts.outputs for load in self.loads
        )
        kept = 2 * self.study.replicas.count * outputs if self.study.measures.predictions else 0
        room = self.study.measured.arrays_kb
        return (kept if room is None else min(kept, 1000 * room)) + 100_000


def make(study: Study) -> Plan:
    """The plan as numbers."""
    where = speed.where(study)
    loads = tuple(_load(each, where != "cpu") for each in _configurations(study))
    trials = study.planned_trials()
    pools = dict.fromkeys(_pool(study, load) for load in loads)
    slots = _slots(study, where, _with_data(study, loads))
    several = workers(study, trials, slots)
    seconds = tuple(
        s * _largest_share(load, several)
        for s, load in zip(_measured(loads, where), loads, strict=True)
    )
    asked = study.resources.concurrent
    at_once = slots // several if asked == "auto" else asked
    at_once = max(1, min(at_once, trials) if trials else at_once)
    return Plan(study, trials, loads, seconds, at_once, several, tuple(pools), where)


def _largest_share(load: Load, several: int) -> float:
    """Of a trial's replicas, those of the worker that has most."""
    count = load.configuration.replicas.count
    return math.ceil(count / several) / count


def bytes_of_trial(study: Study, configuration: Configuration | None = None) -> float:
    """Memory of a trial on a GPU, None: of the largest, its data included. An estimate, without a measurement."""
    asked = _configurations(study) if configuration is None else [configuration]
    return _with_data(study, [_load(each, True) for each in asked])


def _with_data(study: Study, loads: Sequence[Load]) -> float:
    """Bytes of the largest of these, and of the data."""
    pools = max(_pool(study, load)[0] for load in loads)
    facts = loads[0].facts
    return max(load.bytes for load in loads) + facts.bytes_each * (pools + facts.test)


def _configurations(study: Study) -> Iterator[Configuration]:
    """The grid, or for distributions their ends and middle: enough to know the cost."""
    if study.search.sampler == "grid":
        limit = min(study.planned_trials() or MOST_LOOKED_AT, MOST_LOOKED_AT)
        yield from map(study.configure, study.grid()[:limit])
        return
    axes: dict[str, Iterable[Scalar]] = {}
    for key, axis in study.sweep.items():
        axes[key] = axis.values if isinstance(axis, Values) else _ends_and_middle(axis)
    for chosen in itertools.islice(itertools.product(*axes.values()), MOST_LOOKED_AT):
        yield study.configure(dict(zip(axes, chosen, strict=True)))


def _ends_and_middle(axis: Range) -> tuple[int | float, ...]:
    middle = math.sqrt(axis.low * axis.high) if axis.log else (axis.low + axis.high) / 2
    return (axis.low, round(middle) if isinstance(axis.low, int) else middle, axis.high)


@functools.cache
def _facts(source: DataConfig) -> Facts:
    return catalog.describe(source)


def _load(configuration: Configuration, on_gpu: bool) -> Load:
    from engram.models.schedules import evaluation_steps, steps_of

    data, training, count = configuration.data, configuration.training, configuration.replicas.count
    facts = _facts(data.model_copy(update=NOT_THE_SOURCE))
    kind = kinds.of(configuration.model.family)
    if kind is not None:
        return Load(
            configuration, facts, 0, 0, 0, 0.0, 0.0, 0.0, 1, Way("learner"), True, kind.about
        )
    network = _network(
        configuration.model.model_dump_json(),
        configuration.training.model_dump_json(),
        data.model_dump_json(),
        facts,
    )
    _, steps = steps_of(training, data.train_size)
    batch = min(training.step_size, data.train_size)
    examples = steps * batch * count
    held = subsets.held_out(facts.pool or 2 * data.train_size, data.validation)
    looked_at = (data.train_size + held + facts.test) * count
    evaluated = len(evaluation_steps(training, data.train_size)) * looked_at
    # 2 operations per weight forward, 4 backward; recurrent and convolutional weights are reused.
    flops = 2.0 * network.parameters * network.reuse * (3 * examples + evaluated)
    device_stack = configuration.replicas.stack
    stack = network.stack(count, on_gpu) if device_stack == "auto" else min(device_stack, count)
    width = max(configuration.model.width, math.prod(facts.shape), facts.outputs)
    activations = (
        stack * batch * width * (configuration.model.depth + 2) * max(1, network.reuse // 4)
    )
    # Which examples each replica trains on, and this epoch's order of them: two int64 a replica.
    indices = 4 * count * data.train_size
    memory = 4.0 * (5 * count * network.parameters + 3 * activations + indices)
    return Load(
        configuration,
        facts,
        network.parameters,
        steps,
        examples,
        flops,
        2.0 * network.parameters * network.reuse * 3 * examples,
        memory,
        1 if network.how.way == "plain" else stack,
        network.how,
        network.together,
    )


@dataclass(frozen=True)
class _Network:
    family: str
    image: bool
    parameters: int
    reuse: int  # how often a weight is used for one example
    how: Way
    together: bool

    def stack(self, count: int, on_gpu: bool) -> int:
        import torch

        from engram.models.cohort import default_stack

        device = torch.device("cuda" if on_gpu else "cpu")
        return default_stack(self.family, device, count, self.image)


@functools.cache
def _network(model: str, training: str, data: str, facts: Facts) -> _Network:
    """Builds a network of a configuration to count its weights, and rehearses a person's own."""
    import torch

    from engram.models import optimizers, ways
    from engram.models.config import ModelConfig, TrainingConfig
    from engram.models.family import build
    from engram.sweeps.study.trying import case, examples

    config = ModelConfig.model_validate_json(model)
    recipe = TrainingConfig.model_validate_json(training)
    image = facts.kind == "image"
    if not families.is_own(config.family) and config.start is None:
        how = ways.of_house(config)
    else:
        source = DataConfig.model_validate_json(data)
        kind = case(config, recipe, source, examples(source))
        if len(_REHEARSED | {kind.kind}) <= MOST_REHEARSED:
            _REHEARSED.add(kind.kind)
            how = ways.way(kind)
        else:
            how = LATER
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(config, facts.shape, facts.outputs, image, facts.tokens)
    count = sum(parameter.numel() for parameter in module.parameters())
    reuse = int(families.uses(config.family, facts.shape))
    stacks = [torch.stack([p.detach()] * 3) for p in module.parameters() if p.requires_grad]
    together = how.way != "plain" and optimizers.together(recipe, stacks)
    return _Network(config.family, image, count, reuse, how, together)


def _measured(loads: tuple[Load, ...], where: Where) -> tuple[float, ...]:
    """Seconds of each load, scaled from measured steps of the costliest load of each kind of network."""
    costliest: dict[tuple, Load] = {}
    for load in sorted(loads, key=lambda load: load.arithmetic_s):
        if load.learner is None:
            costliest[_kind(load)] = load  # the costliest remains
    if not costliest:
        return (0.0,) * len(loads)
    factors: dict[tuple, float] = {}
    for kind, load in itertools.islice(costliest.items(), MOST_PROBED):
        factors[kind] = _measured_s(load, where) / load.arithmetic_s
    typical = sum(factors.values()) / len(factors)
    return tuple(load.arithmetic_s * factors.get(_kind(load), typical) for load in loads)


def _kind(load: Load) -> tuple:
    return load.configuration.model.family, load.configuration.training.optimizer


def _measured_s(load: Load, where: Where) -> float:
    """Training and evaluation of one trial: timed steps, and evaluations in proportion to their operations."""
    step_s = speed.step_s(load.configuration, load.facts, load.stack, load.how, where)
    return load.steps * step_s * load.flops / load.training_flops


def _pool(study: Study, load: Load) -> tuple[int, int]:
    """(pool, examples held out of it) for a configuration, as a run would have it."""
    data = load.configuration.data
    pool = data.pool_size or load.facts.pool
    if pool is None:
        largest = study.largest("data.train_size")
        assert isinstance(largest, int)
        pool = subsets.pool_needed(largest, data.validation, study.replicas)
    return pool, subsets.sizes(data, study.replicas.seed, load.facts, pool)[1]


def _slots(study: Study, where: Where, bytes_of_trial: float) -> int:
    """Workers that the CPUs and GPUs here hold at once: a trial takes one or several."""
    resources = study.resources
    fit = max(1, int((os.cpu_count() or 1) / resources.cpu))
    if where == "gpu":
        return min(fit, _on_gpus(resources.gpu, bytes_of_trial))
    if where == "model" and resources.gpu != "auto":
        return min(fit, max(1, int(1 / resources.gpu)))  # of one
    return fit


def _on_gpus(share: float | Literal["auto"], bytes_of_trial: float) -> int:
    """Trials that the GPUs of this machine take at once."""
    import torch

    from engram.models import memory

    total = min(
        torch.cuda.get_device_properties(index).total_memory
        for index in range(torch.cuda.device_count())
    )
    each = memory.trials_on(total, bytes_of_trial) if share == "auto" else int(1 / share + 1e-6)
    return max(1, torch.cuda.device_count() * each)
