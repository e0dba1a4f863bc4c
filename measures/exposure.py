"""How far a network gives away a secret of its training text: exposure, and whether it says it by itself.

Knows no network; log-probabilities come in as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.measures import arrays
from engram.measures.arrays import Floats


def exposure(log_probabilities: Any, secret: Any) -> Floats:
    """log2 |R| - log2 rank of the secret among all |R| that it might have been, in bits.

    log_probabilities: [..., |R|], of each possible secret; secret: [...], the place of the right one among them.
    Of a network that never saw it the rank is uniform: the mean is log2 |R| - mean log2 rank, about 1.44 bits for a
    large |R|. The most is log2 |R|. Ties share their mean rank. Source: Carlini et al. 2019, arXiv:1802.08232."""
    values = arrays.floats(log_probabilities, "log_probabilities")
    place = arrays.plain(secret)
    arrays.same("secret", place.shape, "log_probabilities before its last axis", values.shape[:-1])
    own = np.take_along_axis(values, place[..., None], -1)
    rank = 1 + (values > own).sum(-1) + ((values == own).sum(-1) - 1) / 2
    return np.log2(values.shape[-1]) - np.log2(rank)
