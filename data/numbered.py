"""Examples of tokens, shorter ones filled up with -1: those that come as whole numbers, and a column of texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engram.data import vocabulary
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Tokens
from engram.data.raw import Raw, bad

END = -1  # after the last token of a shorter example


@dataclass(frozen=True)
class Texts:
    """The texts of a column or an array, one a row, which are tokens once it is known what the pool is."""

    column: str
    values: list[str]

    @property
    def shape(self) -> tuple[int, int]:
        """So many examples, of something."""
        return len(self.values), 1


def texts(array: np.ndarray, name: str) -> Texts | None:
    """An array of texts; None where it is of anything else."""
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "UO":
        return None
    values = array.tolist()
    return Texts(name, values) if all(isinstance(value, str) for value in values) else None


def refuse_without_text(config: DataConfig) -> None:
    """Refuse the keys that say how a text is read, where there is none."""
    for key in ("tokens", "window", "vocabulary"):
        value = getattr(config, key)
        if value != DataConfig.model_fields[key].default:
            rule = "means nothing where no text is read"
            fix = "name a column of texts as data.text, or leave it out"
            raise DataError(f"data.{key}", value, rule, fix)


def of_texts(
    raw: Raw, pool: np.ndarray, test: np.ndarray, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, Tokens, list[str]]:
    """Rows of a column of texts as tokens [n, T], what they stand for, and what was decided.

    The vocabulary is that of the whole pool; of a longer text the first data.window tokens are taken."""
    own_test = raw.test_inputs is not None
    parts = [
        [texts.values[row] for row in rows]
        for texts, rows in ((raw.inputs, pool), (raw.test_inputs if own_test else raw.inputs, test))
    ]
    words, *found = vocabulary.numbered(parts[0], parts[1], config)
    for texts, rows, other in zip(found, (pool, test), (False, own_test), strict=True):
        empty = next((k for k, text in enumerate(texts) if not len(text)), None)
        if empty is not None:
            rule = f"{raw.place(int(rows[empty]), other)} has no text in {raw.inputs.column!r}"
            more = sum(not len(text) for text in texts) - 1
            raise bad(config, rule + (f"; nor have {more:,} others" if more else ""), "drop them")
    lengths = np.array([len(text) for texts in found for text in texts])
    most = int(lengths.max().clip(max=config.window))
    pool_rows, test_rows = (_rows(texts, most) for texts in found)
    notes = [
        f"{raw.inputs.column!r} as {config.tokens}: {len(words) - 1:,} in the pool, and one for the unknown",
        f"texts of {lengths.min():,} to {lengths.max():,} tokens",
    ]
    longer = int((lengths > most).sum())
    if longer:
        notes[1] += f"; of {longer:,} the first {most:,} are taken (data.window takes more)"
    unknown = int((test_rows == 0).sum())
    if unknown:
        notes.append(f"{unknown:,} tokens for test are unknown to the pool")
    return pool_rows, test_rows, Tokens(words, padded=bool(lengths.min() < most)), notes


def _rows(texts: list[np.ndarray], most: int) -> np.ndarray:
    made = np.full((len(texts), most), END, np.int64)
    for row, text in zip(made, texts, strict=True):
        row[: len(text)] = text[:most]
    return made


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
