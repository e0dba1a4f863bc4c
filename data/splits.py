"""Which rows become the test set, where a dataset has none of its own, and what splits must respect.

One fixed order of the rows for everybody, whatever the seed of the study: a sixth of it is the test
set. Where the study names groups, a time, or a class is rare, the order gives way to them.
"""

from __future__ import annotations

import math

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError, Division

_ORDER_SEED, _POOL_ORDER, _TEST_ORDER, _GROUPS, _STRATA = 20210, 0, 1, 2, 3


def order(rows: int, test: bool = False) -> np.ndarray:
    """The fixed order of a pool's rows, or of a test set's: int64 [rows]."""
    return _generator(_TEST_ORDER if test else _POOL_ORDER).permutation(rows)


def choose_test(
    rows: int,
    config: DataConfig,
    *,
    labels: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    times: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(pool, test, notes): row numbers in the fixed order, and what was respected.

    groups: whole groups become the test set. times: the latest rows do. labels: where the fixed
    order would leave a class out of the pool or the test set, its shares are kept instead.
    """
    count = _test_count(rows, config)
    mixed = order(rows)
    if groups is not None:
        return _by_group(mixed, groups, count, config)
    if times is not None:
        return _by_time(mixed, times, count, config)
    test, pool = mixed[:count], mixed[count:]
    if labels is not None and _leaves_out(labels, pool, test):
        mixed = stratified(np.arange(rows), labels, _generator(_STRATA))
        test, pool = mixed[:count], mixed[count:]
        note = "the test set keeps the share of each class, since one is rare (stratified)"
        return pool, test, [note]
    return pool, test, []


def stratified(ids: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A random order of `ids` in which every prefix has each class in proportion, give or take one.

    labels [len(ids)]. The i-th of the n members of a class, in random order, stands at (i + u) / n
    of the whole, u uniform and the class's own.
    """
    place = np.empty(len(ids))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return ids[np.argsort(place, kind="stable")]


def division(
    labels: np.ndarray | None,
    groups: np.ndarray | None,
    times: np.ndarray | None,
    validation: np.ndarray | None,
) -> Division | None:
    """What the splits of a pool must respect; classes only where one is rare, and alone."""
    if groups is None and times is None and validation is None:
        if labels is None or not rare(labels):
            return None
        return Division(strata=labels.astype(np.int64))
    coded = None if groups is None else np.unique(groups, return_inverse=True)[1]
    ranks = None if times is None else np.unique(times, return_inverse=True)[1]
    return Division(coded, ranks, validation)


def rare(labels: np.ndarray) -> bool:
    """Whether a class has less than half of an equal share of the examples."""
    counts = np.unique(labels, return_counts=True)[1]
    return bool(counts.min() < len(labels) / (2 * len(counts)))


def refuse_shared(
    key: str, name: str, pool: np.ndarray, test: np.ndarray, parts: str = "pool and test set"
) -> None:
    """Refuse a split of the person's own that has a group on both sides."""
    shared = np.intersect1d(pool, test)
    if len(shared):
        shown = ", ".join(map(str, shared[:3])) + (", ..." if len(shared) > 3 else "")
        raise DataError(
            key,
            name,
            f"{len(shared)} groups are in both {parts}: {shown}",
            "give each group to one side, or leave the split to data.groups alone",
        )


def _by_group(
    mixed: np.ndarray, groups: np.ndarray, count: int, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    names, coded, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 3:
        raise DataError(
            "data.groups",
            config.groups,
            f"has {len(names)} groups; pool, validation and test need one each",
            "name a column with three groups or more, or none",
        )
    asked = config.test_size is not None
    chosen = whole_groups(sizes, count, _generator(_GROUPS), reach=asked)
    inside = np.isin(coded[mixed], chosen)
    test, pool = mixed[inside], mixed[~inside]
    if asked and len(test) < count:
        rule = f"a group of {config.groups} has to stay in the pool, which leaves {len(test):,} rows at most"
        raise DataError("data.test_size", count, rule, f"write at most {len(test)}")
    note = (
        f"test: {len(chosen)} of the {len(names)} groups of {config.groups}, "
        f"{min(len(test), count) if asked else len(test):,} of "
        f"{len(mixed):,} rows; no group is on both sides"
    )
    return pool, test, [note]


def whole_groups(
    sizes: np.ndarray, count: int, generator: np.random.Generator, reach: bool = False
) -> np.ndarray:
    """Numbers of groups drawn at random whose sizes come nearest to `count`: one at least, not all.

    More examples asked for draw the same groups and more. reach: one group more where these are too few.
    """
    drawn = generator.permutation(len(sizes))
    total = np.cumsum(sizes[drawn])[:-1]  # [groups - 1]: one group remains
    last = int(np.abs(total - count).argmin())
    if reach and total[last] < count:
        last = min(last + 1, len(total) - 1)
    return drawn[: last + 1]


def _by_time(
    mixed: np.ndarray, times: np.ndarray, count: int, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    first = np.sort(times)[len(times) - count]
    later = times >= first  # rows of one time stay together
    if later.all():
        raise DataError(
            "data.order",
            config.order,
            f"{int(later.sum())} rows share its latest value, {first}; none is before them",
            "name a column that orders the rows",
        )
    test, pool = mixed[later[mixed]], mixed[~later[mixed]]
    note = f"test: the latest {len(test):,} rows, {config.order} from {first} on"
    return pool, test, [note]


def _leaves_out(labels: np.ndarray, pool: np.ndarray, test: np.ndarray) -> bool:
    """Whether a class is in the test set alone, or not in it though it has rows enough."""
    size = int(labels.max()) + 1
    in_pool = np.bincount(labels[pool], minlength=size)
    in_test = np.bincount(labels[test], minlength=size)
    whole = in_pool + in_test
    expected = whole * len(test) / len(labels)
    return bool(((in_pool == 0) & (whole > 0)).any() or ((in_test == 0) & (expected >= 1)).any())


def _test_count(rows: int, config: DataConfig) -> int:
    count = config.test_size or max(1, math.floor(rows / 6 + 0.5))
    if rows - count < 2:
        raise DataError(
            "data.test_size",
            count,
            f"{config.name} has {rows} rows and no test set of its own; this leaves no pool",
            f"write at most {rows - 2}" if rows > 2 else "give a file with more rows",
        )
    return count


def _generator(number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([_ORDER_SEED, number]))
