"""Random numbers that belong to a replica: a function of (replica key, purpose, step), never of a shared state.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") makes
replica k draw the same numbers alone, among 1,024, in chunks, after a resume, and on any device.
The mixing function is the 32-bit finalizer "lowbias32" (Wellons 2018), in integer arithmetic that
wraps the same way everywhere.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF


def key(*words: int | str) -> int:
    """A 63-bit key for a purpose, from any words: key(seed, "order", replica, epoch)."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*words: int | str) -> torch.Generator:
    """A CPU generator at the start of the stream of these words."""
    return torch.Generator().manual_seed(key(*words))


def seed_all(key: int) -> None:
    """Start the shared random numbers of torch, numpy and Python, which a person's code draws from."""
    torch.manual_seed(key)
    np.random.seed(key % 2**32)
    random.seed(key)


@contextmanager
def forked() -> Iterator[None]:
    """The shared random numbers of torch on the CPU, numpy and Python are afterwards as they were."""
    kept = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            np.random.set_state(kept[0])
            random.setstate(kept[1])


def _mix(x: Tensor) -> Tensor:
    """lowbias32 on int32 bit patterns, in place; every step is a bijection of 32 bits."""
    x ^= (x >> 16) & 0xFFFF
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x *= -0x7B935975  # 0x846CA68B as a signed 32-bit number
    x ^= (x >> 16) & 0xFFFF
    return x


def step_streams(keys: Tensor, purposes: int, first_step: int, steps: int) -> Tensor:
    """One int32 stream per (step, purpose, replica) -> [steps, purposes, R].

    keys: int64 [R], one per replica. Depends on each replica's own key alone.
    """
    low = (keys & MASK).to(torch.int32)
    high = ((keys >> 32) & MASK).to(torch.int32)
    step = torch.arange(first_step, first_step + steps, dtype=torch.int32, device=keys.device)
    purpose = torch.arange(purposes, dtype=torch.int32, device=keys.device)
    counter = _mix(step[:, None] * 0x01000193 + purpose[None, :] + 1)  # [steps, purposes]
    return _mix(_mix(counter[:, :, None] ^ low) ^ high)


def again(stream: Tensor, call: int) -> Tensor:
    """The streams of a further call in the same step: int32 of the same shape, unlike any other call's."""
    return _mix(stream ^ (((call * 0x01000193) + 0x9E3779B9 + 2**31) % 2**32 - 2**31))


def uniform_bits(stream: Tensor, count: int) -> Tensor:
    """`count` uniform 16-bit integers in [0, 65536) per stream: int32 [...] -> int32 [..., count].

    One stream under vmap gives what it gives among many.
    """
    half = (count + 1) // 2
    counter = torch.arange(half, dtype=torch.int32, device=stream.device)
    # An odd multiplier spreads neighbouring counters before they meet the stream.
    bits = _mix((counter * -0x61C88647) ^ stream[..., None])
    return torch.cat([bits & 0xFFFF, (bits >> 16) & 0xFFFF], -1)[..., :count]


def uniforms(stream: Tensor, count: int) -> Tensor:
    """`count` uniform floats in [0, 1) per stream: stream int32 [R] -> float32 [R, count], 24 bits each."""
    counter = torch.arange(count, dtype=torch.int32, device=stream.device)
    bits = _mix((counter * -0x61C88647)[None, :] ^ stream[:, None])
    return ((bits >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24
