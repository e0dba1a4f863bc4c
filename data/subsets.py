"""Which examples each replica trains on: the validation split, the draws, and what cannot fit.

Works on indices alone; knows nothing of the examples themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engram.data.config import AUGMENTATION_KINDS, DataConfig, ReplicasConfig
from engram.data.dataset import DataError, Facts

# Each use of the seed has a stream of its own: the number after the seed.
_HOLDOUT, _SUBSET, _BOOTSTRAP, _DISJOINT, _COMPLEMENTARY = 11, 12, 13, 14, 15


def held_out(pool: int, validation: int | float) -> int:
    """How many of `pool` examples `data.validation` holds out: a count from 1 on, else a share."""
    if not 0 < validation < 1:
        return int(validation)
    return max(1, math.floor(pool * validation + 0.5))


def holdout(pool: int, validation: int | float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the pool once per study: ids to draw from int64 [n], validation ids int64 [v], sorted.

    Every id has one uniform, and the v lowest are held out: a larger share holds out the same
    examples and more, whatever the trial.
    """
    count = held_out(pool, validation)
    order = np.argsort(_generator(seed, _HOLDOUT).random(pool), kind="stable")
    return np.sort(order[count:]), np.sort(order[:count])


def draw(ids: np.ndarray, size: int, replicas: ReplicasConfig) -> np.ndarray:
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
    """
    ids = np.asarray(ids, dtype=np.int64)
    draws = _draws(replicas)
    if size > largest(len(ids), replicas):
        raise _too_large(size, len(ids), replicas)
    if replicas.draw == "disjoint":
        ids = _generator(replicas.seed, _DISJOINT).permutation(ids)
    if replicas.draw in ("disjoint", "fresh"):
        rows = np.stack([ids[d::draws][:size] for d in range(draws)])
    else:
        rows = np.stack([_ALONE[replicas.draw](ids, size, replicas.seed, d) for d in range(draws)])
    return np.repeat(rows, replicas.inits, axis=0)  # [D, m] -> [R, m]


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
    if data.augmentation != "none" and facts.kind not in AUGMENTATION_KINDS[data.augmentation]:
        raise wrong_kind(data.augmentation, facts.kind)
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
    kept = pool - held_out(pool, data.validation)
    if kept < 1:
        raise DataError(
            "data.validation",
            data.validation,
            f"holds out {held_out(pool, data.validation)} of {pool} examples and leaves none",
            f"write at most {pool - 1}, or a fraction such as 0.2",
        )
    if data.train_size > largest(kept, replicas):
        raise _too_large(data.train_size, kept, replicas, pool)


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


def _subset(ids: np.ndarray, size: int, seed: int, d: int) -> np.ndarray:
    return _generator(seed, _SUBSET, d).permutation(ids)[:size]


def _bootstrap(ids: np.ndarray, size: int, seed: int, d: int) -> np.ndarray:
    return ids[_generator(seed, _BOOTSTRAP, d).integers(0, len(ids), size)]


def _complementary(ids: np.ndarray, size: int, seed: int, d: int) -> np.ndarray:
    order = _generator(seed, _COMPLEMENTARY, d // 2).permutation(ids)
    return (order[::-1] if d % 2 else order)[:size]


# The draws that depend on their own number alone, however many stand beside them.
_ALONE: dict[str, Callable[[np.ndarray, int, int, int], np.ndarray]] = {
    "subset": _subset,
    "bootstrap": _bootstrap,
    "complementary": _complementary,
}
