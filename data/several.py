"""From several inputs an example, given by their names, to one row of numbers that holds them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.members import Member
from engram.data.raw import Raw, bad

LARGEST = 2**24  # whole numbers up to here are the same as float32


def names(inputs: Mapping[str, Any], name: str, config: DataConfig) -> list[str]:
    """Names of several inputs, each one that a function can have an argument of."""
    for each in inputs:
        if not (isinstance(each, str) and each.isidentifier()):
            rule = f"{name} has an input named {each!r}"
            raise bad(config, rule, "name it as an argument of your network's forward")
    if not inputs:
        raise bad(config, f"{name} is an empty mapping", "give an array for each input")
    return list(inputs)


def refuse_others(raw: Raw, config: DataConfig) -> None:
    """Refuse a test set whose inputs are others."""
    pool, test = (
        sorted(inputs) if isinstance(inputs, Mapping) else ["one array"]
        for inputs in (raw.inputs, raw.test_inputs)
    )
    if pool != test:
        rule = f"x_test has the inputs {', '.join(test)}, and x {', '.join(pool)}"
        raise bad(config, rule, "give both the same")


def joined(
    parts: dict[str, tuple[np.ndarray, np.ndarray]], words: dict[str, int], config: DataConfig
) -> tuple[np.ndarray, np.ndarray, tuple[Member, ...]]:
    """Each input of the pool and of the test set, side by side as float32, and what stands where.

    words: how many tokens a text has been told apart into."""
    members = []
    for name, (pool, test) in parts.items():
        whole = None
        if (pool.dtype.kind in "iu") != (test.dtype.kind in "iu"):
            rule = f"x[{name!r}] and x_test[{name!r}] are not both whole numbers"
            raise bad(config, rule, "give both the same type")
        if pool.dtype.kind in "iu":
            most = max(int(pool.max()), int(test.max()) if test.size else 0)
            least = min(int(pool.min()), int(test.min()) if test.size else 0)
            if max(most, -least) > LARGEST:
                rule = f"x[{name!r}] has whole numbers up to {max(most, -least):,}"
                fix = f"give numbers with a point, or whole numbers up to {LARGEST:,}"
                raise bad(config, rule, fix)
            whole = words.get(name, most + 1)
        members.append(Member(name, pool.shape[1:], whole))
    rows = [
        np.concatenate(
            [np.asarray(part[k], np.float32).reshape(len(part[k]), -1) for part in parts.values()],
            axis=1,
        )
        for k in (0, 1)
    ]
    return rows[0], rows[1], tuple(members)
