"""Which examples each replica trains on: the validation split, the draws, and what cannot fit.

Works on indices alone; knows nothing of the examples themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engram.data import canaries, splits
from engram.data.config import AUGMENTATION_KINDS, DataConfig, ReplicasConfig
from engram.data.dataset import DataError, Division, Facts

# Each use of the seed has a stream of its own: the number after the seed.
_HOLDOUT, _SUBSET, _BOOTSTRAP, _DISJOINT, _COMPLEMENTARY, _INSIDE = 11, 12, 13, 14, 15, 16


def held_out(pool: int, validation: int | float) -> int:
    """How many of `pool` examples `data.validation` holds out: a count from 1 on, else a share."""
    if not 0 < validation < 1:
        return int(validation)
    return max(1, math.floor(pool * validation + 0.5))


def holdout(
    pool: int, validation: int | float, seed: int, division: Division | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split the pool once per study: ids to draw from int64 [n], validation ids int64 [v], sorted.

    Every id has one uniform, and the v lowest are held out: a larger share holds out the same
    examples and more, whatever the trial. A division changes who is held out: the person's own
    validation rows, whole groups whose number comes nearest to v, the latest v (and all of their
    time), or v with the classes in proportion.
    """
    count = held_out(pool, validation)
    order = np.argsort(_generator(seed, _HOLDOUT).random(pool), kind="stable")
    if division is None or not count:
        return np.sort(order[count:]), np.sort(order[:count])
    held = _divided(order, count, seed, division)
    if held.all() or not held.any():
        raise DataError(
            "data.validation",
            validation,
            f"holds out {int(held.sum())} of {pool} examples of the pool, as it is divided",
            "write less, or another column for data.groups, data.order or data.split",
        )
    return np.flatnonzero(~held), np.flatnonzero(held)


def _divided(order: np.ndarray, count: int, seed: int, division: Division) -> np.ndarray:
    """Whether each example is held out: bool [pool]."""
    pool = len(order)
    if division.validation is not None:
        return division.validation
    if division.groups is not None:
        names, coded, sizes = np.unique(division.groups, return_inverse=True, return_counts=True)
        if len(names) < 2:
            raise DataError(
                "data.validation",
                count,
                "would hold out the only group of the pool",
                "write validation: 0, or name a column with more groups as data.groups",
            )
        return np.isin(coded, splits.whole_groups(sizes, count, _generator(seed, _HOLDOUT)))
    if division.times is not None:
        return division.times >= np.sort(division.times)[pool - min(count, pool)]
    assert division.strata is not None
    order = splits.stratified(np.arange(pool), division.strata, _generator(seed, _HOLDOUT))
    return np.isin(np.arange(pool), order[:count])


def sizes(data: DataConfig, seed: int, facts: Facts, pool: int) -> tuple[int, int]:
    """(examples to draw from, examples held out) of a pool, before any training."""
    if facts.division is None:
        held = held_out(pool, data.validation)
        return pool - held, held
    kept, held_ids = holdout(pool, data.validation, seed, facts.division.first(pool))
    return len(kept), len(held_ids)


def draw(
    ids: np.ndarray, size: int, replicas: ReplicasConfig, division: Division | None = None
) -> np.ndarray:
    """The training examples of every replica: int64 [R, size], values out of `ids`.

    Nested: a smaller size is a prefix of a larger one. Replica r has draw r // inits. A draw of
    subset, bootstrap and complementary depends on (seed, its number, ids) alone; the blocks of
    disjoint and fresh depend also on how many draws share the pool.

    subset         prefix of a permutation of each draw's own
    bootstrap      independent, with replacement
    complementary  draws 2k and 2k+1 take one permutation from its two ends: at size n/2 each
                   example is in exactly half of the replicas
    disjoint       one permutation dealt out like cards: draw d has places d, D+d, 2D+d, ...
    fresh          the same without the permutation (generated examples are exchangeable), so the
                   draw does not depend on the pool's size either

    With groups, whole groups are permuted, picked and dealt, and the last one taken is cut to size.
    With strata, permutations have the classes in proportion in every prefix.
    """
    ids = np.asarray(ids, dtype=np.int64)
    draws = _draws(replicas)
    if size > largest(len(ids), replicas):
        raise _too_large(size, len(ids), replicas)
    if division is not None and division.groups is not None:
        rows = np.stack(_grouped(ids, size, replicas, division.groups[ids]))
        return np.repeat(rows, replicas.inits, axis=0)
    strata = None if division is None or division.strata is None else division.strata[ids]
    if replicas.draw == "disjoint":
        ids = _permuted(ids, _generator(replicas.seed, _DISJOINT), strata)
    if replicas.draw in ("disjoint", "fresh"):
        rows = np.stack([ids[d::draws][:size] for d in range(draws)])
    else:
        one = _ALONE[replicas.draw]
        rows = np.stack([one(ids, size, replicas.seed, d, strata) for d in range(draws)])
    return np.repeat(rows, replicas.inits, axis=0)  # [D, m] -> [R, m]


