"""The gap per replica, each side on its own examples."""

import numpy as np
import pytest
from scipy.special import log_softmax

from engram.measures import generalization


def test_gap_is_test_minus_train_per_replica():
    result = generalization.gap([0.1, 0.2, 0.0], [0.3, 0.5, 0.4])
    np.testing.assert_allclose(result.per_replica, [0.2, 0.3, 0.4])
    assert result.interval.mean == pytest.approx(0.3)
    assert result.interval.n == 3


def test_networks_of_one_draw_are_one_unit():
    train, test = np.zeros(6), np.repeat([0.1, 0.2, 0.3], 2)
    assert generalization.gap(train, test, inits=2).interval.n == 3


def test_train_side_uses_own_subset():
    predicted = np.array([[0, 1, 1], [1, 1, 0]])
    member = np.array([[1, 1, 0], [0, 1, 1]])
    np.testing.assert_allclose(generalization.errors(predicted, [0, 1, 0]), [1 / 3, 1 / 3])
    np.testing.assert_allclose(generalization.errors(predicted, [0, 1, 0], member), [0, 0])
    np.testing.assert_allclose(generalization.errors(predicted, [1, 1, 1], member), [0.5, 0.5])


def test_bootstrap_counts_weigh():
    predicted, counts = np.array([[0, 1, 1]]), np.array([[3, 0, 1]])
    assert generalization.errors(predicted, [0, 0, 0], counts)[0] == 0.25
    assert np.isnan(generalization.errors(predicted, [0, 0, 0], np.zeros((1, 3)))[0])


def test_losses_are_nats():
    values = log_softmax(np.random.default_rng(0).normal(size=(2, 5, 3)), axis=2)
    labels = [0, 1, 2, 0, 1]
    expected = [-np.mean([row[i, c] for i, c in enumerate(labels)]) for row in values]
    np.testing.assert_allclose(generalization.losses(values, labels), expected)
    uniform = np.full((1, 2, 4), -np.log(4))
    assert generalization.losses(uniform, [0, 3])[0] == pytest.approx(np.log(4))


def test_regression():
    predictions = np.array([[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(generalization.squared_errors(predictions, [0.0, 0.0]), [2.5, 0.0])
    outputs = np.ones((1, 3, 2))
    assert generalization.squared_errors(outputs, np.zeros((3, 2)))[0] == 2.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: generalization.gap([0.1], [0.1, 0.2]), r"\(2,\).*\(1,\)"),
        (lambda: generalization.errors([[0]], [0], [[-1]]), "-1.*how often"),
        (lambda: generalization.errors([[0, 1]], [0, 1], [[1]]), "member has shape"),
        (lambda: generalization.gap([np.nan], [0.1]), "finite"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
