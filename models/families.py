"""The families of networks that come with the project: one row each, from which everything else is made.

A new family is a row here and the module that builds it. Light: a builder imports torch when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]


class ModelError(ValueError):
    """A model that cannot be built or trained: the message states the value and the rule."""


@dataclass(frozen=True)
class Family:
    """One family. build: (shape of an example, outputs, image, options) -> a fresh network.

    least_depth: hidden layers that it needs; uses: about how often one example uses a weight;
    one_by_one: whether a CPU trains its replicas faster one by one, given that the inputs are images;
    short: other names that people write for it; options: further arguments, those of model.options;
    tokens: whether it reads whole numbers, as the options vocabulary, every_step and padded say;
    alone(options): why replicas with these cannot be stacked, None where they can;
    over_time: it takes its steps in time one after another.
    """

    about: str
    build: Callable[[Shape, int, bool, dict[str, Any]], Any]
    least_depth: int
    uses: Callable[[Shape], float]
    one_by_one: Callable[[bool], bool] = lambda image: False
    short: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    alone: Callable[[dict[str, Any]], str | None] = lambda options: None
    over_time: bool = False
    tokens: bool = False


def _feedforward(shape: Shape, outputs: int, image: bool, options: dict[str, Any]) -> Any:
    from engram.models.feedforward import Feedforward

    return Feedforward(shape, outputs, **options)


def _convolutional(shape: Shape, outputs: int, image: bool, options: dict[str, Any]) -> Any:
    from engram.models.convolutional import Convolutional

    return Convolutional(shape, outputs, image=image, **options)


def _recurrent(cell: str) -> Callable[[Shape, int, bool, dict[str, Any]], Any]:
    def build(shape: Shape, outputs: int, image: bool, options: dict[str, Any]) -> Any:
        from engram.models.recurrent import Recurrent

        return Recurrent(cell, shape, outputs, **options)

    return build


def _residual(shape: Shape, outputs: int, image: bool, options: dict[str, Any]) -> Any:
    from engram.models.residual import Residual

    return Residual(shape, outputs, image=image, **options)


def _batch_statistics(options: dict[str, Any]) -> str | None:
    batch = options.get("norm") == "batch"
    return "batch statistics are those of one network's batch" if batch else None


def _transformer(shape: Shape, outputs: int, image: bool, options: dict[str, Any]) -> Any:
    from engram.models.transformer import Transformer

    return Transformer(shape, outputs, image=image, **options)


def _once(shape: Shape) -> float:
    return 1.0


def _time_steps(shape: Shape) -> float:
    return float(shape[0])


def _positions(shape: Shape) -> float:
    return max(1.0, math.prod(shape[-2:]) / 3)


# On a CPU torch's fused kernels win in an LSTM and in convolutions of images: benchmarks/training.py measures it.
TABLE: dict[str, Family] = {
    "feedforward": Family(
        "fully connected layers", _feedforward, 0, _once, short=("mlp", "dense", "linear")
    ),
    "convolutional": Family(
        "convolutions over a sequence or an image",
        _convolutional,
        1,
        _positions,
        lambda image: image,
        short=("cnn", "conv"),
    ),
    "residual": Family(
        "residual blocks of convolutions over a sequence or an image",
        _residual,
        1,
        _positions,
        lambda image: image,
        short=("resnet",),
        options=("norm", "stages"),
        alone=_batch_statistics,
    ),
    "transformer": Family(
        "attention over tokens, patches of an image or time steps",
        _transformer,
        1,
        lambda shape: _positions(shape) if len(shape) > 1 else _time_steps(shape),
        short=("attention", "vit"),
        options=("heads", "patch", "vocabulary", "causal"),
        tokens=True,
    ),
    "rnn": Family(
        "plain recurrent cells",
        _recurrent("rnn"),
        1,
        _time_steps,
        options=("vocabulary",),
        over_time=True,
        tokens=True,
    ),
    "gru": Family(
        "gated recurrent units",
        _recurrent("gru"),
        1,
        _time_steps,
        options=("vocabulary",),
        over_time=True,
        tokens=True,
    ),
    "lstm": Family(
        "long short-term memory",
        _recurrent("lstm"),
        1,
        _time_steps,
        lambda image: True,
        options=("vocabulary",),
        over_time=True,
        tokens=True,
    ),
}


BY_TOKENS = ("vocabulary", "every_step", "padded")  # options that tokens set


@dataclass(frozen=True)
class Way:
    """How a kind of network runs: "stacked" (the house's), "vmapped" or "plain", and why where it is plain.

    notes: what a person is to know of it, such as what begins fresh or is not trained."""

    way: str
    reason: str | None = None
    notes: tuple[str, ...] = ()


def is_own(name: str) -> bool:
    """Whether a family is a person's own, package.module:thing."""
    return ":" in name


def family(name: str) -> Family:
    """The row of a family; ModelError for a name that the table does not have."""
    try:
        return TABLE[name]
    except KeyError:
        known = ", ".join(TABLE)
        raise ModelError(
            f"model.family = {name!r} is no known family: {known}, or package.module:Class"
        ) from None


def uses(name: str, shape: Shape) -> float:
    """About how often one example uses a weight: once where a network is a person's own, whose weights may be reused."""
    return 1.0 if is_own(name) else family(name).uses(shape)
