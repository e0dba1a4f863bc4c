"""The sections of a study that say how to search, run and record, and the two kinds of sweep axis.

The sections that shape a network (data, replicas, model, training) live with the code they shape.
Light: imports no numerics.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from engram.data.config import DataConfig, ReplicasConfig
from engram.models.config import ModelConfig, TrainingConfig

Scalar = bool | int | float | str | None
Direction = Literal["min", "max"]


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Values(Section):
    """A sweep axis that lists its values."""

    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        return ", ".join("null" if value is None else str(value) for value in self.values)


class Range(Section):
    """A sweep axis that is drawn from a distribution between two bounds, both included."""

    distribution: Literal["uniform", "loguniform", "int", "logint"]
    low: int | float
    high: int | float

    @property
    def log(self) -> bool:
        return self.distribution.startswith("log")

    @property
    def whole(self) -> bool:
        return self.distribution.endswith("int")

    def __str__(self) -> str:
        return f"{self.distribution} in [{self.low:g}, {self.high:g}]"


Axis = Values | Range


class SearchConfig(Section):
    """How configurations are proposed."""

    sampler: Literal["grid", "random", "tpe", "gp", "cmaes", "nsga2"] = Field(
        "grid",
        description="grid (every combination of the listed values), random, tpe, gp, cmaes or nsga2",
    )
    trials: StrictInt | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="trials to run; null: all of a grid, else as many as the budget allows, or 50 where there is no budget",
    )
    objective: dict[str, Direction] = Field(
        default={"validation_error": "min"},
        description="what is selected by, as measure: min or max; several make a Pareto front. "
        "Measured without the test set: any measure that docs/measures.md marks so, or a function of measures.own",
    )
    seed: StrictInt = Field(0, ge=0, lt=2**31, description="seed of the sampler")


class SchedulerConfig(Section):
    """Whether weak trials are stopped early."""

    name: Literal["fifo", "asha", "median"] = Field(
        "fifo",
        description="fifo (none is stopped), asha (successive halving) or median (worse than the median)",
    )
    time: Literal["epoch"] = Field("epoch", description="the clock by which trials are compared")
    grace: StrictInt = Field(
        1, ge=1, description="epochs every trial gets before it may be stopped"
    )
    reduction_factor: StrictInt = Field(
        3, ge=2, le=100, description="asha keeps one in this many at each rung"
    )


class ResourcesConfig(Section):
    """What one trial occupies, and how many run at once."""

    cpu: float = Field(
        1.0,
        gt=0,
        le=4096,
        description="CPUs of one trial, or of each of its workers; fractions allowed",
    )
    gpu: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        "auto",
        description="GPUs of one trial: auto (where there are GPUs, as many trials on each as its memory holds), "
        "0 (the CPU), or a share; 0.25 puts four trials on one GPU",
    )
    concurrent: Literal["auto"] | StrictInt = Field(
        "auto", description="trials at the same time: auto (as many as fit), or a number"
    )
    workers: Literal["auto"] | StrictInt = Field(
        1,
        description="processes that share the replicas of a trial, each with the CPUs and GPUs above: a number, or auto "
        "(where trials are fewer than have room and replicas are many, those that would stand idle). A replica is the same network with any number",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: a GPU where resources.gpu gives one, else the CPU"
    )
    deterministic: StrictBool = Field(
        False,
        description="let torch use deterministic algorithms alone: slower on a GPU, and a trial fails where an operation "
        "has none. cuDNN's are deterministic in any case",
    )


class BudgetConfig(Section):
    """When to stop although there is more to try. null: no limit."""

    hours: float | None = Field(
        None, gt=0, le=1e5, description="wall-clock hours, resumed time included"
    )
    trials: StrictInt | None = Field(None, ge=1, description="trials finished")
    gpu_hours: float | None = Field(None, gt=0, le=1e7, description="hours times GPUs in use")


class FaultsConfig(Section):
    """What happens when a trial fails, hangs, or loses its worker."""

    retries: StrictInt = Field(
        3,
        ge=0,
        le=1000,
        description="further attempts, from the last checkpoint, for a trial that raised, hung or lost its worker; getting further than before counts anew",
    )
    time_limit_s: float | None = Field(
        None,
        gt=0,
        le=1e8,
        description="seconds that one attempt of a trial may take before it is ended; null: no limit",
    )
    on_failure: Literal["continue", "stop"] = Field(
        "continue",
        description="after the last attempt of a trial: continue with the others, or stop the study",
    )
    retry_failed: StrictBool = Field(
        False,
        description="train trials that failed again when the study is run again",
    )


class CheckpointConfig(Section):
    """How often running trials are saved, and how much of that is kept."""

    every_s: float = Field(
        30.0,
        gt=0,
        le=1e6,
        description="seconds between two checkpoints of a running trial; only longer trials have any",
    )
    keep: StrictInt = Field(
        2,
        ge=1,
        le=100,
        description="checkpoints kept of each running trial; none is kept of a finished one but its final weights",
    )
    max_mb: float = Field(
        512.0,
        ge=0,
        le=1e6,
        description="largest checkpoint in MiB; a trial with a larger one starts over after an interruption, 0: all do",
    )
    final: StrictBool = Field(
        True,
        description="keep the final weights of each trial, so that replicas can be added to it later",
    )


class TrackingConfig(Section):
    """Where results are recorded."""

    uri: str | None = Field(
        None, description="MLflow tracking URI; null: the embedded store under the state folder"
    )
    experiment: str | None = Field(None, description="MLflow experiment; null: the study's name")
    model: StrictBool = Field(
        True,
        description="log the best trial's median replica as an MLflow model; needs checkpoint.final",
    )
    register_as: str | None = Field(
        None,
        min_length=1,
        description="name in MLflow's model registry for that model, as NAME or NAME@ALIAS (alias best); null: not registered",
    )
    system_metrics: StrictBool = Field(
        False, description="record how busy this machine is while the study runs"
    )


class NightlyConfig(Section):
    """When the study runs by night, and who hears of it."""

    cron: str = Field("0 2 * * *", description="minute, hour, day of month, month, day of week")
    timezone: str = Field("UTC", description="time zone of cron, as in Europe/Berlin")
    missed: Literal["once", "skip"] = Field(
        "once",
        description="nights that nobody was there to start: once (the latest is caught up) or skip",
    )
    deadline: str | None = Field(
        None,
        description="time of day in that zone by which the night has ended, as in 07:00; null: none",
    )
    priority: StrictInt = Field(
        0, ge=-1000, le=1000, description="of several studies that are due, the higher goes first"
    )
    baseline: StrictInt = Field(
        7, ge=2, le=365, description="earlier nights that a night is compared with"
    )
    margin: float = Field(
        0.01,
        ge=0,
        le=1e6,
        description="a change of a measure for the worse up to this, in its own unit, is no regression",
    )
    keep: StrictInt = Field(
        30,
        ge=1,
        le=100_000,
        description="nights kept whole; of older ones the summary stays, here and in MLflow",
    )
    notify: str | None = Field(
        None,
        description="who hears of it: a tag of the addresses in ENGRAM_NOTIFY or ENGRAM_NOTIFY_FILE, or all; null: nobody",
    )
    notify_on: Literal["regression", "failure", "problems", "always"] = Field(
        "problems",
        description="what is worth a message: a regression, a failure, problems (both), or always",
    )


class ClaimConfig(Section):
    """The sentence that the study puts to the test."""

    sentence: str | None = Field(None, description="the claim, word for word")
    article: str | None = Field(
        None, description="what its source reports: numbers or a table, as text"
    )
    expects: str | None = Field(
        None, description="what the study should show where the claim holds"
    )
    measure: str | None = Field(None, description="the measure that decides, said before the run")
    comparison: str | None = Field(
        None, description="what is compared with what, and how, said before the run"
    )
    margin: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description='the difference of an error that counts as none, for "at no cost" and "no effect"; null: 2 % of chance error',
    )
    refuted_by: str | None = Field(
        None, description="what would refute the claim, said before the run"
    )
    datasets: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="further datasets that the claim is put to: by label, the values that differ there, by dotted key",
    )
    small: dict[str, Any] = Field(
        default_factory=dict,
        description="values that --small puts in, by dotted key as in --set: the same study in seconds, for tests",
    )


CASES, BEFORE = "cases", "before"  # in asks.of: the cases as wholes; in asks.against


def several(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """One name, several, or none, as several."""
    return (value,) if isinstance(value, str) else value or ()


class AsksConfig(Section):
    """What the study asks: a measure, the swept keys that may move it, and which way is hoped for."""

    measure: str | tuple[str, ...] | None = Field(
        None,
        description="the measure, or several, the first the most wanted; null: what the search selects by",
    )
    of: str | tuple[str, ...] | None = Field(
        None,
        description="swept keys, each asked by itself: does it move the measure? cases: the cases as wholes; "
        "null: every swept key, or none where `against` is given",
    )
    expects: Literal["lower", "higher", "differ", "same", "best"] | None = Field(
        None,
        description="what yes means: lower, higher, differ, same (within the margin), or best, where the best "
        "configuration is the answer; null: the better way for numbers, differ for names",
    )
    against: float | str | tuple[float | None, ...] | dict[str, Any] | None = Field(
        None,
        description="what each trial is held against: a number, another measure, a list with a number (or null) "
        "for each trial in the order of the grid, a mapping that gives each measure its own, or before (the "
        "execution before this one)",
    )
    tuned: str | tuple[str, ...] | None = Field(
        None,
        description="swept keys that are set to their best, by what selects, for each value that is compared",
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="a change below it counts as none; null: 2 % of chance for errors, else a tenth of the measure "
        "where the comparison starts",
    )

    @property
    def held_against(self) -> dict[str, Any]:
        """What trials are held against, by measure."""
        if isinstance(self.against, dict):
            return self.against
        if self.against is None or self.against == BEFORE:
            return {}
        return dict.fromkeys(several(self.measure), self.against)


class MeasuresConfig(Section):
    """Which measures are taken besides the errors, the gap, bias and variance."""

    forgetting: StrictBool = Field(
        False, description="examples learned and lost again while training"
    )
    flatness: StrictBool = Field(
        False,
        description="norm of the weights, their distance from the start, and how much the train loss rises around them",
    )
    layers: StrictBool = Field(
        False,
        description="accuracy lost when one layer is set back to its start or drawn anew, on clean and on wrong labels",
    )
    retention: StrictBool = Field(
        False,
        description="accuracy kept after training on a second task, alone and with the first among it; takes four times as long",
    )
    convergence_error: float | None = Field(
        None,
        ge=0,
        description="train error that ends the count of epochs to convergence; null: nine tenths of the way down each run's own loss, which cannot be compared between learning rates",
    )
    memorization: StrictBool = Field(
        True, description="per example: accuracy when trained on it minus when not"
    )
    membership: StrictBool = Field(
        True, description="how well an attacker tells members from others (LiRA)"
    )
    predictions: StrictBool = Field(
        True, description="keep every replica's predictions among the artifacts"
    )
    arrays_kb: StrictInt | None = Field(
        None,
        ge=1,
        description="kilobytes of arrays (curves, values per example, predictions) kept of each trial, the smallest first; what is left out stands in its record; null: 30 in a study of more than 1,000 trials, else all",
    )
    own: tuple[str, ...] = Field(
        (),
        description="further measures of the predictions: names that docs/measures.md has under metrics, or package.module:function(predictions, targets) of your own",
    )


SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "replicas": ReplicasConfig,
    "search": SearchConfig,
    "scheduler": SchedulerConfig,
    "resources": ResourcesConfig,
    "budget": BudgetConfig,
    "faults": FaultsConfig,
    "checkpoint": CheckpointConfig,
    "tracking": TrackingConfig,
    "nightly": NightlyConfig,
    "claim": ClaimConfig,
    "asks": AsksConfig,
    "measures": MeasuresConfig,
}
SWEPT_SECTIONS = ("data", "model", "training")

# The four that must feel effortless have short names, in sweeps and in --set.
ALIASES = {
    "dropout": "model.dropout",
    "lr": "training.lr",
    "learning_rate": "training.lr",
    "weight_decay": "training.weight_decay",
    "train_size": "data.train_size",
    "dataset_size": "data.train_size",
}
