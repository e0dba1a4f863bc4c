"""What a dataset is: its arrays, its facts, its digest, and the error every unusable one ends in.

Knows nothing of files, names or subsets.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from engram.data.members import Member, Members

Task = Literal["classification", "ordinal", "multilabel", "regression"]
Kind = Literal["vector", "sequence", "image", "tokens", "several"]
KINDS: tuple[Kind, ...] = ("vector", "sequence", "image", "tokens")  # of one input


class DataError(ValueError):
    """A dataset or draw that cannot be used: the key at fault, its value, the rule and the fix."""

    def __init__(self, key: str, value: Any, rule: str, fix: str) -> None:
        super().__init__(f"{key} = {value}: {rule}\n    {fix}")
        self.key, self.value, self.rule, self.fix = key, value, rule, fix

    def __reduce__(self) -> tuple[Any, ...]:  # four arguments, so the default pickling fails
        return type(self), (self.key, self.value, self.rule, self.fix)


@dataclass(frozen=True)
class Division:
    """What keeps examples of the pool together or apart, one value an example; None: nothing does.

    groups: int64 [n], examples of one group are never on two sides of a split.
    times: int64 [n] ranks; validation is later than what is trained on.
    validation: bool [n], the examples that the person's own split validates on.
    strata: int64 [n], classes whose shares every split and subset keeps, since one of them is rare.
    """

    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    validation: np.ndarray | None = None
    strata: np.ndarray | None = None

    def first(self, count: int) -> Division:
        """That of the first `count` examples."""
        names = ("groups", "times", "validation", "strata")
        values = {name: getattr(self, name) for name in names}
        return Division(**{k: None if v is None else v[:count] for k, v in values.items()})


@dataclass(frozen=True)
class Tokens:
    """What inputs that are whole numbers stand for.

    words: the text of each number; number 0 is whatever the pool does not have. every_step: targets are tokens
    too, one at each position. padded: some examples are shorter than others, and have -1 after their end.
    """

    words: tuple[str, ...]
    every_step: bool = False
    padded: bool = False


class Answered:
    """What an example is to be answered with; the same of facts and of data."""

    classes: int | None
    tokens: Tokens | None
    ordinal: bool

    @property
    def labels(self) -> int | None:
        """How many labels there are, where an example may have any number of them."""
        raise NotImplementedError

    @property
    def task(self) -> Task:
        """One class an example (ordinal: classes stand in their order), any number of labels, or values."""
        if self.classes is not None:
            return "ordinal" if self.ordinal else "classification"
        return "regression" if self.labels is None else "multilabel"

    @property
    def every_step(self) -> bool:
        """Whether an example has a target at each of its positions."""
        return self.tokens is not None and self.tokens.every_step


@dataclass(frozen=True)
class Facts(Answered):
    """Sizes and kinds, known before any training. `pool` None: as many examples as wanted.

    notes: what was decided while reading, a sentence each. division, tokens: as the Dataset has them. labels: how many
    an example may have, where it may have any number of them. values: targets of an example, where they are no classes.
    """

    pool: int | None
    test: int
    shape: tuple[int, ...]
    classes: int | None
    kind: Kind
    generated: bool
    notes: tuple[str, ...] = field(default=(), compare=False)
    division: Division | None = field(default=None, compare=False, repr=False)
    tokens: Tokens | None = field(default=None, repr=False)
    labels: int | None = None
    values: int = 1
    ordinal: bool = False

    @property
    def outputs(self) -> int:
        """Numbers that a network answers an example (of tokens: each position) with."""
        return self.classes or self.values

    @property
    def answers(self) -> int:
        """Targets of one example that are counted one by one: its positions, or 1."""
        return math.prod(self.shape) if self.every_step else 1

    @property
    def bytes_each(self) -> int:
        """Memory of one example: inputs of 4 bytes (tokens: 8), classes of 8, values of 4, labels of 1."""
        inputs = (4 if self.tokens is None else 8) * math.prod(self.shape)
        targets = 8 * self.answers if self.classes else (1 if self.labels else 4) * self.values
        return inputs + targets


@dataclass(frozen=True)
class Dataset(Answered):
    """A pool, out of which subsets are drawn, and a test set, which nothing is chosen on.

    inputs: float32 [n, features] vectors, [n, T] sequences, [n, H, W] or [n, C, H, W] images; int64 [n, T] tokens.
    targets: int64 [n] labels in 0..classes-1, or float32 [n] or [n, K] values (classes is None), or
    bool [n, L], which of L labels an example has (classes is None); int64 [n, T], where
    each position has one (tokens.every_step).
    digest: sha256 (hex) of the dtype, shape and bytes of the four arrays in order.
    unit: mean and standard deviation by which the targets were standardized; None where they were not.
    ids, test_ids: [n] the person's own name of each example, int64 or text: the values of an index
    column, the path of a picture, otherwise its position (from 0) in what was given.
    class_names: the person's own name of each class; value_names: of each of several values or labels, where
    they have names; notes: what was decided while reading.
    division: what keeps examples together or apart. tokens: what inputs that are whole numbers stand for.
    ordinal: whether labels are ranks, from the lowest class to the highest.
    members: what stands where in a row of several inputs; None where an example is one array.
    test_groups: int64 [n], which test examples are of one group; None where none are, or it is not known.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray
    classes: int | None
    kind: Kind
    digest: str
    generated: bool = False
    unit: tuple[np.ndarray, np.ndarray] | None = None
    ids: np.ndarray = field(default=None)  # type: ignore[arg-type]  # positions, where not given
    test_ids: np.ndarray = field(default=None)  # type: ignore[arg-type]
    class_names: tuple[str, ...] | None = None
    value_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    division: Division | None = None
    tokens: Tokens | None = None
    test_groups: np.ndarray | None = None
    ordinal: bool = False
    members: tuple[Member, ...] | None = None

    def __post_init__(self) -> None:
        for name, examples in (("ids", self.targets), ("test_ids", self.test_targets)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.arange(len(examples)))

    def in_own_unit(self, values: np.ndarray) -> np.ndarray:
        """Targets, or predictions [..., N] or [..., N, K] of them, in the unit that the person gave."""
        if self.unit is None:
            return values
        mean, scale = self.unit
        return values * scale + mean

    def without_pool(self) -> Dataset:
        """What remains to be said and shown of it once the pool is elsewhere: no example of it is held.

        The ids of a person's own data stay; those of generated examples are positions.
        """
        ids = np.arange(0) if self.generated else self.ids
        return replace(
            self, inputs=self.inputs[:0].copy(), targets=self.targets[:0].copy(), ids=ids
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example; of several inputs it knows them all."""
        return self.inputs.shape[1:] if self.members is None else Members(self.members)

    @property
    def facts(self) -> Facts:
        return Facts(
            None if self.generated else len(self.inputs),
            len(self.test_inputs),
            self.shape,
            self.classes,
            self.kind,
            self.generated,
            self.notes,
            self.division,
            self.tokens,
            self.labels,
            1 if self.classes else self.outputs,
            self.ordinal,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as a person writes them; none of values."""
        return self.class_names or tuple(map(str, range(self.classes or 0)))

    @property
    def outputs(self) -> int:
        """Classes, labels or values: what a network answers an example with."""
        return self.classes or int(np.prod(self.targets.shape[1:], dtype=int))

    @property
    def labels(self) -> int | None:
        return int(self.targets.shape[1]) if self.targets.dtype == np.bool_ else None


def digest(arrays: Sequence[np.ndarray]) -> str:
    """sha256 (hex) over dtype, shape and bytes of each array in order."""
    total = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.data.cast("B") if array.size else b"")
    return total.hexdigest()


def assemble(
    name: str,
    pool: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    classes: int | None,
    kind: Kind,
    generated: bool = False,
) -> Dataset:
    """A Dataset of arrays already checked: cast to the house's types, with its digest."""
    dtype: type[Any] = np.float32 if classes is None else np.int64
    if classes is None and pool[1].dtype == np.bool_:
        dtype = np.bool_
    read = np.int64 if kind == "tokens" else np.float32
    arrays = (
        np.ascontiguousarray(pool[0], read),
        np.ascontiguousarray(pool[1], dtype),
        np.ascontiguousarray(test[0], read),
        np.ascontiguousarray(test[1], dtype),
    )
    return Dataset(name, *arrays, classes, kind, digest(arrays), generated)
