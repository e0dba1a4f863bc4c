"""A night against the last few: what is called a regression, what not, and what it is put down to."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from engram.sweeps.nightly import series, summary
from engram.sweeps.nightly.judgement import judge
from engram.sweeps.nightly.series import BETTER, FEW, NOISY, NOTHING, REGRESSION, STEADY, Earlier
from engram.sweeps.results.evidence import Evidence
from tests import fake_records
from tests.test_compare import shifted

DROPOUT = {"model.dropout": [0.0, 0.2]}
MARGIN = 0.01


def night(name: str = "n", **sections: object) -> Evidence:
    found = fake_records.evidence(DROPOUT, lambda p: 0.4 + p["model.dropout"], **sections)
    found.name = name
    return found


def noisy(evidence: Evidence, sd: float, seed: int, by: float = 0.0) -> Evidence:
    """The same night with independent noise on every replica, and a shift."""
    other = copy.deepcopy(evidence)
    random = np.random.default_rng(seed)
    for record in other.records:
        for name, values in record["replica_values"].items():
            moved = np.array(values) + sd * random.normal(size=len(values)) + by
            record["replica_values"][name] = moved.tolist()
            record["measures"][name] = fake_records._measure(moved)
    return other


def before(count: int = 7) -> list[Earlier]:
    return [Earlier(night(f"n{k}"), frozenset()) for k in range(count)]


def test_an_unchanged_night_is_identical():
    found = judge(night(), before(), MARGIN)
    assert (found.verdict, found.identical) == (STEADY, True)
    assert found.changes
    assert all(c.change == pytest.approx(0) for c in found.changes)


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("git.commit", "fedcba9", "code"),
        ("data.digest.mnist1d", "beef", "data"),
        ("version.torch", "9.9", "versions"),
        ("machine.cores", 64, "machine"),
    ],
)
def test_a_regression_is_put_down_to_what_changed(key: str, value: object, cause: str):
    tonight = shifted(night(), 1, 0.08)
    tonight.provenance[key] = value
    found = judge(tonight, before(), MARGIN)
    assert found.verdict == REGRESSION
    assert found.causes == [cause]
    assert {(c.params["model.dropout"], c.measure) for c in found.of(REGRESSION)} == {
        (0.2, "test_error"),
        (0.2, "generalization_gap"),
    }
    json.dumps(found.entry())


def test_without_any_recorded_change_it_says_so():
    found = judge(shifted(night(), 1, 0.08), before(), MARGIN)
    assert (found.verdict, found.causes) == (REGRESSION, [])
    assert summary.cause(found).startswith("unknown")


def test_a_change_within_the_margin_is_none():
    assert judge(shifted(night(), 1, 0.009), before(), MARGIN).verdict == STEADY
    assert judge(shifted(night(), 1, 0.011), before(), MARGIN).verdict == REGRESSION


def test_better_is_no_regression():
    assert judge(shifted(night(), 1, -0.08), before(), MARGIN).verdict == BETTER


def test_one_earlier_night_is_too_few():
    assert judge(shifted(night(), 1, 0.08), before(1), MARGIN).verdict == FEW
    assert judge(night(), [], MARGIN).verdict == FEW


def test_nothing_in_common_is_said():
    other = fake_records.evidence({"training.lr": [0.1, 0.2]})
    assert judge(other, before(), MARGIN).verdict == NOTHING


def test_noise_asks_for_replicas():
    tonight = noisy(night(), 0.03, 7)
    found = judge(tonight, before(), MARGIN)
    assert found.verdict == NOISY
    assert any(c.needs for c in found.of(NOISY))
    assert "more replicas would" in "\n".join(summary._judged(found))


def test_nights_that_differ_by_themselves_are_no_yardstick():
    shifts = (0.0, 0.04, -0.03, 0.05, -0.04, 0.02, -0.02)
    restless = [
        Earlier(noisy(night(f"n{k}"), 0, k, by=shift), frozenset())
        for k, shift in enumerate(shifts)
    ]
    found = judge(noisy(night(), 0, 9, by=0.06), restless, MARGIN)
    assert found.verdict == NOISY
    assert all(c.needs is None for c in found.of(NOISY))
    assert judge(noisy(night(), 0, 9, by=0.5), restless, MARGIN).verdict == REGRESSION


def test_what_has_been_reported_is_the_new_baseline():
    worse = shifted(night("worse"), 1, 0.08)
    first = judge(worse, before(), MARGIN)
    after = [Earlier(worse, frozenset(first.moved)), *before(6)]
    again = judge(shifted(night(), 1, 0.08), after, MARGIN)
    assert again.verdict == STEADY
    assert judge(shifted(night(), 1, 0.16), after, MARGIN).verdict == REGRESSION


def test_back_from_one_lucky_night_is_no_regression():
    lucky = shifted(night("lucky"), 1, -0.08)
    moved = frozenset(judge(lucky, before(), MARGIN).moved)
    assert moved
    assert judge(night(), [Earlier(lucky, moved), *before(6)], MARGIN).verdict == STEADY


def test_a_trial_that_diverges_is_a_regression():
    tonight = fake_records.evidence(DROPOUT, lambda p: 0.4, statuses={1: "diverged"})
    found = judge(tonight, before(), MARGIN)
    assert found.verdict == REGRESSION
    assert "diverged" in found.lost[0]


def test_edited_settings_are_a_cause():
    found = judge(shifted(night(training={"epochs": 7}), 1, 0.08), before(), MARGIN)
    assert found.causes == ["study"]
    assert found.verdict == REGRESSION


def after(nights: int, worse: Evidence) -> list[Earlier]:
    """Earlier nights: three alike, then so many like `worse`, each judged as it came."""
    window = before(3)
    for _ in range(nights):
        found = judge(worse, window, MARGIN)
        window = [Earlier(worse, frozenset(found.moved), frozenset(found.suspects)), *window]
    return window


def one_worse(by: float, sd: float, seed: int) -> Evidence:
    """A night with noise on every replica, and one series that rose."""
    worse = noisy(night("worse"), sd, seed)
    record = worse.records[0]
    record["replica_values"]["test_error"] = [
        v + by for v in record["replica_values"]["test_error"]
    ]
    return worse


def test_all_series_together_show_what_none_shows_alone():
    tonight = noisy(night(), 0.03, 1, by=0.02)
    assert judge(tonight, before(), MARGIN).verdict == REGRESSION
    alone = judge(one_worse(0.02, 0.03, 7), before(), MARGIN).verdict
    assert alone == NOISY, "one series by as much is within the noise"


def test_a_suspect_night_makes_no_baseline():
    worse = one_worse(0.05, 0.03, 7)
    window = after(1, worse)
    assert window[0].suspects
    again = judge(worse, window, MARGIN)
    series_of_it = [c for c in again.changes if c.key in window[0].suspects]
    assert all(c.nights == 3 for c in series_of_it), "the three nights before it, not itself"
    assert all(c.kind in (NOISY, REGRESSION) for c in series_of_it), "it is told again"


@pytest.mark.parametrize(("by", "seed"), [(0.05, 7), (0.06, 7), (0.03, 8), (0.02, 9), (0.08, 4)])
def test_a_shift_never_becomes_the_baseline_in_silence(by, seed):
    """Night after night it is told, until it is called; then it is the baseline, out loud."""
    worse, window, verdicts = one_worse(by, 0.03, seed), before(3), []
    for _ in range(9):
        found = judge(worse, window, MARGIN)
        verdicts.append(found.verdict)
        latest = Earlier(worse, frozenset(found.moved), frozenset(found.suspects))
        window = [latest, *window][:6]
    first = verdicts.index(REGRESSION)
    assert set(verdicts[:first]) <= {NOISY}


def test_series_are_told_apart_by_configuration():
    assert series.key_of({"a": 1, "b": 2}) == series.key_of({"b": 2, "a": 1})
