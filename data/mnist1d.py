"""MNIST-1D: the published 4000 + 1000 examples, and a stream of as many more as are wanted.

The published set is rebuilt offline by the package `mnist1d` (seed 42). The stream draws from the
same distribution, vectorised; only elementwise operations are used, no matrix product, so its
bytes do not depend on the number of threads or on the linear algebra library.
Source: Greydanus & Kobak 2024, arXiv:2011.14439.
"""

from __future__ import annotations

import hashlib
import random
from functools import cache
from pathlib import Path

import numpy as np

from engram import files
from engram.data.dataset import DataError

LENGTH, CLASSES = 40, 10
POOL, TEST = 4000, 1000

# The package's default arguments.
TEMPLATE, PADDING, SHIFTS = 12, (36, 60), 48
DILATED = TEMPLATE + PADDING[1]  # 72
SCALE, SHEAR, CORRELATED_SD, IID_SD = 0.4, 0.75, 0.25, 0.02
EPSILON = 1e-8  # keeps the template's own zeros apart from padding

# Exact mean and standard deviation of one value before standardization, over the whole distribution
# (tests/data/test_mnist1d.py recomputes them). The package uses those of its 5000 examples.
MEAN, SD = -0.006050606300962956, 0.15469413293961837

BLOCK = 4096  # examples that share one random generator; a prefix of the stream is a prefix
POOL_STREAM, TEST_STREAM = 0, 1

# Of the published file (labels, and its inputs rounded to float32), from the authors' repository.
LABELS_SHA256 = "d97dc7aecec8ad6b5d8f143ba3e9c4bd7e25c420d7dfc2eb990591cfc0ed3e15"
INPUTS_SHA256 = "d53506bddd12d3b72c7153b1ae7f34807724b1dd078a7273809bf9d0792319f6"
TEST_LABELS_SHA256 = "8de99be3ff9dab15ae0dc072c3d6ced7cf6b33d365888ce4a386fc944489452c"
TEST_INPUTS_SHA256 = "30addc43827c82aafa5db8bc97cea63349ca687e87db2f201cc4f5415d9a4ebd"
PROJECTION = 445.718459  # of all 5000 inputs: see projection()

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def canonical(folder: Path | None = None) -> Arrays:
    """The published inputs [4000, 40], labels, test inputs [1000, 40], test labels.

    folder: where the arrays are kept after the first build (about 2 s); None keeps nothing.
    """
    if folder is None:
        return _build()
    path = Path(folder) / "mnist1d.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = _build()
        x, y, x_test, y_test = arrays
        files.write(path, lambda out: np.savez(out, x=x, y=y, x_test=x_test, y_test=y_test))
    return arrays


def projection(inputs: np.ndarray, test_inputs: np.ndarray) -> float:
    """One number that every value moves: sum over all values of value x cos(its position)."""
    values = np.concatenate([inputs.ravel(), test_inputs.ravel()]).astype(np.float64)
    return float((values * np.cos(np.arange(values.size))).sum())


def is_published(arrays: Arrays) -> bool:
    """Whether these are the published examples; inputs may differ in the last float32 digit."""
    inputs, labels, test_inputs, test_labels = arrays
    if inputs.shape != (POOL, LENGTH) or test_inputs.shape != (TEST, LENGTH):
        return False
    same = _sha256(labels) == LABELS_SHA256 and _sha256(test_labels) == TEST_LABELS_SHA256
    return same and abs(projection(inputs, test_inputs) - PROJECTION) < 1e-3


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _build() -> Arrays:
    # The package seeds the global generators, so their state is put back.
    states = random.getstate(), np.random.get_state()
    try:
        from mnist1d.data import make_dataset

        made = make_dataset()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    arrays = (
        made["x"].astype(np.float32),
        made["y"].astype(np.int64),
        made["x_test"].astype(np.float32),
        made["y_test"].astype(np.int64),
    )
    if not is_published(arrays):
        raise DataError(
            "data.name",
            "mnist1d",
            "the installed package mnist1d does not rebuild the published examples",
            "install the locked versions of mnist1d, numpy and scipy",
        )
    return arrays


def _read(path: Path) -> Arrays | None:
    """The kept arrays; None where there are none or they are damaged (then they are rebuilt)."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            arrays = (kept["x"], kept["y"], kept["x_test"], kept["y_test"])
    except Exception:  # zip, header and value errors alike: whatever is wrong, it is rebuilt
        return None
    return arrays if is_published(arrays) else None


def stream(count: int, seed: int, number: int = POOL_STREAM) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` examples of a stream: inputs float32 [count, 40], labels int64 [count].

    Labels are independent and uniform. A stream is fixed by (seed, number); a shorter one is a
    prefix of a longer one. Memory: the result and about 10 MB.
    """
    inputs = np.empty((count, LENGTH), np.float32)
    labels = np.empty(count, np.int64)
    for block, start in enumerate(range(0, count, BLOCK)):
        stop = min(start + BLOCK, count)
        generator = np.random.Generator(np.random.PCG64([seed, number, block]))
        values, classes = _block(generator)
        inputs[start:stop] = values[: stop - start]
        labels[start:stop] = classes[: stop - start]
    return inputs, labels


