"""The Pareto front against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.measures import pareto


def test_the_front_of_a_known_set():
    points = [[1, 5], [2, 3], [3, 3], [4, 1], [5, 5], [2, 3]]
    assert pareto.front(points) == [0, 1, 5, 3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_nothing_on_the_front_is_dominated_and_everything_else_is(points):
    values = np.array(points, float)
    front = set(pareto.front(values))
    for i, point in enumerate(values):
        beaten = any((q <= point).all() and (q < point).any() for q in values)
        assert (i in front) != beaten


def test_nan_is_refused():
    with pytest.raises(ValueError, match="points"):
        pareto.front([[1.0, float("nan")]])
