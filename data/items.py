"""Map-style datasets as they are: torch's Dataset, a Hugging Face Dataset, a list of pairs.

They have a length and give item i as a pair (input, target) or as a mapping of two names; inputs may
be arrays, tensors or PIL images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engram.data.config import DataConfig
from engram.data.raw import bad

PARTS = {"train": "", "validation": "_validation", "test": "_test"}
TARGETS = ("label", "labels", "target", "y", "class")


def is_map_style(found: Any) -> bool:
    """Whether it gives items by number, and is no array."""
    own = hasattr(found, "__len__") and hasattr(found, "__getitem__")
    return (
        own and not isinstance(found, Mapping | str | bytes | tuple) and not hasattr(found, "shape")
    )


def arrays(found: Any, config: DataConfig) -> dict[str, Any] | None:
    """x, y (and x_test, ...) of such a dataset, or of a mapping train -> dataset, test -> dataset.

    None where it is neither. Every item is asked for once, in order. x is a mapping where the items have several inputs."""
    if isinstance(found, Mapping):
        if not found or not all(k in PARTS and is_map_style(v) for k, v in found.items()):
            return None
        made: dict[str, Any] = {}
        for part, items in found.items():
            x, y = _pair(items, part, config)
            made |= {f"x{PARTS[part]}": x, f"y{PARTS[part]}": y}
        return made
    if not is_map_style(found):
        return None
    x, y = _pair(found, "the dataset", config)
    return {"x": x, "y": y}


def _pair(items: Any, name: str, config: DataConfig) -> tuple[Any, np.ndarray]:
    inputs, targets = [], []
    for i in range(len(items)):
        item = items[i]
        if isinstance(item, Mapping):
            item = _of_mapping(item, name, i, config)
        if not isinstance(item, tuple | list) or len(item) != 2:
            rule = f"item {i} of {name} is {type(item).__name__}, no pair of input and target"
            raise bad(config, rule, "give (input, target), or a mapping of two names")
        inputs.append(item[0])
        targets.append(np.asarray(item[1]))
    if not inputs:
        raise bad(config, f"{name} has no items", "give a dataset with items")
    if not isinstance(inputs[0], Mapping):
        return _stacked(inputs, name, config), np.stack(targets)
    for i, each in enumerate(inputs):
        if not isinstance(each, Mapping) or set(each) != set(inputs[0]):
            has = ", ".join(map(str, each)) if isinstance(each, Mapping) else type(each).__name__
            rule = f"item {i} of {name} has {has}, and item 0 {', '.join(map(str, inputs[0]))}"
            raise bad(config, rule, "give each item all of the inputs")
    columns = {key: [each[key] for each in inputs] for key in inputs[0]}
    found = {key: _stacked(each, f"{name}, {key!r}", config) for key, each in columns.items()}
    return found, np.stack(targets)


def _stacked(each: list[Any], name: str, config: DataConfig) -> np.ndarray:
    """One input of all items."""
    found = [np.asarray(one) for one in each]
    for i, array in enumerate(found):
        if array.shape != found[0].shape:
            rule = f"item {i} of {name} has shape {array.shape}, and item 0 {found[0].shape}"
            raise bad(config, rule, "bring all to one shape")
    return np.stack(found)


def _of_mapping(item: Mapping[str, Any], name: str, i: int, config: DataConfig) -> tuple[Any, Any]:
    """(input, target) of named columns: data.target, or one of the usual names, is the target."""
    if len(config.targets) > 1:
        rule = f"gives items of one target, and data.target names {len(config.targets)}"
        raise bad(config, rule, "give all values of an item as one array, and name that")
    wanted = config.targets or TARGETS
    target = next((key for key in wanted if key in item), None)
    rest = [key for key in item if key != target]
    if target is None or len(rest) != 1:
        rule = f"item {i} of {name} has the columns {', '.join(map(str, item))}"
        fix = "give one input and one target, named label or by data.target, or ({name: input, ...}, target)"
        raise bad(config, rule, fix)
    return item[rest[0]], item[target]