def _block(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.integers(0, CLASSES, BLOCK)
    padding = generator.integers(0, PADDING[1] - PADDING[0] + 1, BLOCK)
    shift = generator.integers(0, SHIFTS, BLOCK)
    scale, shear = generator.random((2, BLOCK), np.float32)
    correlated = generator.standard_normal((BLOCK, DILATED), np.float32)
    iid = generator.standard_normal((BLOCK, DILATED), np.float32)
    values = transform(labels, padding, shift, scale, shear, correlated, iid)
    values -= np.float32(MEAN)
    values *= np.float32(1 / SD)
    return values, labels


def transform(
    labels: np.ndarray,
    padding: np.ndarray,
    shift: np.ndarray,
    scale: np.ndarray,
    shear: np.ndarray,
    correlated: np.ndarray,
    iid: np.ndarray,
) -> np.ndarray:
    """The package's `transform` for B examples at once, with its random numbers given.

    labels in 0..9, padding in 0..24 (zeros above 36), shift in 0..47: int [B].
    scale, shear: uniforms [B]; correlated, iid: standard normals [B, 72] -> float32 [B, 40],
    not yet standardized. Padding, dilation, shift and the last interpolation are linear in the
    template, so they are tabulated; the noise fills only where the template is padded.
    """
    signal, padded = _tables()
    entry = (labels * (PADDING[1] - PADDING[0] + 1) + padding) * SHIFTS + shift  # [B]
    noise = _smooth(correlated)  # [B, 72]
    noise *= padded[entry]
    noise += np.float32(IID_SD) * iid
    values = _subsample(noise)  # [B, 40]
    amplitude = 1 + np.float32(SCALE) * (scale.astype(np.float32) - np.float32(0.5))
    values += amplitude[:, None] * signal[entry]
    slope = np.float32(SHEAR) * (shear.astype(np.float32) - np.float32(0.5))
    values -= slope[:, None] * np.linspace(-0.5, 0.5, LENGTH, dtype=np.float32)
    return values


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each (class, padding, shift): the clean signal [12000, 40], and where noise goes [.., 72]."""
    dilated = []  # [class x padding][72]
    for template in _templates():
        for zeros in range(PADDING[0], PADDING[1] + 1):
            long = np.concatenate([template + EPSILON, np.zeros(zeros)])
            dilated.append(_interpolate(long, DILATED))
    table = np.stack(dilated)
    rolled = np.stack([np.roll(table, k, axis=1) for k in range(SHIFTS)], axis=1)
    rolled = rolled.reshape(-1, DILATED)  # [12000, 72]
    signal = np.stack([_interpolate(row, LENGTH) for row in rolled]).astype(np.float32)
    return signal, (rolled == 0).astype(np.float32) * np.float32(CORRELATED_SD)


def _templates() -> np.ndarray:
    """Ten digits as twelve heights, centred, scaled, and starting at zero: float64 [10, 12]."""
    heights = np.array(
        [
            [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
            [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
            [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
            [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
            [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
            [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
            [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
            [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
            [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
            [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
        ]
    )
    heights -= heights.mean(1, keepdims=True)
    heights /= heights.std(1, keepdims=True)
    heights -= heights[:, :1]
    return heights / 6


def _interpolate(values: np.ndarray, count: int) -> np.ndarray:
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(values)), values)


@cache
def _gaussian() -> np.ndarray:
    """Weights of scipy's gaussian_filter with sigma 2: offsets 0 to 8."""
    weights = np.exp(-0.5 * (np.arange(9) / 2.0) ** 2)
    return (weights / (weights[0] + 2 * weights[1:].sum())).astype(np.float32)


def _smooth(noise: np.ndarray) -> np.ndarray:
    """Gaussian filter along the last axis with reflected ends: [B, 72] -> [B, 72]."""
    noise = noise.astype(np.float32, copy=False)
    width, radius = noise.shape[1], 8
    wide = np.concatenate([noise[:, radius - 1 :: -1], noise, noise[:, : -radius - 1 : -1]], axis=1)
    # On the flattened array every shift is contiguous; what spills over row ends is cut off below.
    flat = wide.ravel()
    size = flat.size - 2 * radius
    weights = _gaussian()
    total = flat[radius : radius + size] * weights[0]
    pair = np.empty_like(total)
    for offset in range(1, radius + 1):
        left, right = radius - offset, radius + offset
        np.add(flat[left : left + size], flat[right : right + size], out=pair)
        pair *= weights[offset]
        total += pair
    out = np.empty(flat.size, np.float32)
    out[:size] = total
    return out.reshape(wide.shape)[:, :width].copy()


@cache
def _subsample_weights() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position = np.linspace(0, 1, LENGTH) * (DILATED - 1)
    low = np.minimum(np.floor(position).astype(int), DILATED - 2)
    high = (position - low).astype(np.float32)
    return low, np.float32(1) - high, high


def _subsample(values: np.ndarray) -> np.ndarray:
    """Linear interpolation of 72 points at 40: [B, 72] -> [B, 40]."""
    low, left, right = _subsample_weights()
    out = values[:, low] * left
    out += values[:, low + 1] * right
    return out
