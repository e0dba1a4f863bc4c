"""What counts as an array here: numpy, lists or torch tensors in, checked numpy out.

Knows shapes and ranges; must not know any measure. Torch is recognised by its methods, never imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class PerExample(dict[str, Floats]):
    """Arrays with one entry per example, by name: `result.per_example["bias2"]` or `.bias2`."""

    def means(self, *names: str) -> dict[str, float]:
        """The mean over examples of each named array."""
        return {name: float(self[name].mean()) for name in names}

    def __getattr__(self, name: str) -> Floats:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; known: {', '.join(self)}") from None


def plain(values: Any) -> NDArray[Any]:
    """`values` as a numpy array; a torch tensor is detached, moved to the CPU and, if bfloat16, widened."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def floats(
    values: Any, name: str, *, ndim: int | tuple[int, ...] | None = None, nan: bool = False
) -> Floats:
    """float64 copy-if-needed of `values`; refuses infinities, NaN (unless `nan`), emptiness and other ranks."""
    array = plain(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold numbers")
    array = array.astype(np.float64, copy=False)
    _shape(array, name, ndim)
    wrong = np.isinf(array) if nan else ~np.isfinite(array)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(place)} = {array[place]}; every value must be finite"
            + (" or NaN (undefined)" if nan else "")
        )
    return array


def booleans(values: Any, name: str, *, ndim: int | tuple[int, ...] | None = None) -> Bools:
    """bool array; numbers are accepted when they are all 0 or 1."""
    array = plain(values)
    _shape(array, name, ndim)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} holds {_first(array, (0, 1))}; it must hold only 0 and 1")
    return array.astype(bool)


def integers(values: Any, name: str, *, ndim: int | tuple[int, ...] | None = None) -> Ints:
    """int64 array; floats are accepted when they are all whole numbers."""
    array = plain(values)
    _shape(array, name, ndim)
    if array.dtype.kind == "f":
        broken = array[~(np.isfinite(array) & (array == np.floor(array)))]
        if broken.size:
            raise ValueError(f"{name} holds {broken.flat[0]}; it must hold whole numbers")
    elif array.dtype.kind not in "biu":
        raise ValueError(f"{name} has dtype {array.dtype}; it must hold whole numbers")
    return array.astype(np.int64)


def labels(values: Any, name: str, *, examples: int, classes: int | None = None) -> Ints:
    """Class labels [examples], each in [0, classes)."""
    array = integers(values, name, ndim=1)
    same(name, array.shape, "examples", (examples,))
    outside = array[(array < 0) | (array >= (classes if classes is not None else np.inf))]
    if outside.size:
        top = "" if classes is None else f" and below {classes}, the number of classes"
        raise ValueError(f"{name} holds {outside[0]}; a label is at least 0{top}")
    return array


def members(values: Any, name: str, shape: tuple[int, ...]) -> Bools:
    """Who was trained on what: bool, 0/1, or counts of a bootstrap draw, of the given shape."""
    array = floats(values, name)
    same(name, array.shape, "the replicas and examples", shape)
    if array.min() < 0:
        raise ValueError(
            f"{name} holds {array.min()}; it says whether, or how often, an example is used"
        )
    return array > 0


def same(name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]) -> None:
    """Refuses two shapes that must agree and do not."""
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} has shape {tuple(shape)}; {other} asks for {tuple(expected)}")


def within(name: str, value: float, low: float, high: float, *, ends: bool = False) -> float:
    """`value` if it lies in (low, high), or [low, high] with `ends`."""
    inside = low <= value <= high if ends else low < value < high
    if not inside:
        brackets = "[]" if ends else "()"
        raise ValueError(f"{name} = {value} is outside {brackets[0]}{low:g}, {high:g}{brackets[1]}")
    return float(value)


def _shape(array: NDArray[Any], name: str, ndim: int | tuple[int, ...] | None) -> None:
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise ValueError(f"{name} has shape {array.shape}; it must have {wanted} dimensions")
    if array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; it must not be empty")


def _first(array: NDArray[Any], allowed: tuple[int, ...]) -> Any:
    if array.dtype.kind not in "iuf":
        return f"dtype {array.dtype}"
    return array[~np.isin(array, allowed)].flat[0]
