"""Text as tokens: a file, or sentences that a grammar makes, in windows whose targets are the tokens that come next.

The vocabulary is that of the pool alone; a token that it lacks is number 0, the unknown one. Pool and test set
are blocks of the text, validation is the last block of the pool, and windows share no token.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engram.data import splits, vocabulary
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset, Division, Tokens, assemble
from engram.data.raw import bad, file
from engram.data.sources import Asked
from engram.data.tidy import check_size

TEST_SHARE = 6  # one in so many characters is the test set's, where there is no file for it
TEST_TOKENS = 16_384  # of a test set whose size is not said: its predictions are kept in memory
SENTENCES, SENTENCES_SEED = 9000, 20211  # of the generated text: about 280,000 characters


def text(config: DataConfig, asked: Asked) -> Dataset:
    """text:FILE, plain or gzipped, with the last sixth for test, or data.test."""
    whole = _read(file(config), config)
    if config.test is not None:
        return _windows(whole, _read(file(config, config.test), config), config)
    cut = len(whole) - len(whole) // TEST_SHARE
    if config.tokens != "characters":  # at a blank, lest a word be in two parts
        cut = next((i for i in range(cut, len(whole)) if whole[i].isspace()), cut)
    return _windows(whole[:cut], whole[cut:], config)


def sentences(config: DataConfig, asked: Asked) -> Dataset:
    """Text of a small grammar, always the same: simple English sentences about people, things and numbers."""
    made = [
        _sentence(np.random.Generator(np.random.PCG64([SENTENCES_SEED, k])))
        for k in range(SENTENCES)
    ]
    cut = SENTENCES - SENTENCES // TEST_SHARE
    return _windows(" ".join(made[:cut]), " ".join(made[cut:]), config)


def _read(path: Path, config: DataConfig) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise bad(
            config, f"{path} cannot be decompressed: {error}", "give the whole file"
        ) from error
    encoding = "utf-8" if config.encoding == "auto" else config.encoding
    try:
        found = content.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n")
    except (UnicodeDecodeError, LookupError) as error:
        at = content[: getattr(error, "start", 0)].count(b"\n") + 1
        raise DataError(
            "data.encoding",
            config.encoding,
            f"{path}, line {at}: not {encoding}",
            "name the file's encoding, such as latin-1, cp1252 or utf-16",
        ) from error
    if not found.strip():
        raise bad(config, f"{path} has no text", "give a file with text")
    return found


def _windows(pool_text: str, test_text: str, config: DataConfig) -> Dataset:
    words, (pool,), (test,) = vocabulary.numbered([pool_text], [test_text], config)
    size = config.window + 1  # the inputs, and the token after them
    parts = []
    for name, numbers in (("pool", pool), ("test set", test)):
        count = len(numbers) // size
        least = 2 if name == "pool" else 1
        if count < least:
            raise DataError(
                "data.window",
                config.window,
                f"the {name} has {len(numbers):,} tokens, and {least} windows of {size} are the least",
                f"write at most {max(1, len(numbers) // least - 1)}, or give a longer text",
            )
        parts.append(numbers[: count * size].reshape(count, size))
    pool, test = parts
    # As with rows: one fixed order, so that the first k are a random sample.
    order, test_order = splits.order(len(pool)), splits.order(len(test), test=True)
    check_size("data.test_size", config.test_size, len(test), config.name)
    if config.test_size is None:
        test_order = test_order[: max(1, TEST_TOKENS // config.window)]
    unknown = int((test[test_order] == 0).sum())
    made = assemble(
        config.name,
        (pool[order, :-1], pool[order, 1:]),
        (test[test_order, :-1], test[test_order, 1:]),
        classes=len(words),
        kind="tokens",
    )
    notes = [
        f"{config.tokens} as tokens: {len(words) - 1:,} in the pool, and one for the unknown; an example is "
        f"{config.window} of them, and the token after each is its target",
        "pool, validation and test are blocks of the text, and share no character",
    ]
    if len(test_order) < len(test) and config.test_size is None:
        notes.append(
            f"test: {len(test_order):,} of its {len(test):,} windows; data.test_size takes more"
        )
    if unknown:
        notes.append(
            f"{unknown:,} of {test[test_order].size:,} tokens for test are unknown to the pool"
        )
    return replace(
        made,
        ids=order * size,
        test_ids=test_order * size,
        class_names=words,
        notes=tuple(notes),
        division=Division(times=order),
        tokens=Tokens(words, every_step=True),
    )


# -- a grammar --------------------------------------------------------------------------------------

_PEOPLE = (
    "anna ben clara david emma felix grace henry ida john kate leo mary noah olga paul".split()
)
_VERBS = "finds buys sells paints breaks mends carries counts hides loses wants washes".split()
_KINDS = "old new red blue green small large heavy light round broken clean".split()
_THINGS = "apple ball book boat box chair clock cup door drum key lamp map pen ring shoe spoon table".split()
_NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
_PLACES = "in the garden, at the station, on the hill, by the river, near the bridge, behind the house".split(
    ", "
)
_TIMES = "today, at night, in the morning, after lunch, every day, once more".split(", ")


def _sentence(random: np.random.Generator) -> str:
    def one(words: Sequence[str]) -> str:
        return words[int(random.integers(len(words)))]

    def thing() -> str:
        kind = f"{one(_KINDS)} " if random.random() < 0.5 else ""
        if random.random() < 0.4:
            return f"{one(_NUMBERS)} {kind}{one(_THINGS)}s"
        return f"the {kind}{one(_THINGS)}"

    said = f"{one(_PEOPLE)} {one(_VERBS)} {thing()}"
    if random.random() < 0.5:
        said += f" {one(_PLACES)}"
    if random.random() < 0.3:
        said += f" {one(_TIMES)}"
    if random.random() < 0.3:
        said += f" and {one(_VERBS)} {thing()}"
    return said + "."
