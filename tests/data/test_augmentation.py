"""Augmentations: pure in their uniforms, one example at a time, and what each one does."""

import numpy as np
import pytest
import torch

from engram.data import augmentation
from engram.data.config import AUGMENTATION_KINDS
from engram.data.dataset import DataError

SHAPES = {"vector": [(7,)], "sequence": [(40,)], "image": [(8, 8), (3, 9, 12)]}
CASES = [
    (name, kind, shape)
    for name, kinds in AUGMENTATION_KINDS.items()
    if name not in ("none", "mixup")  # which mixes examples: tests/models/test_pieces.py
    for kind in kinds
    for shape in SHAPES[kind]
]


def batch(name, kind, shape, replicas=3, size=5, seed=0):
    change = augmentation.get(name, kind)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn((replicas, size, *shape), generator=generator)
    u = torch.rand((replicas, size, change.uniforms(shape)), generator=generator)
    return change, inputs, u


@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_each_example_depends_on_itself_alone(name, kind, shape):
    change, inputs, u = batch(name, kind, shape)
    before = inputs.clone()
    out = change(inputs, u)
    assert out.shape == inputs.shape
    assert out.dtype == inputs.dtype
    assert torch.equal(inputs, before)
    assert not torch.equal(out, inputs)
    for r in range(3):
        for b in range(5):
            alone = change(inputs[r : r + 1, b : b + 1], u[r : r + 1, b : b + 1])
            assert torch.equal(alone[0, 0], out[r, b])


@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_the_ends_of_the_uniforms_are_fine(name, kind, shape):
    change, inputs, u = batch(name, kind, shape)
    for end in (0.0, 1 - 2**-24):
        out = change(inputs, torch.full_like(u, end))
        assert torch.isfinite(out).all()


def test_none_is_nothing():
    assert augmentation.get("none", "vector") is None


@pytest.mark.parametrize(
    ("name", "kind"), [("flip", "sequence"), ("shift", "image"), ("cutout", "vector")]
)
def test_the_wrong_kind_is_refused(name, kind):
    with pytest.raises(DataError) as caught:
        augmentation.get(name, kind)
    assert caught.value.key == "data.augmentation"
    assert "noise" in caught.value.fix


def test_shift_turns_by_up_to_a_tenth_each_step_equally_often():
    change = augmentation.get("shift", "sequence")
    count = 9000
    inputs = torch.arange(40.0).expand(1, count, 40)
    u = (torch.arange(count, dtype=torch.float32) / count).reshape(1, count, 1)
    out = change(inputs, u)[0]
    steps = out.argmin(dim=1)
    steps = torch.where(steps > 20, steps - 40, steps)
    values, counts = steps.unique(return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert (counts - 1000).abs().max() <= 1
    for row, step in zip(out[::500], steps[::500], strict=True):
        assert torch.equal(row, torch.arange(40.0).roll(int(step)))


def test_scale_multiplies_by_08_to_12():
    change, inputs, u = batch("scale", "sequence", (40,), size=500)
    factor = change(inputs, u) / inputs
    assert torch.allclose(factor, factor[..., :1].expand(factor.shape), atol=1e-4)
    assert 0.8 - 1e-4 <= factor.min() < 0.82
    assert 1.18 < factor.max() <= 1.2 + 1e-4


def test_noise_is_normal_with_sd_one_tenth():
    change, inputs, u = batch("noise", "image", (8, 8), size=300)
    added = (change(inputs, u) - inputs).numpy().ravel() / 0.1
    assert added.mean() == pytest.approx(0, abs=0.02)
    assert added.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(added) > 1.96).mean() == pytest.approx(0.05, abs=0.005)


def test_flip_turns_half_of_the_images():
    change, inputs, u = batch("flip", "image", (3, 9, 12), size=400)
    out = change(inputs, u)
    turned = (out == inputs.flip(-1)).flatten(2).all(-1)
    same = (out == inputs).flatten(2).all(-1)
    assert (turned ^ same).all()
    assert 0.4 < turned.float().mean() < 0.6


def test_crop_moves_and_fills_with_zeros():
    change = augmentation.get("crop", "image")
    image = torch.arange(1.0, 65).reshape(1, 1, 8, 8)
    seen = set()
    for i in range(9):
        u = torch.tensor([(i // 3 + 0.5) / 3, (i % 3 + 0.5) / 3]).reshape(1, 1, 2)
        down, right = i // 3 - 1, i % 3 - 1
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        expected = padded[..., 1 + down : 9 + down, 1 + right : 9 + right]
        out = change(image, u)
        assert torch.equal(out, expected)
        seen.add(out.sum().item())
    assert len(seen) > 5


def test_cutout_zeroes_one_square():
    change = augmentation.get("cutout", "image")
    images = torch.ones(1, 600, 3, 16, 16)
    u = torch.rand(1, 600, 2, generator=torch.Generator().manual_seed(0))
    gone = change(images, u)[0] == 0
    assert torch.equal(gone[:, 0], gone[:, 2])
    rows, columns = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() == 4
    assert rows.min() >= 2
    assert columns.max() == 4
