"""Every branch of the verdict, with numbers like those of the canonical studies."""

import math

import pytest

from engram.measures.intervals import Interval
from engram.measures.verdict import learns, verdict


def around(mean, half=0.02):
    return Interval(mean, mean - half, mean + half, half / 2, 8)


def alone(mean):
    return Interval(mean, math.nan, math.nan, math.nan, 1)


CHANCE = 0.9
BEST = {"best_train_error": around(0.05), "best_gap": around(0.25)}


@pytest.mark.parametrize(
    ("expected", "words", "train", "gap", "more"),
    [
        ("underfit", "not learned", around(0.89), around(0.0), {}),
        ("underfit", "outweighs the gap", around(0.6), around(0.05), {}),
        (
            "underfit",
            "outweighs variance",
            around(0.6),
            around(0.05),
            {"bias2": around(0.5), "variance": around(0.1)},
        ),
        ("good", "is the best", around(0.02), around(0.01), {}),
        ("good", "tied", around(0.02), around(0.03), {"difference": around(0.005)}),
        ("data-limited", "more data", around(0.05), around(0.3), {}),
        ("data-limited", "tied", around(0.05), around(0.3), {"difference": around(-0.01)}),
        ("overfit", "gap explains", around(0.0), around(0.4), {"difference": around(0.1), **BEST}),
        ("overfit", "clearly above zero", around(0.0), around(0.4), {"difference": around(0.1)}),
        (
            "underfit",
            "train error explains",
            around(0.3),
            around(0.08),
            {"difference": around(0.08), **BEST},
        ),
        (
            "inconclusive",
            "neither part",
            around(0.07, 0.1),
            around(0.255),
            {"difference": around(0.025), **BEST},
        ),
        ("inconclusive", "would decide", around(0.05), around(0.0), {"difference": around(0.1)}),
        (
            "inconclusive",
            "about 7 more replicas",
            around(0.05),
            around(0.1),
            {"difference": around(0.02, 0.2), "more_replicas": 7},
        ),
        ("inconclusive", "single replica", alone(0.05), alone(0.1), {"difference": alone(0.1)}),
        ("inconclusive", "single replica", alone(0.05), alone(0.1), {}),
        ("inconclusive", "not clearly above", around(0.05), around(0.1, 0.05), {}),
    ],
)
def test_rules(expected, words, train, gap, more):
    found = verdict(train, gap, chance=CHANCE, **more)
    assert (found.verdict, words in found.reason) == (expected, True), found


def test_high_train_error_without_bias_is_not_underfit():
    found = verdict(
        around(0.5), around(0.3), chance=CHANCE, bias2=around(0.2), variance=around(0.4)
    )
    assert found.verdict == "data-limited"


def test_reason_carries_the_numbers():
    reason = verdict(around(0.05), around(0.3), chance=CHANCE).reason
    assert "0.300 ± 0.020" in reason
    assert "0.09" in reason


def test_only_configurations_that_learn_have_a_gap():
    assert not learns(around(0.9), CHANCE)
    assert not learns(around(0.67), CHANCE)  # the upper end counts: 0.69 > 0.675
    assert learns(around(0.6), CHANCE)
    assert not learns(around(0.6), CHANCE, share=0.5)
    assert learns(alone(0.6), CHANCE)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: verdict(around(math.nan), around(0.1), chance=0.9), "train_error = nan"),
        (lambda: verdict(around(0.1), around(0.1), chance=0.0), "chance = 0.0"),
        (lambda: learns(around(0.1), 0.9, share=1.0), "share = 1.0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
