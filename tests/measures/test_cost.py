"""Cost: operation counts, throughput, ratios."""

import numpy as np
import pytest

from engram.measures import cost


def test_counts():
    assert cost.forward_multiplications(1000, 5) == 5000
    assert cost.forward_multiplications(1000, 5, uses=40) == 200_000
    assert cost.training_flops(1000, 2000 * 40) == 6 * 1000 * 80_000


def test_throughput():
    found = cost.throughput([1.0, 2.0], 100)
    assert found.mean == 75
    assert found.n == 2


def test_ratio_is_geometric_and_inverts():
    a, b = np.array([2.0, 4.0, 3.0]), np.array([1.0, 1.0, 1.5])
    found, inverse = cost.ratio(a, b), cost.ratio(b, a)
    assert found.mean == pytest.approx((2 * 4 * 2) ** (1 / 3))
    assert inverse.low == pytest.approx(1 / found.high)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cost.forward_multiplications(0), "parameters = 0"),
        (lambda: cost.throughput([0.0], 5), "above 0"),
        (lambda: cost.ratio([1.0], [-1.0]), "-1.*above 0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
