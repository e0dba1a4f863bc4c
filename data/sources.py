"""The table of datasets: what `data.name` may say, what each gives, and where its reader is.

Light: imports no numerics. Help, schema, messages and the catalog are made from it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UnknownDataset(LookupError):
    """A name that no row of the table has; `rule` and `fix` say so to a person."""

    def __init__(self, rule: str, fix: str) -> None:
        super().__init__(f"{rule}: {fix}")
        self.rule, self.fix = rule, fix


@dataclass(frozen=True)
class Asked:
    """What a reader is told besides the configuration.

    pool_size: examples wanted in the pool; None: all. seed: of generated data. cache: folder for
    what was downloaded or built; None keeps nothing.
    """

    pool_size: int | None = None
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True)
class Source:
    """One row: a whole name, or a prefix with what follows it.

    form: as people write it, `mnist1d` or `npz:FILE`. gives: in one phrase. reader: module:function
    below `engram.data`, imported when it is needed; reader(config, Asked) returns a Raw or a
    Dataset. facts: module:function that knows the Facts of a configuration without reading.
    files: what follows the prefix is a path. generated: as many examples as are asked for.
    takes: those of SPECIAL, keys of `data:`, that mean something to it.
    """

    form: str
    gives: str
    reader: str
    facts: str | None = None
    files: bool = False
    generated: bool = False
    takes: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """What stands before the colon; empty for a whole name."""
        before, colon, _ = self.form.partition(":")
        return before if colon else ""


_COLUMNS = ("groups", "order", "split", "folds", "fold", "indices", "levels", "positive")
_TOKENS = ("tokens", "window", "vocabulary")
_TABLE = ("test", "index", "missing", "categories", "text", *_TOKENS)
_TEXT = (*_TOKENS, "canaries")
SOURCES: tuple[Source, ...] = (
    Source(
        "mnist1d",
        "the published MNIST-1D, sequences of 40",
        "published:mnist1d",
        "published:mnist1d_facts",
    ),
    Source(
        "mnist1d_stream",
        "as many MNIST-1D examples as are wanted",
        "published:mnist1d_stream",
        "published:mnist1d_stream_facts",
        generated=True,
    ),
    Source(
        "sentences",
        "simple sentences made by a grammar, to predict the next token",
        "text:sentences",
        takes=_TEXT,
    ),
    Source(
        "digits",
        "scikit-learn's 8x8 digits",
        "published:digits",
        takes=("folds", "fold", "indices"),
    ),
    Source(
        "openml:NAME",
        "an OpenML dataset",
        "openml:source",
        takes=(*_COLUMNS, "missing", "categories"),
    ),
    Source(
        "idx:DIR", "MNIST files, gzipped or not", "files:idx", files=True, takes=("test", "indices")
    ),
    Source(
        "npz:FILE",
        "arrays x, y, perhaps x_test, y_test",
        "files:npz",
        files=True,
        takes=(*_COLUMNS, "test", "channels", *_TOKENS),
    ),
    Source(
        "npy:DIR",
        "x.npy, y.npy and their kind, read by need",
        "files:npy",
        files=True,
        takes=(*_COLUMNS, "test", "channels", *_TOKENS),
    ),
    Source(
        "csv:FILE",
        "a table of text with a target column",
        "tables:csv",
        files=True,
        takes=(*_COLUMNS, *_TABLE, "header", "separator", "decimal", "encoding"),
    ),
    Source(
        "parquet:FILE",
        "a Parquet table, or images, with a target column",
        "columnar:parquet",
        files=True,
        takes=(*_COLUMNS, *_TABLE, "channels", "image_size"),
    ),
    Source(
        "arrow:FILE",
        "the same in an Arrow or Feather file",
        "columnar:arrow",
        files=True,
        takes=(*_COLUMNS, *_TABLE, "channels", "image_size"),
    ),
    Source(
        "text:FILE",
        "a text, to predict the next token",
        "text:text",
        files=True,
        takes=(*_TEXT, "test", "encoding"),
    ),
    Source(
        "images:DIR",
        "pictures, a folder for each class",
        "pictures:folders",
        files=True,
        takes=("test", "indices", "levels", "positive", "image_size"),
    ),
)
OWN = Source(
    "package.module:function",
    "what your function returns",
    "files:function",
    takes=(*_COLUMNS, "channels", *_TOKENS),
)
SPECIAL = tuple(dict.fromkeys(key for source in SOURCES for key in source.takes))


def forms() -> str:
    """All that data.name may say, in one line."""
    return ", ".join(source.form for source in SOURCES) + f" or {OWN.form}"


def find(name: str) -> Source:
    """The row behind a name. Raises UnknownDataset with the nearest name and all the forms."""
    prefix, colon, rest = name.partition(":")
    whole = {source.form: source for source in SOURCES if not source.prefix}
    prefixed = {source.prefix: source for source in SOURCES if source.prefix}
    if name in whole:
        return whole[name]
    if prefix and rest:
        return prefixed.get(prefix, OWN)
    near = difflib.get_close_matches(name, [*whole, *prefixed], 1)
    hint = (
        f"did you mean {near[0] if near[0] in whole else prefixed[near[0]].form}? " if near else ""
    )
    rule = f"names nothing after {prefix}:" if prefix and colon else "is no dataset"
    raise UnknownDataset(rule, f"{hint}Write {forms()}")


def function(path: str) -> Callable[..., Any]:
    """The function that a row names as module:function below engram.data."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"engram.data.{module}"), name)
    return found
