"""Arrays out of a person's files and functions: IDX, NPZ, NPY, package.module:function."""

from __future__ import annotations

import gzip
import importlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engram.data import folds, items, second
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.data.raw import SEVERAL, Raw, bad, file, split_words
from engram.data.sources import Asked
from engram.data.tidy import checked

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx(config: DataConfig, asked: Asked) -> Raw:
    """idx:DIR, the four MNIST files or one pair of them, gzipped or not."""
    return second.joined(_idx, config)


def _idx(config: DataConfig) -> Raw:
    folder = Path(config.name.partition(":")[2]).expanduser()
    if not folder.is_dir():
        raise bad(config, f"there is no folder {folder}", "name the folder of the IDX files")
    pairs = []
    for part in (("train",), ("t10k", "test")):
        images = _idx_file(folder, part, "images", config)
        labels = _idx_file(folder, part, "labels", config)
        if (images is None) != (labels is None):
            found, lost = (images, "labels") if images else (labels, "images")
            assert found is not None
            raise bad(
                config,
                f"{folder} has {found.name} without its {lost}",
                f"put {found.name.replace('labels' if images is None else 'images', lost)} there",
            )
        if images is not None and labels is not None:
            pairs.append((_read_idx(images, config), _read_idx(labels, config)))
    if not pairs:
        raise bad(
            config,
            f"{folder} has no IDX files",
            "put train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not) there",
        )
    (inputs, targets), rest = pairs[0], pairs[1:]
    test_inputs, test_targets = rest[0] if rest else (None, None)
    return Raw(inputs, targets, test_inputs, test_targets)


def _idx_file(folder: Path, parts: tuple[str, ...], what: str, config: DataConfig) -> Path | None:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.removesuffix(".gz").endswith(("ubyte", "idx")) or "idx" in path.name
        if what in path.name and any(part in path.name for part in parts)
    )
    plain = {path.name.removesuffix(".gz"): path for path in reversed(found)}
    if len(plain) > 1:
        raise bad(
            config,
            f"{folder} has several files of {parts[0]} {what}: {', '.join(sorted(plain))}",
            "keep one dataset in a folder",
        )
    return next(iter(plain.values()), None)


