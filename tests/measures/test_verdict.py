"""Every branch of the verdict, with numbers like those of the canonical studies."""

import math
from pathlib import Path

import pytest

from engram.measures import verdict as rules
from engram.measures.intervals import Interval, Needed
from engram.measures.verdict import Best, Labels, MoreData, learns, verdict


def around(mean, half=0.02):
    return Interval(mean, mean - half, mean + half, half / 2, 8)


def alone(mean):
    return Interval(mean, math.nan, math.nan, math.nan, 1)


CHANCE = Labels(0.9)
NOISY = Labels(0.9, noise=0.5, held_out_noise=0.5)


def tied(difference, half=0.02):
    return {"best": Best(True, around(difference, half), around(0.05), around(0.25))}


def behind(difference, half=0.02, train=0.05, gap=0.25):
    return {"best": Best(False, around(difference, half), around(train), around(gap))}


@pytest.mark.parametrize(
    ("expected", "words", "train", "gap", "more"),
    [
        ("did not learn", "hardly below chance", around(0.89), around(0.0), {}),
        (
            "did not learn",
            "hardly below chance",
            around(0.80),
            around(0.0),
            {},
        ),  # its end is at 0.82
        ("underfit", "outweighs the gap", around(0.78), around(0.0), {}),
        ("underfit", "outweighs the gap", around(0.6), around(0.05), {}),
        (
            "underfit",
            "outweighs variance",
            around(0.6),
            around(0.05),
            {"bias2": around(0.5), "variance": around(0.1)},
        ),
        ("underfit", "outweighs the gap", around(0.6), around(0.05), behind(0.3)),
        ("good", "is the best", around(0.02), around(0.01), {}),
        ("good", "cannot be told", around(0.02), around(0.03), tied(0.005)),
        (
            "good",
            "cannot be told",
            around(0.02),
            around(0.03),
            tied(0.05),
        ),  # alone it would be told
        ("data-limited", "sweep data.train_size", around(0.05), around(0.3), {}),
        ("data-limited", "cannot be told", around(0.05), around(0.3), tied(-0.01)),
        (
            "data-limited",
            "more data helps: it does",
            around(0.05),
            around(0.3),
            {"data": MoreData(True, "it does")},
        ),
        (
            "inconclusive",
            "not what it lacks: no",
            around(0.05),
            around(0.3),
            {"data": MoreData(False, "no")},
        ),
        ("overfit", "gap explains", around(0.0), around(0.4), behind(0.1)),
        ("underfit", "train error explains", around(0.3), around(0.08), behind(0.08)),
        ("inconclusive", "neither part", around(0.07, 0.1), around(0.255), behind(0.025)),
        ("inconclusive", "neither part", around(0.05), around(0.01), behind(0.1, gap=-0.05)),
        (
            "inconclusive",
            "about 7 (3 to 20) more replicas",
            around(0.05),
            around(0.1),
            {**tied(0.02, 0.2), "needed": Needed(3, 7, 20)},
        ),
        (
            "inconclusive",
            "single replica",
            alone(0.05),
            alone(0.1),
            {"best": Best(True, alone(0.1), alone(0.05), alone(0.1))},
        ),
        (
            "inconclusive",
            "single replica",
            alone(0.05),
            alone(0.1),
            {"best": Best(True, None, alone(0), alone(0))},
        ),
        ("inconclusive", "single replica", alone(0.05), alone(0.1), {}),
        ("inconclusive", "not clearly above", around(0.05), around(0.1, 0.05), {}),
        (
            "unstable",
            "3 of 8 replicas",
            around(0.3, 0.3),
            around(0.1),
            {"train_errors": [0.02] * 5 + [0.85] * 3},
        ),
    ],
)
def test_rules(expected, words, train, gap, more):
    found = verdict(train, gap, CHANCE, **more)
    assert (found.verdict, words in found.reason) == (expected, True), found


