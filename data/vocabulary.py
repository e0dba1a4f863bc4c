"""Texts as numbers of tokens: characters, words or byte pairs. The vocabulary is that of the pool alone."""

from __future__ import annotations

import json
import re
from collections import Counter

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError

UNKNOWN = "<unknown>"  # number 0: a token that the pool does not have
BPE_TOKENS = 1000  # of a vocabulary of bpe whose size is not said
WORD = re.compile(r"\w+|[^\w\s]")
# What each number stands for; the numbers of each text of the pool, and of each for test.
Numbered = tuple[tuple[str, ...], list[np.ndarray], list[np.ndarray]]


def numbered(pool: list[str], test: list[str], config: DataConfig) -> Numbered:
    """The tokens of each text by data.tokens, known from the pool up to data.vocabulary."""
    return _BY_NAME[config.tokens](pool, test, config)


def _characters(pool: list[str], test: list[str], config: DataConfig) -> Numbered:
    codes, test_codes = ([_codes(each) for each in texts] for texts in (pool, test))
    known, counts = np.unique(np.concatenate(codes), return_counts=True)
    kept = _kept(len(known), config)
    if kept < len(known):
        known = np.sort(known[np.argsort(-counts, kind="stable")[:kept]])
    words = (UNKNOWN, *(chr(code) for code in known))
    return words, _numbers(codes, known), _numbers(test_codes, known)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _words(pool: list[str], test: list[str], config: DataConfig) -> Numbered:
    found, tested = ([WORD.findall(each) for each in texts] for texts in (pool, test))
    counts = Counter(word for words in found for word in words)
    kept = counts.most_common(_kept(len(counts), config))
    known = np.array(sorted(word for word, _ in kept), str)
    own, others = ([np.array(words, str) for words in texts] for texts in (found, tested))
    return (UNKNOWN, *map(str, known)), _numbers(own, known), _numbers(others, known)


def _numbers(texts: list[np.ndarray], known: np.ndarray) -> list[np.ndarray]:
    """The place of each value among the sorted known ones, from 1; 0 where it is not there."""
    values = np.concatenate(texts)
    if not len(known) or not len(values):
        return [np.zeros(len(text), np.int64) for text in texts]
    place = np.searchsorted(known, values).clip(max=len(known) - 1)
    numbers = np.where(known[place] == values, place + 1, 0).astype(np.int64)
    return np.split(numbers, np.cumsum([len(text) for text in texts])[:-1])


def _kept(count: int, config: DataConfig) -> int:
    return count if config.vocabulary is None else min(count, config.vocabulary)


def _pairs(pool: list[str], test: list[str], config: DataConfig) -> Numbered:
    """Byte pairs learned from the pool by the package tokenizers."""
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError as error:
        raise DataError(
            "data.tokens",
            "bpe",
            "needs the package tokenizers",
            "pip install 'engram[text]', or take characters or words",
        ) from error
    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=(config.vocabulary or BPE_TOKENS) + 1,
        special_tokens=[UNKNOWN],
        show_progress=False,
    )
    lines = (line for text in pool for line in text.splitlines(keepends=True))
    made.train_from_iterator(lines, trainer)
    # Two runs must agree: the merges are the same, and so are the numbers.
    vocabulary = json.loads(made.to_str())["model"]["vocab"]
    words = tuple(sorted(vocabulary, key=lambda word: int(vocabulary[word])))
    own, others = (
        [np.array(made.encode(text).ids, np.int64) for text in texts] for texts in (pool, test)
    )
    return words, own, others


_BY_NAME = {"characters": _characters, "words": _words, "bpe": _pairs}
