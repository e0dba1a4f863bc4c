"""How much of the spread between trials each setting explains."""

import numpy as np
import pytest

from engram.measures.importance import importance


def test_a_setting_that_does_everything_explains_everything():
    setting = [0, 1, 2] * 8
    found = importance({"a": setting}, np.array(setting, float))
    assert found.share["a"] == pytest.approx(1)
    assert found.significant("a")
    assert found.rest == pytest.approx(0)


def test_settings_that_do_nothing_are_not_above_chance():
    above = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        found = importance({"a": generator.random(40)}, generator.normal(size=40), shuffles=200)
        above += found.significant("a")
    assert above <= 9  # 5 % of 60 is 3; more than 9 has a chance below 0.1 %


def test_shares_follow_the_sizes_of_the_effects():
    generator = np.random.default_rng(0)
    large, small = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    noise = generator.normal(size=200)
    found = importance({"large": large, "small": small}, 3.0 * large + 1.0 * small + 0.2 * noise)
    # Effects of 3 and 1 on uniform thirds: variances 9 to 1.
    assert found.share["large"] == pytest.approx(0.9, abs=0.04)
    assert found.share["small"] == pytest.approx(0.1, abs=0.06)


def test_continuous_and_text_settings_are_grouped():
    generator = np.random.default_rng(1)
    x = generator.random(60)
    words = [["relu", "tanh"][int(v > 0.5)] for v in x]
    found = importance({"x": x.tolist(), "word": words}, x)
    assert found.share["x"] > 0.9
    assert 0.6 < found.share["word"] < 0.9


def test_equal_values_have_no_importance():
    found = importance({"a": [1, 2, 3, 4] * 3}, np.ones(12))
    assert found.share["a"] == 0
    assert not found.significant("a")


def test_refuses_what_it_cannot_tell():
    with pytest.raises(ValueError, match="at least 4"):
        importance({"a": [1, 2]}, [0.1, 0.2])
    with pytest.raises(ValueError, match="one a trial"):
        importance({"a": [1, 2, 3]}, [0.1, 0.2, 0.3, 0.4])