@pytest.mark.parametrize(
    ("expected", "labels", "train", "gap", "more"),
    [
        # At the optimum under 50 % of wrong labels the train error is 0.5, and nobody can do better.
        ("at the noise floor", NOISY, around(0.5), around(0.0), {"error": around(0.5)}),
        ("good", Labels(0.9, noise=0.5), around(0.5), around(-0.4), {"error": around(0.1)}),
        ("good", NOISY, around(0.53), around(0.01), {"error": around(0.54)}),  # 0.56 > 0.52
        ("underfit", NOISY, around(0.75), around(0.0), {"error": around(0.75)}),
        ("did not learn", NOISY, around(0.88), around(0.0), {"error": around(0.88)}),
        ("data-limited", NOISY, around(0.0), around(0.6), {"error": around(0.6)}),
        ("overfit", NOISY, around(0.0), around(0.6), {"error": around(0.51, 0.001), **behind(0.1)}),
        ("at the noise floor", Labels(0.9, random=True), around(0.0), around(0.9), {}),
        ("did not learn", Labels(0.9, random=True), around(0.9), around(0.0), {}),
        # 99 : 1, no example of the rarer class found: error 0.01, that of a constant answer.
        (
            "did not learn",
            Labels(0.01, balanced_error=0.5, classes=2),
            around(0.001, 0.001),
            around(0.009, 1e-4),
            {},
        ),
        (
            "good",
            Labels(0.01, balanced_error=0.1, classes=2),
            around(0.001, 0.001),
            around(0.0005, 1e-4),
            {},
        ),
        ("good", Labels(0.9, balanced_error=0.89, classes=10), around(0.02), around(0.01), {}),
    ],
)
def test_labels_are_taken_into_account(expected, labels, train, gap, more):
    assert verdict(train, gap, labels, **more).verdict == expected


@pytest.mark.parametrize(
    ("errors", "word"),
    [
        ([0.02] * 7 + [0.82], "unstable"),  # 0.81 is nine tenths of chance
        ([0.02] * 7 + [0.80], "good"),
        ([0.68] * 7 + [0.82], "good"),  # none learned: three quarters of chance are 0.675
        ([0.67] * 7 + [0.82], "unstable"),
        ([0.82], "good"),
    ],
)
def test_unstable_needs_both_kinds_of_replica(errors, word):
    assert verdict(around(0.02), around(0.01), CHANCE, train_errors=errors).verdict == word


@pytest.mark.parametrize(
    ("gap", "word"),
    [
        (Interval(0.2, 0.0901, 0.31, 0.05, 8), "data-limited"),
        (Interval(0.2, 0.09, 0.31, 0.05, 8), "inconclusive"),  # not above a tenth of chance
        (Interval(0.09, 0.05, 0.13, 0.02, 8), "good"),
        (Interval(0.0901, 0.05, 0.13, 0.02, 8), "inconclusive"),
    ],
)
def test_the_limit_of_a_large_gap(gap, word):
    assert verdict(around(0.02), gap, CHANCE).verdict == word


def test_a_tie_may_be_as_wide_as_a_tenth_of_chance():
    assert verdict(around(0.02), around(0.01), CHANCE, **tied(0.0, 0.0899)).verdict == "good"
    assert (
        verdict(around(0.02), around(0.01), CHANCE, **tied(0.0, 0.0901)).verdict == "inconclusive"
    )


def test_high_train_error_without_bias_is_not_underfit():
    found = verdict(around(0.5), around(0.3), CHANCE, bias2=around(0.2), variance=around(0.4))
    assert found.verdict == "data-limited"
    assert (
        verdict(around(0.46, 0.02), around(0.01), CHANCE).verdict == "good"
    )  # its end, 0.44, is below half


def test_reason_carries_the_numbers():
    reason = verdict(around(0.05), around(0.3), CHANCE).reason
    assert "0.300 ± 0.020" in reason
    assert "0.09" in reason


def test_the_page_has_the_rules_in_force():
    page = Path(__file__).resolve().parents[2] / "docs" / "measures.md"
    assert rules.rules_table() in page.read_text(), "copy rules_table() there"
    words = set(rules.Name.__args__)
    assert {rule.word for rule in rules.RULES} == words


def test_only_configurations_that_learn_have_a_gap():
    assert not learns(around(0.9), 0.9)
    assert not learns(around(0.67), 0.9)  # the upper end counts: 0.69 > 0.675
    assert learns(around(0.6), 0.9)
    assert not learns(around(0.6), 0.9, share=0.5)
    assert learns(alone(0.6), 0.9)
    assert learns(around(0.7), 0.9, noise=0.5)  # 0.72 < 0.5 + 0.3
    assert not learns(around(0.79), 0.9, noise=0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: verdict(around(math.nan), around(0.1), CHANCE), "train_error = nan"),
        (lambda: verdict(around(0.1), around(0.1), Labels(0.0)), "chance = 0.0"),
        (lambda: learns(around(0.1), 0.9, share=1.0), "share = 1.0"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