def _grouped(
    ids: np.ndarray, size: int, replicas: ReplicasConfig, groups: np.ndarray
) -> list[np.ndarray]:
    """One draw after another, [size] each, of whole groups; the last group taken is cut."""
    coded, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    members = np.split(ids[np.argsort(coded, kind="stable")], np.cumsum(counts)[:-1])
    draws, found = _draws(replicas), []
    for d in range(draws):
        chosen = _chosen_groups(len(members), size, replicas, d, int(counts.min()))
        taken, total = [], 0
        for number, group in enumerate(chosen):
            if total >= size:
                break
            # A stream for each pick, so that the rows of a smaller size are a prefix.
            inside = _generator(replicas.seed, _INSIDE, d, number)
            taken.append(inside.permutation(members[group]))
            total += len(taken[-1])
        if total < size:
            raise DataError(
                "data.train_size",
                size,
                f"draw {d + 1} of {draws} disjoint ones has {len(chosen)} of {len(members)} groups "
                f"and {total} examples",
                f"write at most {total}, fewer replicas, or replicas.draw: subset",
            )
        found.append(np.concatenate(taken)[:size])
    return found


def _chosen_groups(
    count: int, size: int, replicas: ReplicasConfig, d: int, smallest: int
) -> np.ndarray:
    """The groups of a draw in the order in which they are taken, more of them than `size` needs."""
    seed = replicas.seed
    if replicas.draw == "bootstrap":
        return _generator(seed, _BOOTSTRAP, d).integers(0, count, -(-size // smallest))
    if replicas.draw == "complementary":
        order = _generator(seed, _COMPLEMENTARY, d // 2).permutation(count)
        return order[::-1] if d % 2 else order
    if replicas.draw == "disjoint":
        return _generator(seed, _DISJOINT).permutation(count)[d :: _draws(replicas)]
    return _generator(seed, _SUBSET, d).permutation(count)


def _permuted(
    ids: np.ndarray, generator: np.random.Generator, strata: np.ndarray | None
) -> np.ndarray:
    if strata is None:
        return generator.permutation(ids)
    return splits.stratified(ids, strata, generator)


def members(draws: np.ndarray, count: int) -> np.ndarray:
    """Whether replica r trains on example i at least once: [R, m] -> bool [R, count]."""
    member = np.zeros((len(draws), count), dtype=bool)
    np.put_along_axis(member, draws, True, axis=1)
    return member


def largest(count: int, replicas: ReplicasConfig) -> int:
    """The largest train_size that `count` examples allow (a bootstrap has no limit)."""
    if replicas.draw == "bootstrap":
        return np.iinfo(np.int64).max if count else 0
    if replicas.draw in ("disjoint", "fresh"):
        return count // max(1, _draws(replicas))
    return count


def pool_needed(train_size: int, validation: int | float, replicas: ReplicasConfig) -> int:
    """How many examples to generate, validation included, for the largest train_size of a study.

    disjoint and fresh need one block per draw. The other draws get twice the train_size, so that
    an example is in about half of the replicas.
    """
    blocks = _draws(replicas) if replicas.draw in ("disjoint", "fresh") else 2
    needed = train_size * blocks
    if not 0 < validation < 1:
        return needed + int(validation)
    pool = math.ceil(needed / (1 - validation))
    while pool - held_out(pool, validation) < needed:
        pool += 1
    return pool


def check(data: DataConfig, replicas: ReplicasConfig, facts: Facts) -> None:
    """Raise DataError for the first size, draw or kind that this dataset does not allow."""
    _check_validation(data.validation)
    _check_count(replicas)
    if facts.kind == "several" and data.augmentation != "none":
        rule = "changes one input, and an example has several"
        fix = "leave it out, and change them in your network's forward while it trains"
        raise DataError("data.augmentation", data.augmentation, rule, fix)
    own = ":" in data.augmentation
    if not own and facts.kind not in AUGMENTATION_KINDS[data.augmentation]:
        raise wrong_kind(data.augmentation, facts.kind)
    if (facts.every_step or facts.labels) and (data.label_noise or data.random_labels):
        key = "random_labels" if data.random_labels else "label_noise"
        why = (
            "each target is the next token's input"
            if facts.every_step
            else "an example may have several labels"
        )
        rule = f"changes labels, and here {why}"
        raise DataError(f"data.{key}", getattr(data, key), rule, "leave it out")
    canaries.check(data, facts)
    if replicas.draw == "fresh" and not facts.generated:
        raise DataError(
            "replicas.draw",
            "fresh",
            f"{data.name} has {facts.pool} examples and no more can be made",
            "write disjoint for draws without common examples, or data.name: mnist1d_stream",
        )
    pool = data.pool_size
    if facts.pool is not None:
        pool = min(facts.pool, pool or facts.pool)
    if pool is None:  # generated, and as many as the draw needs
        pool = pool_needed(data.train_size, data.validation, replicas)
    kept = sizes(data, replicas.seed, facts, pool)[0]
    if kept < 1:
        raise DataError(
            "data.validation",
            data.validation,
            f"holds out {held_out(pool, data.validation)} of {pool} examples and leaves none",
            f"write at most {pool - 1}, or a fraction such as 0.2",
        )
    if data.train_size > largest(kept, replicas):
        raise _too_large(data.train_size, kept, replicas, pool)
    if facts.division is not None and facts.division.groups is not None:
        division = facts.division.first(pool)
        ids, _ = holdout(pool, data.validation, replicas.seed, division)
        draw(ids, data.train_size, replicas, division)  # whole groups may not fill every draw


def wrong_kind(augmentation: str, kind: str) -> DataError:
    """The error for an augmentation that this kind of data does not have."""
    fitting = [name for name, kinds in AUGMENTATION_KINDS.items() if kind in kinds]
    return DataError(
        "data.augmentation",
        augmentation,
        f"is for {' and '.join(AUGMENTATION_KINDS[augmentation])} data, and this is {kind} data",
        f"write one of: {', '.join(fitting)}",
    )


def _check_validation(validation: int | float) -> None:
    if not math.isfinite(validation) or validation < 0:
        raise DataError(
            "data.validation", validation, "is no share or count", "write 0.2, a count, or 0"
        )
    if validation >= 1 and validation != int(validation):
        raise DataError(
            "data.validation",
            validation,
            "from 1 on it is a count of examples, and counts are whole",
            f"write {int(validation)} examples, or a fraction below 1 such as 0.2",
        )


def _check_count(replicas: ReplicasConfig) -> None:
    count, inits = replicas.count, replicas.inits
    if count % inits:
        below, above = count // inits * inits, (count // inits + 1) * inits
        choice = f"{below} or {above}" if below else f"{above}"
        raise DataError(
            "replicas.count",
            count,
            f"is not a multiple of replicas.inits = {inits} (count = draws x inits)",
            f"write count {choice}",
        )
    if replicas.draw == "complementary" and (count // inits) % 2:
        raise DataError(
            "replicas.count",
            count,
            f"makes {count // inits} draws, and complementary draws come in pairs",
            f"write count {count + inits}, or draw: subset",
        )


def _too_large(
    size: int, kept: int, replicas: ReplicasConfig, pool: int | None = None
) -> DataError:
    fits, draws = largest(kept, replicas), _draws(replicas)
    has = f"{kept} examples to draw from"
    if pool is not None and pool != kept:
        has += f" ({pool} less {pool - kept} for validation)"
    if replicas.draw in ("disjoint", "fresh"):
        rule = f"{draws} {replicas.draw} draws of {size} need {draws * size} of {has}"
    else:
        rule = f"is more than the {has}"
    if not fits:
        return DataError("replicas.count", replicas.count, rule, f"write a count of at most {kept}")
    fix = f"write at most {fits}"
    if replicas.draw in ("disjoint", "fresh") and size <= kept:
        fix += f", or replicas.count: {kept // size * replicas.inits}"
    return DataError("data.train_size", size, rule, fix)


def _draws(replicas: ReplicasConfig) -> int:
    return replicas.count // replicas.inits


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(key)))


def _subset(ids: np.ndarray, size: int, seed: int, d: int, strata: np.ndarray | None) -> np.ndarray:
    return _permuted(ids, _generator(seed, _SUBSET, d), strata)[:size]


def _bootstrap(
    ids: np.ndarray, size: int, seed: int, d: int, strata: np.ndarray | None
) -> np.ndarray:
    return ids[_generator(seed, _BOOTSTRAP, d).integers(0, len(ids), size)]


def _complementary(
    ids: np.ndarray, size: int, seed: int, d: int, strata: np.ndarray | None
) -> np.ndarray:
    order = _permuted(ids, _generator(seed, _COMPLEMENTARY, d // 2), strata)
    return (order[::-1] if d % 2 else order)[:size]


# The draws that depend on their own number alone, however many stand beside them.
_ALONE: dict[str, Callable[..., np.ndarray]] = {
    "subset": _subset,
    "bootstrap": _bootstrap,
    "complementary": _complementary,
}
