"""Wrong labels: how many are fitted, and when."""

import numpy as np
import pytest

from engram.measures import intervals, noise


def training(wrong_at, epochs=6):
    """Two classes of labels: clean ones (given 0) fitted from epoch 2, wrong ones (given 1) from `wrong_at`."""
    given, wrong = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1])
    predicted = np.zeros((len(wrong_at), epochs, 5), int)
    for r, start in enumerate(wrong_at):
        predicted[r, :1, :3] = 2
        predicted[r, start - 1 :, 3:] = 1
    return predicted, given, wrong


def test_shares_and_delay():
    predicted, given, wrong = training([4, 5, 4])
    shares = noise.fitted(predicted, given, wrong, true=np.zeros(5, int))
    np.testing.assert_allclose(shares.clean[0], [0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(shares.wrong[0], [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(shares.true[0], [1, 1, 1, 0, 0, 0])
    found = noise.delay(shares)
    np.testing.assert_array_equal(found.per_replica, [2, 3, 2])
    assert found.interval.mean == pytest.approx(7 / 3)
    assert (found.later, found.sooner) == (3, 0)
    assert found.clean.median == 2


def test_never_fitted_counts_as_later():
    predicted, given, wrong = training([99] * 8)
    found = noise.delay(noise.fitted(predicted, given, wrong))
    assert np.isnan(found.per_replica).all()
    assert (found.later, found.sooner) == (8, 0)
    assert found.p_value == pytest.approx(2 / 2**8)
    assert found.interval.n == 0


def test_only_own_examples_count():
    predicted, given, wrong = training([4, 4])
    member = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 1, 0]])
    shares = noise.fitted(predicted, given, wrong, member)
    assert np.isnan(shares.wrong[0]).all()
    np.testing.assert_allclose(shares.wrong[1], [0, 0, 0, 1, 1, 1])


def test_sign_test():
    assert intervals.sign_test(6, 0) == pytest.approx(2 / 64)
    assert intervals.sign_test(3, 3) == pytest.approx(1.0)
    assert intervals.sign_test(0, 0) == 1.0


def test_refusals():
    predicted, given, wrong = training([4])
    with pytest.raises(ValueError, match="wrong has shape"):
        noise.fitted(predicted, given, wrong[:2])
    with pytest.raises(ValueError, match="3 dimensions"):
        noise.fitted(predicted[0], given, wrong)
    with pytest.raises(ValueError, match="share = 0"):
        noise.delay(noise.fitted(predicted, given, wrong), share=0)
