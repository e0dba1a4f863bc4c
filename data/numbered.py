"""Tokens that come as whole numbers, shorter examples filled up with -1: their checks, and what they stand for."""

from __future__ import annotations

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import Tokens
from engram.data.raw import bad

END = -1  # after the last token of a shorter example


def read(
    pool: np.ndarray, test: np.ndarray, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, Tokens, list[str]]:
    """Inputs [n, T] as int64, what they stand for, and what was decided.

    Number 0 is the unknown one, which every number of the test set becomes that the pool does not have."""
    for name, values in (("x", pool), ("x_test", test)):
        _check(values, name, config)
    size = int(pool.max()) + 1
    known = np.zeros(size, bool)
    known[pool[pool >= 0].astype(np.int64)] = True
    pool, test = pool.astype(np.int64), test.astype(np.int64)
    strange = (test >= 0) & ~known[test.clip(0, size - 1)] | (test >= size)
    lengths = (pool >= 0).sum(1)
    padded = bool((pool < 0).any() or (test < 0).any())
    notes = [f"tokens: {size:,} numbers from 0, which is the unknown one, on"]
    if padded:
        notes.append(
            f"examples of {lengths.min():,} to {lengths.max():,} tokens; what comes after their end takes no part"
        )
    if strange.any():
        notes.append(f"{int(strange.sum()):,} tokens for test are unknown to the pool")
    words = tuple(map(str, range(size)))
    return pool, np.where(strange, 0, test), Tokens(words, padded=padded), notes


def _check(values: np.ndarray, name: str, config: DataConfig) -> None:
    if (values != np.floor(values)).any() or (values < END).any():
        row = int(((values != np.floor(values)) | (values < END)).any(1).argmax())
        rule = f"{name}[{row}] has tokens that are no whole numbers from 0 on"
        raise bad(
            config, rule, f"number the tokens from 1, and write {END} after a shorter example"
        )
    ended = values < 0
    if (ended[:, :-1] & ~ended[:, 1:]).any():
        row = int((ended[:, :-1] & ~ended[:, 1:]).any(1).argmax())
        rule = f"{name}[{row}] goes on after {END}"
        raise bad(config, rule, f"write {END} after the last token alone")
    if ended[:, 0].any():
        rule = f"{name}[{int(ended[:, 0].argmax())}] has no token"
        raise bad(config, rule, "leave examples without tokens out")
