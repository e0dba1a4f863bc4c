"""The test set in a second file, data.test: read as the first one is, and joined to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engram.data import categories
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw


def joined(read: Callable[[DataConfig], Raw], config: DataConfig) -> Raw:
    """What data.name names, and as its test set the rows of data.test, read the same way."""
    raw = read(config)
    if config.test is None:
        return raw
    if config.split is not None:
        raise DataError("data.test", config.test, "and data.split both name test rows", "keep one")
    _refuse_parts(raw, config.name, config)
    form = config.name.partition(":")[0]
    update = {"name": f"{form}:{config.test}", "test": None, "target": raw.target or config.target}
    try:
        other = read(config.model_copy(update=update))
    except DataError as error:
        if error.key != "data.name":
            raise
        raise DataError("data.test", config.test, error.rule, error.fix) from error
    _refuse_parts(other, config.test, config)
    return with_test(raw, other, config)


def _refuse_parts(raw: Raw, name: str, config: DataConfig) -> None:
    """Refuse a file that has a test set of its own: which one is meant?"""
    if raw.test_inputs is not None or (raw.parts is not None and (raw.parts == "test").any()):
        rule = f"names the test set, and {name} has one of its own"
        raise DataError("data.test", config.test, rule, "keep one of them")


def with_test(raw: Raw, other: Raw, config: DataConfig) -> Raw:
    """raw with the rows of another file as its test set; columns are matched by their names."""
    inputs = other.inputs
    if raw.columns is not None and other.columns is not None and raw.columns != other.columns:
        lost = [name for name in raw.columns if name not in other.columns]
        more = [name for name in other.columns if name not in raw.columns]
        if lost or more:
            rule = f"lacks column {lost[0]!r}" if lost else f"has column {more[0]!r} besides"
            fix = f"give it the columns of {config.name}"
            raise DataError("data.test", config.test, rule, fix)
        inputs = inputs[:, [other.columns.index(name) for name in raw.columns]]
    if raw.words or other.words:
        raw, inputs = categories.together(raw, replace(other, inputs=inputs), config)
    return replace(
        raw,
        test_inputs=inputs,
        test_targets=other.targets,
        test_ids=other.ids,
        test_lines=other.lines,
        test_groups=other.groups,
        test_times=other.times,
        notes=(*raw.notes, *(n for n in other.notes if n not in raw.notes)),
    )
