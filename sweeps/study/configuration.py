"""A study and its configurations, as frozen values: what is asked, and what one trial trains.

Built by study.load, which has validated everything. Light: imports no numerics.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from engram.data.config import DataConfig, ReplicasConfig
from engram.measures import catalog
from engram.models.config import ModelConfig, TrainingConfig
from engram.problems import Place
from engram.sweeps.study.request import Request
from engram.sweeps.study.sections import (
    ALIASES,
    SWEPT_SECTIONS,
    AsksConfig,
    Axis,
    BudgetConfig,
    CheckpointConfig,
    ClaimConfig,
    FaultsConfig,
    MeasuresConfig,
    NightlyConfig,
    Range,
    ResourcesConfig,
    Scalar,
    SchedulerConfig,
    SearchConfig,
    TrackingConfig,
    Values,
)

DEFAULT_TRIALS = 50
LARGEST_GRID = 100_000
# Arrays of a study of so many trials would fill disks: of each trial that much is kept.
MANY_TRIALS, ROOM_OF_MANY_KB = 1000, 30
MISSING = object()


# The keys that every hash holds. One that came later is left out where it stands at its default, so that
# trials, models and claims of earlier versions are still recognised. Never add to this list.
FIRST_KEYS = frozenset(
    f"{section}.{key}"
    for section, keys in {
        "data": "augmentation label_noise name pool_size random_labels target task test_size train_size validation",
        "model": "activation depth dropout family width",
        "replicas": "count draw inits seed",
        "training": "batch_size clip early_stopping epochs evaluate_every l1 lr momentum optimizer precision "
        "schedule steps warmup weight_decay",
    }.items()
    for key in keys.split()
)


class Configuration(BaseModel):
    """What one trial trains: every value that determines its result, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    replicas: ReplicasConfig = Field(default_factory=ReplicasConfig)

    def dotted(self) -> dict[str, Scalar]:
        """All values in one flat dict: {"model.dropout": 0.2, "model.options.heads": 4, ...}.

        Of a person's own class, without the keys of `model` that the study leaves to the class.
        """
        found: dict[str, Scalar] = {}
        for section, values in self.model_dump().items():
            for key, value in values.items():
                if isinstance(value, dict) and key == "options":
                    found |= {f"{section}.{key}.{name}": _flat(own) for name, own in value.items()}
                else:
                    found[f"{section}.{key}"] = _flat(value)
        return found

    @property
    def epochs(self) -> int:
        """Passes over the training set, the last one begun included where `training.steps` counts instead."""
        if self.training.steps is None:
            return self.training.epochs
        per_epoch = math.ceil(self.data.train_size / self.training.step_size)
        return math.ceil(self.training.steps / per_epoch)

    @property
    def hash(self) -> str:
        """Twelve hex digits, the same for the same experiment on any machine and in any session."""
        values = self.dotted()
        del values["replicas.stack"]  # how replicas are executed leaves the result alone
        if isinstance(values["model.start"], str):  # what a file holds counts, not where it lies
            values["model.start"] = values["model.start"].rpartition("@")[2]
        for key in values.keys() - FIRST_KEYS:
            if values[key] == _default(key):
                del values[key]
        text = json.dumps(values, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _default(key: str) -> Any:
    section, _, name = key.partition(".")
    model = Configuration.model_fields[section].annotation
    field = model.model_fields.get(name) if model is not None else None
    return MISSING if field is None else _flat(field.get_default(call_default_factory=True))


def _flat(value: Any) -> Scalar:
    """One value of a flat dict: several are one text, none of several is null."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items()) or None
    if isinstance(value, list | tuple):
        return ", ".join("null" if item is None else str(item) for item in value) or None
    return value


class Study(BaseModel):
    """One question: a base configuration, what to sweep, and how to search."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="letters, digits, dot, dash and underscore, at most 100; names the experiment and its folder"
    )
    question: str = Field("", description="what the study asks, in one sentence")
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    replicas: ReplicasConfig = Field(default_factory=ReplicasConfig)
    sweep: dict[str, Axis] = Field(
        default_factory=dict,
        description="dotted key of data, model or training -> a list of values, or a distribution: "
        "{uniform: [low, high]}, {loguniform: [low, high]}, {int: [low, high]}, {logint: [low, high]}",
    )
    cases: tuple[dict[str, Scalar], ...] = Field(
        (), description="values that go together, one mapping a case; written as sweep.cases"
    )
    search: SearchConfig = Field(default_factory=SearchConfig)
    scheduler: SchedulerConfig = Field(default_factory=SchedulerConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    faults: FaultsConfig = Field(default_factory=FaultsConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    nightly: NightlyConfig = Field(default_factory=NightlyConfig)
    claim: ClaimConfig = Field(default_factory=ClaimConfig)
    asks: AsksConfig = Field(default_factory=AsksConfig)
    measures: MeasuresConfig = Field(default_factory=MeasuresConfig)

    _path: Path | None = PrivateAttr(None)
    _text: str = PrivateAttr("")
    _overrides: tuple[str, ...] = PrivateAttr(())
    _request: Request | None = PrivateAttr(None)
    _places: dict[str, Place] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file it was read from."""
        return self._path

    @property
    def text(self) -> str:
        """The file's text as read, before --set."""
        return self._text

    @property
    def overrides(self) -> tuple[str, ...]:
        """Values put in place of the file's, as --set takes them; those of --small are among them."""
        return self._overrides

    @property
    def request(self) -> Request:
        """What was asked for: the words that ask for the same study again."""
        return self._request or Request(self.name)

    @property
    def selects(self) -> bool:
        """Whether a validation set stands between search and test."""
        return self.data.validation > 0

    @property
    def prunes(self) -> bool:
        """Whether the scheduler may stop a trial before its end."""
        return self.scheduler.name != "fifo"

    @property
    def retained_at_once(self) -> bool:
        """Whether a measure of a replica waits for the others: retention, for as long as early stopping lets all train."""
        stopping = any(patience is not None for patience in self.taken("training.early_stopping"))
        return self.measures.retention and stopping

    @property
    def measured(self) -> MeasuresConfig:
        """What a trial measures: `measures`, metrics that the objective alone names, and what is kept where trials are many."""
        own, room = self.measures.own, self.measures.arrays_kb
        asked = [n for n in self.search.objective if n in catalog.askable() and n not in own]
        if room is None and (self.planned_trials() or 0) > MANY_TRIALS:
            room = ROOM_OF_MANY_KB
        return self.measures.model_copy(update={"own": (*own, *asked), "arrays_kb": room})

    def place(self, key: str, value: object = None) -> Place:
        """Where a key was written, or value in that key's sweep; the study's name where it was not."""
        axis = self.sweep.get(key)
        if isinstance(axis, Values) and value in axis.values:
            item = f"sweep.{key}[{axis.values.index(value)}]"
            if item in self._places:
                return self._places[item]
        for known in (f"sweep.{key}", key, key.partition(".")[0], "name"):
            if known in self._places:
                return self._places[known]
        return Place(str(self._path or self.name))

    def configure(self, params: Mapping[str, Scalar] | None = None) -> Configuration:
        """The configuration of one trial: the base with params (dotted keys or aliases) put in.

        An option that is null in a case is another case's: it is not given."""
        changes: dict[str, dict[str, Scalar]] = {section: {} for section in SWEPT_SECTIONS}
        cased = self.cases[0].keys() if self.cases else ()
        for name, value in (params or {}).items():
            if value is None and name in cased and ".options." in name:
                continue
            section, _, key = ALIASES.get(name, name).partition(".")
            if section not in changes:
                raise ValueError(
                    f"{name} cannot change from trial to trial; only {SWEPT_SECTIONS} can"
                )
            changes[section][key] = value
        sections: dict[str, Any] = {}
        for section, values in changes.items():
            base = getattr(self, section)
            said = {name: getattr(base, name) for name in base.model_fields_set}
            for key, value in values.items():
                name, dot, option = key.partition(".")
                said[name] = {**said.get(name, {}), option: value} if dot else value
            sections[section] = type(base)(**said)
        return Configuration(**sections, replicas=self.replicas)

    def grid(self) -> list[dict[str, Scalar]]:
        """Every case with every combination of the lists; the last key of the sweep varies fastest."""
        ranges = [key for key, axis in self.sweep.items() if isinstance(axis, Range)]
        if ranges:
            raise ValueError(f"{', '.join(ranges)} is drawn from a distribution: there is no grid")
        lists = {key: axis.values for key, axis in self._uncased() if isinstance(axis, Values)}
        return [
            {**case, **dict(zip(lists, chosen, strict=True))}
            for case in self.cases or ({},)
            for chosen in itertools.product(*lists.values())
        ]

    def _uncased(self) -> list[tuple[str, Axis]]:
        """The axes that are combined freely."""
        cased = self.cases[0].keys() if self.cases else ()
        return [(key, axis) for key, axis in self.sweep.items() if key not in cased]

    def combinations(self) -> int | None:
        """How many configurations differ; None where a distribution makes them endless."""
        if any(isinstance(axis, Range) for axis in self.sweep.values()):
            return None
        sizes = [len(axis.values) for _, axis in self._uncased() if isinstance(axis, Values)]
        return math.prod(sizes) * (len(self.cases) or 1)

    def planned_trials(self) -> int | None:
        """Trials to run; None where only the budget's hours end the search."""
        limits = [self.search.trials, self.budget.trials, self.combinations()]
        if self.search.sampler != "grid" and not (
            self.search.trials or self.budget.trials or self.budget.hours or self.budget.gpu_hours
        ):
            limits.append(DEFAULT_TRIALS)
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None

    def largest(self, key: str) -> Scalar:
        """The largest value that a numeric key takes anywhere in the study."""
        axis = self.sweep.get(key)
        if isinstance(axis, Range):
            return axis.high
        if isinstance(axis, Values):
            return max((value for value in axis.values if value is not None), default=None)
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def taken(self, key: str) -> tuple[Scalar, ...]:
        """All values that a key takes in the study; of a distribution, its bounds."""
        axis = self.sweep.get(key)
        if isinstance(axis, Values):
            return axis.values
        if isinstance(axis, Range):
            return (axis.low, axis.high)
        section, _, name = key.partition(".")
        return (getattr(getattr(self, section), name),)


SHORT = {"data.train_size": "n", "training.weight_decay": "wd", "data.label_noise": "noise"}


def weights_file(start: str) -> str:
    """`model.start` for people: the file's name, without its folder and digest. Another word stays as it is."""
    found = re.fullmatch(r"(?:.*/)?([^/]+)@[0-9a-f]{12}", start)
    return found[1] if found else start


def label(params: Mapping[str, Scalar]) -> str:
    """A trial's short name for people: dropout 0.2 · lr 0.01 · n 2000."""
    parts = []
    for name, value in params.items():
        key = ALIASES.get(name, name)
        short = SHORT.get(key, key.rpartition(".")[2])
        if value is None and ".options." in key:
            continue  # left to the class's own default
        if key == "model.start" and isinstance(value, str):
            parts.append(f"{short} {weights_file(value)}")
        elif isinstance(value, str):
            parts.append(value)  # gru, relu: the word says which key it is
        elif value is None or isinstance(value, bool):
            parts.append(f"{short} {'off' if value is None else str(value).lower()}")
        else:
            parts.append(f"{short} {value:.4g}" if isinstance(value, float) else f"{short} {value}")
    return " · ".join(parts) or "base"