def _read_idx(path: Path, config: DataConfig) -> np.ndarray:
    """Two zero bytes, a type, the number of axes, each axis as four bytes, then the values."""
    fix = "fetch the file again"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise bad(config, f"{path.name} cannot be read: {error}", fix) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise bad(config, f"{path.name} is no IDX file (it starts with {content[:4]!r})", fix)
    axes, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    shape = (
        tuple(np.frombuffer(content, ">u4", axes, 4).tolist()) if len(content) > 4 * axes else ()
    )
    body = content[4 + 4 * axes :]
    if not shape or len(body) != np.prod(shape, dtype=np.int64) * dtype.itemsize:
        raise bad(
            config, f"{path.name} announces shape {shape} and has {len(body)} bytes of values", fix
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def npy(config: DataConfig, asked: Asked) -> Raw:
    """npy:DIR with x.npy, y.npy and perhaps x_test.npy, y_test.npy, mapped: rows are read by need."""
    return second.joined(_npy, config)


def _npy(config: DataConfig) -> Raw:
    folder = Path(config.name.partition(":")[2]).expanduser()
    if not folder.is_dir():
        raise bad(config, f"there is no folder {folder}", "name the folder of x.npy and y.npy")
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            rule = f"{path} cannot be read: {error}"
            raise bad(config, rule, "write it with numpy.save, numbers only") from error
        arrays[path.stem] = mapped
    return _from_mapping(arrays, config)


def npz(config: DataConfig, asked: Asked) -> Raw:
    """npz:FILE with arrays x, y and perhaps x_test, y_test; `kind` may say what x is."""
    return second.joined(_npz, config)


def _npz(config: DataConfig) -> Raw:
    path = file(config)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise bad(
            config,
            f"{path} cannot be read: {error}" if str(error) else f"{path} is empty",
            "write it with numpy.savez(file, x=..., y=...), arrays of numbers (no objects)",
        ) from error
    return _from_mapping(arrays, config)


def function(config: DataConfig, asked: Asked) -> Raw | Dataset:
    """package.module:function, called without arguments.

    It returns a Dataset, a tuple (x, y) or (x, y, x_test, y_test), a mapping of these names, or a
    map-style dataset (see items).
    """
    module, _, name = config.name.partition(":")
    try:
        maker = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise bad(
            config, f"there is no module {error.name}", "write package.module:function"
        ) from error
    except AttributeError as error:
        raise bad(config, str(error), "write package.module:function") from error
    except Exception as error:
        raise bad(config, f"importing {module} raised {error!r}", "mend the module") from error
    if not callable(maker):
        raise bad(config, f"{name} is {type(maker).__name__}, no function", "name a function")
    try:
        found = maker()
    except Exception as error:
        raise bad(config, f"{name}() raised {error!r}", "mend the function") from error
    if isinstance(found, Dataset):
        return checked(found, config)
    if isinstance(found, tuple) and len(found) in (2, 4):
        found = dict(zip(("x", "y", "x_test", "y_test"), found, strict=False))
    found = items.arrays(found, config) or found
    if not isinstance(found, Mapping):
        raise bad(
            config,
            f"{name}() returned {type(found).__name__}",
            "return (x, y), (x, y, x_test, y_test), a dict of these names, or a dataset",
        )
    return _from_mapping(found, config)


# What others call the arrays: Keras, MedMNIST, scikit-learn's examples.
NAMES = {
    "x": ("x", "x_train", "train_images", "train_x", "images", "inputs", "features", "data"),
    "y": ("y", "y_train", "train_labels", "train_y", "labels", "targets", "target"),
    "x_validation": ("x_validation", "x_val", "x_valid", "val_images", "val_x"),
    "y_validation": ("y_validation", "y_val", "y_valid", "val_labels", "val_y"),
    "x_test": ("x_test", "test_images", "test_x"),
    "y_test": ("y_test", "test_labels", "test_y"),
    "ids": ("ids",),
    "test_ids": ("test_ids", "ids_test"),
    "kind": ("kind",),
}
_OURS = {other: name for name, others in NAMES.items() for other in others}


def _from_mapping(given: Mapping[str, Any], config: DataConfig) -> Raw:
    """Arrays by their names, ours or those of others; data.groups, order and split name arrays."""
    roles = {key: getattr(config, key) for key in ("groups", "order", "split")}
    roles["folds"] = folds.column(config)
    for key, name in roles.items():
        if name is not None and name not in given:
            rule, fix = f"{config.name} has no such array", f"write one of: {', '.join(given)}"
            raise DataError(f"data.{key}", name, rule, fix)
    used = [name for name in roles.values() if name is not None]
    arrays: dict[str, Any] = {}
    unknown, notes = [], []
    for other, array in _by_name(given, config).items():
        name = _OURS.get(other.lower())
        if other in used or other in (f"{role}_test" for role in used):
            continue
        if name is None:
            unknown.append(other)
        elif name in arrays:
            raise bad(config, f"has two arrays that could be {name}", f"call one {name}")
        else:
            arrays[name] = array
            if other != name:
                notes.append(f"{other} is {name}")
    lacking = [name for name in ("x", "y") if name not in arrays]
    lacking += [
        f"{'y' if f'x_{part}' in arrays else 'x'}_{part}"
        for part in ("test", "validation")
        if (f"x_{part}" in arrays) != (f"y_{part}" in arrays)
    ]
    if lacking or unknown:
        rule = f"lacks {', '.join(lacking)}" if lacking else f"has also {', '.join(unknown)}"
        fix = "give x and y, perhaps x_test and y_test (or x_train ...), and no others"
        raise bad(config, rule, f"{fix}; {SEVERAL}" if unknown and not lacking else fix)
    raw = Raw(
        arrays["x"],
        arrays["y"],
        arrays.get("x_test"),
        arrays.get("y_test"),
        kind=str(arrays["kind"]) if "kind" in arrays else None,  # type: ignore[arg-type]
        ids=arrays.get("ids"),
        test_ids=arrays.get("test_ids"),
        notes=(", ".join(notes),) if notes else (),
    )
    for name, beside in (("ids", raw.targets), ("test_ids", raw.test_targets)):
        own = getattr(raw, name)
        if own is not None and len(own) != (0 if beside is None else len(beside)):
            raise bad(config, f"{name} has {len(own)} values", "give one id per row")
    return _with_roles(_with_validation(raw, arrays, config), given, config)


def _by_name(given: Mapping[str, Any], config: DataConfig) -> dict[str, Any]:
    """The same with the arrays `x.NAME` of a file as one mapping x, of several inputs."""
    found: dict[str, Any] = {}
    for full, array in given.items():
        name, dot, member = full.partition(".")
        if name in (given if dot else ()):
            raise bad(config, f"has both {name} and {full}", "give x, or each input as x.NAME")
        if dot:
            found.setdefault(name, {})[member] = array
        else:
            found[full] = array
    return found


def _with_validation(raw: Raw, arrays: dict[str, Any], config: DataConfig) -> Raw:
    """Validation rows of the person's own behind the others, and which rows they are."""
    if "x_validation" not in arrays:
        return raw
    x, y = arrays["x_validation"], np.asarray(arrays["y_validation"])
    parts = np.repeat(["train", "validation"], [len(raw.targets), len(y)])
    ids = None if raw.ids is None else np.concatenate([raw.ids, -1 - np.arange(len(y))])
    return replace(
        raw,
        inputs=_together(raw.inputs, x, config),
        targets=np.concatenate([raw.targets, y]),
        parts=parts,
        ids=ids,
    )


def _together(inputs: Any, more: Any, config: DataConfig) -> Any:
    """One set of inputs behind another; of several inputs each."""
    if not isinstance(inputs, Mapping) and not isinstance(more, Mapping):
        return np.concatenate([inputs, np.asarray(more)])
    if not (isinstance(inputs, Mapping) and isinstance(more, Mapping)) or set(inputs) != set(more):
        raise bad(config, "x_validation has other inputs than x", "give both the same")
    return {name: np.concatenate([inputs[name], np.asarray(more[name])]) for name in inputs}


def _with_roles(raw: Raw, given: Mapping[str, Any], config: DataConfig) -> Raw:
    found: dict[str, Any] = {}
    ours_of = {"groups": "groups", "order": "times", "split": "parts", "folds": "folds"}
    for key, ours in ours_of.items():
        name = getattr(config, key)
        if not isinstance(name, str):
            continue
        for suffix, place in (("", ours), ("_test", f"test_{ours}")):
            if name + suffix not in given:
                continue
            beside = raw.test_targets if suffix else raw.targets
            values = np.asarray(given[name + suffix])
            if beside is None or values.shape != (len(beside),):
                rule = f"{name + suffix} has shape {values.shape}"
                raise DataError(f"data.{key}", name, rule, "give one value for each row")
            found[place] = values
    if "parts" in found:
        if raw.parts is not None or raw.test_inputs is not None:
            rule = "the data have validation or test arrays of their own"
            raise DataError("data.split", config.split, rule, "name one split")
        found["parts"] = split_words(found["parts"], raw, config)
    found.pop("test_parts", None)
    found.pop("test_folds", None)
    if "folds" in found:
        found["folds"] = found["folds"].astype(str)
    return replace(raw, **found)
