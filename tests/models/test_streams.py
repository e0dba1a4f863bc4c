"""Random numbers belong to a replica: uniform, independent, and the same in any company."""

import torch
from torch.func import vmap

from engram.models import streams


def test_a_key_depends_on_every_word_and_on_nothing_else():
    assert streams.key(0, "init", 3) == streams.key(0, "init", 3)
    keys = {streams.key(s, w, r) for s in range(5) for w in ("init", "order") for r in range(50)}
    assert len(keys) == 5 * 2 * 50
    assert streams.key(1, 23) != streams.key(12, 3)


def test_step_streams_of_a_replica_do_not_depend_on_its_company():
    keys = torch.tensor([streams.key(0, r) for r in range(16)])
    together = streams.step_streams(keys, purposes=3, first_step=0, steps=20)
    alone = streams.step_streams(keys[5:6], purposes=3, first_step=0, steps=20)
    assert torch.equal(together[:, :, 5], alone[:, :, 0])


def test_step_streams_do_not_depend_on_where_a_run_was_cut():
    keys = torch.tensor([streams.key(0, r) for r in range(4)])
    whole = streams.step_streams(keys, 2, 0, 20)
    assert torch.equal(whole[7:], streams.step_streams(keys, 2, 7, 13))


def test_step_streams_differ_between_steps_purposes_and_replicas():
    keys = torch.tensor([streams.key(0, r) for r in range(64)])
    drawn = streams.step_streams(keys, 4, 0, 250).flatten()
    assert drawn.unique().numel() > drawn.numel() - 10  # 64,000 of 2^32: about half a collision


def test_uniform_bits_are_uniform_and_uncorrelated_between_streams():
    keys = torch.tensor([streams.key(7, r) for r in range(2)])
    a, b = (
        streams.uniform_bits(s, 200_001).double() / 65536
        for s in streams.step_streams(keys, 1, 0, 1)[0, 0]
    )
    assert a.numel() == 200_001
    for drawn in (a, b):
        assert abs(drawn.mean() - 0.5) < 4 * 12**-0.5 / 200_001**0.5
        counts = torch.histc(drawn, 64, 0, 1)
        chi2 = ((counts - 200_001 / 64) ** 2 / (200_001 / 64)).sum()
        assert chi2 < 63 + 4 * 126**0.5
    for other in (b, a.roll(1), a.roll(100_001)):
        correlation = torch.corrcoef(torch.stack([a, other]))[0, 1]
        assert abs(correlation) < 4 / 200_001**0.5


def test_uniform_bits_under_vmap_equal_those_of_each_stream():
    drawn = torch.arange(5, dtype=torch.int32) * 1_000_003
    stacked = vmap(lambda s: streams.uniform_bits(s, 33))(drawn)
    for row, stream in zip(stacked, drawn, strict=True):
        assert torch.equal(row, streams.uniform_bits(stream, 33))
    assert torch.equal(streams.uniform_bits(drawn, 33), stacked)


def test_uniforms_lie_in_the_half_open_unit_interval():
    drawn = streams.uniforms(torch.arange(8, dtype=torch.int32), 50_000)
    assert drawn.shape == (8, 50_000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(drawn.double().mean() - 0.5) < 4 * 12**-0.5 / 400_000**0.5
