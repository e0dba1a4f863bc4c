"""The averaged predictor: reference value, exact ambiguity decomposition, errors of classes and values."""

import numpy as np
import pytest
from scipy.special import softmax

from engram.measures import bias_variance, ensemble


def test_reference(vector):
    v = vector("v11_ambiguity")
    result = ensemble.ensemble(np.array(v["pred"])[:, None], [v["target"]])
    assert result.error == result.squared == pytest.approx(v["ens_mse"], abs=1e-9)
    assert result.member_squared == pytest.approx(v["avg_mse"], abs=1e-9)
    assert result.ambiguity == pytest.approx(v["ambiguity"], abs=1e-9)


def test_ambiguity_is_the_plugin_variance_and_adds_up():
    generator = np.random.default_rng(0)
    p = softmax(generator.normal(size=(6, 20, 4)), axis=2)
    labels = generator.integers(4, size=20)
    result = ensemble.ensemble(p, labels)
    assert result.squared == pytest.approx(result.member_squared - result.ambiguity, abs=1e-12)
    parts = bias_variance.squared(p, labels).per_example
    np.testing.assert_allclose(result.per_example["ambiguity"], parts["variance_plugin"])
    np.testing.assert_allclose(result.per_example["squared"], parts["bias2_plugin"])
    assert result.member_error == pytest.approx((p.argmax(2) != labels).mean())
    assert result.gain == result.member_error - result.error


def test_probabilities_are_averaged_not_votes():
    p = np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    assert ensemble.ensemble(p, [0]).error == 0.0  # two of three would vote for class 1
    assert ensemble.ensemble(p, [0]).member_error == pytest.approx(2 / 3)


def test_one_member_gains_nothing():
    result = ensemble.ensemble([[[0.2, 0.8]]], [1])
    assert (result.gain, result.ambiguity) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ensemble.ensemble(np.full((2, 1, 2), -1.0), [0]), r"-1.*\[0, 1\]"),
        (lambda: ensemble.ensemble(np.zeros((2, 3)), [0, 1]), r"\(2,\).*\(3,\)"),
        (lambda: ensemble.ensemble(np.zeros(3), [0, 1, 2]), r"\[R, N\]"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
